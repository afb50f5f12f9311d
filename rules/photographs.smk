# Suites that are scored on folders of photographs, under the papers' protocols. Each protocol has its own prompts and its
# own reference, which all runs share; where its pictures are larger than those that the runs draw, one upsampler enlarges
# everybody's. What is large and soon made again is deleted once it is scored.
PHOTOS = PLAN.photos
SHARED = f"runs/{PLAN.name}/photographs/{{protocol}}"
WHO = f"runs/{PLAN.name}/{{who}}/{{protocol}}"


rule prompts:
    input:
        PLAN.annotations,
    output:
        f"{SHARED}/prompts.jsonl",
    log:
        f"{SHARED}/prompts.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
    priority: 10  # wrong photographs or annotations are to be noticed before anything is trained
    params:
        n=PHOTOS.n_prompts,
        code=registry.code("evaluation.prompts"),
    message:
        "{params.n} captions for {wildcards.protocol}, of as many photographs"
    shell:
        "python -m evaluation.prompts draw --annotations {input:q} --n {params.n} --seed 0 --out {output} &> {log}"


rule photographs:
    input:
        prompts=rules.prompts.output,
        annotations=PLAN.annotations,
    output:
        real=f"{SHARED}/real.zip",
        reference=temp(f"{SHARED}/reference.zip"),
    log:
        f"{SHARED}/photographs.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
    priority: 10  # wrong photographs or annotations are to be noticed before anything is trained
    params:
        images=PLAN.images,
        n=PHOTOS.n_reference,
        code=registry.code("evaluation.prompts"),
    message:
        "photographs for {wildcards.protocol}: those of the prompts, and {params.n} others as the reference"
    shell:
        "python -m evaluation.prompts photos --prompts {input.prompts} --annotations {input.annotations:q}"
        " --images {params.images:q} --n-reference {params.n} --real {output.real} --reference {output.reference}"
        " &> {log}"


# What a protocol compares with, in numbers: once for all rows.
rule statistics:
    input:
        PHOTOS.collected,
        weights=PLAN.scoring_weights,
    output:
        f"{SHARED}/reference.npz",
    log:
        f"{SHARED}/reference.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
    priority: 10  # wrong photographs or annotations are to be noticed before anything is trained
    threads: PLAN.readers
    resources:
        gpu=PLAN.gpu,
    params:
        reference=PHOTOS.reference,
        options=PHOTOS.options,
        device=PLAN.device,
        threads=PLAN.threads,
        definitions=PLAN.protocols,
    message:
        "statistics of the reference of {wildcards.protocol}"
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.score --reference {params.reference:q}"
        " --protocol {wildcards.protocol} {params.options:q} --device {params.device} --threads {threads}"
        " --save-reference {output} &> {log}"


rule draw:
    input:
        weights=PHOTOS.drawn_by,
        prompts=rules.prompts.output,
    output:
        f"{WHO}.zip",
    log:
        f"{WHO}.sample.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
        who=r"untrained|[^/]+/seed\d+",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        drawer=PHOTOS.drawer,
        snapshot=PHOTOS.snapshot,
        device=PLAN.device,
        threads=PLAN.threads,
        code=PLAN.drawing,
    message:
        "{wildcards.who}: samples for {wildcards.protocol}"
    shell:
        "OMP_NUM_THREADS={params.threads} python -m {params.drawer} --run $(dirname {input.weights}) {params.snapshot}"
        " --prompts {input.prompts} --device {params.device} --threads {params.threads} --out {output} &> {log}"


rule enlarge:
    input:
        weights=PLAN.upsampler_weights,
        small=rules.draw.output,
    output:
        temp(f"{WHO}.enlarged.zip"),
    log:
        f"{WHO}.enlarged.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
        who=r"untrained|[^/]+/seed\d+",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        run=PLAN.upsampler,
        device=PLAN.device,
        threads=PLAN.threads,
        code=registry.code("gigagan.upsample", "gigagan.tiles", "gigagan.latents"),
    message:
        "{wildcards.who}: samples for {wildcards.protocol}, enlarged by {params.run}"
    shell:
        "OMP_NUM_THREADS={params.threads} python -m gigagan.upsample {input.small} --run {params.run}"
        " --device {params.device} --threads {params.threads} --out {output} &> {log}"


rule score_photographs:
    input:
        images=PHOTOS.shown,
        reference=rules.statistics.output,
        weights=PLAN.scoring_weights,
    output:
        f"{WHO}.jsonl",
    log:
        f"{WHO}.log",
    wildcard_constraints:
        protocol=PHOTOS.names,
        who=r"real|untrained|[^/]+/seed\d+",
    threads: PLAN.readers
    resources:
        gpu=PLAN.gpu,
    params:
        what=PHOTOS.scored_as,
        who=PHOTOS.whose,
        suite=PLAN.name,
        options=PHOTOS.options,
        device=PLAN.device,
        threads=PLAN.threads,
        definitions=PLAN.protocols,
    message:
        "{params.what}"
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.score --images {input.images} --reference {input.reference}"
        " --protocol {wildcards.protocol} {params.options:q} --device {params.device} --threads {threads}"
        " --record {output} --suite {params.suite} {params.who} &> {log}"
