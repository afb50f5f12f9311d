"""Train the variants of a suite, score them, and make their tables, figures and report.

data set -> train -> sample -> features -> metrics -> tables, figures, report, gate

Every rule is a command that runs without Snakemake, too.
"""

import shlex
import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from ablations import registry

min_version("9.19")

# The commands run in Snakemake's own environment, activated or not.
PATH = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"


configfile: "config/config.yaml"


registry.check(config)
validate(config, "config/config.schema.yaml")

PLAN = registry.Plan(config, registry.dry_run(sys.argv))
shell.prefix(f"set -euo pipefail; export {PATH} {PLAN.environment}; ")
RUN = f"runs/{PLAN.name}/{{variant}}/seed{{seed}}"
RESULTS = f"results/{PLAN.name}"
VARIANTS = "ablations/variants.yaml"
BESIDE = [
    f"ablations/{name}.yaml" for name in ("models", "rivals", "pretrained", "suites")
]  # labels, and what is said of suites' data


# What each scoring rule is told, and reruns for.
SCORING = {
    "suite": PLAN.name,
    "protocols": ",".join(PLAN.suite.protocols),
    "definitions": PLAN.protocols,
    "code": PLAN.scoring,
}


container: "gigagan-bench.sif"


wildcard_constraints:
    variant=PLAN.named,
    seed=r"\d+",
    arch="conditioner|judge",
    filter="|".join(registry.FILTERS),


rule all:
    input:
        f"{RESULTS}/tables/ablation.md",
        f"{RESULTS}/figures/{PLAN.figures[0]}.png",
        f"{RESULTS}/report.html",
        PLAN.verdict,


# A CLIP of the suite's own, for data that no shipped one knows.
rule clip:
    output:
        f"runs/{PLAN.name}/clip/{{arch}}/open_clip_model.safetensors",
    log:
        f"runs/{PLAN.name}/clip/{{arch}}.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        data=PLAN.pretrain_data,
        fingerprint=PLAN.fingerprint,
        images=PLAN.pretrain_images,
        seed=PLAN.pretrain_seed,
        device=PLAN.device,
        threads=PLAN.threads,
    shell:
        "OMP_NUM_THREADS={params.threads} python -m gigagan.pretrain_clip {params.data:q} --arch {wildcards.arch}"
        " --images {params.images} --seed {params.seed} --device {params.device}"
        " --out $(dirname {output}) &> {log}"


# Held-out pictures: the reference of the Frechet distance, and others whose captions are everybody's prompts.
rule reference:
    output:
        reference=f"runs/{PLAN.name}/reference.zip",
        real=f"runs/{PLAN.name}/real.zip",
    log:
        f"runs/{PLAN.name}/reference.log",
    params:
        data=PLAN.data,
        fingerprint=PLAN.fingerprint,
        n_reference=PLAN.suite.reference,
        n_real=PLAN.suite.samples,
        code=registry.code("evaluation.reference", "gigagan.data"),
    shell:
        "python -m evaluation.reference {params.data:q} --n-reference {params.n_reference} --n-real {params.n_real}"
        " --reference {output.reference} --real {output.real} &> {log}"


# An upsampler's input, and what plain filters make of it: rows of every table of upsamplers.
rule small:
    input:
        rules.reference.output.real,
    output:
        f"runs/{PLAN.name}/small.zip",
    log:
        f"runs/{PLAN.name}/small.log",
    params:
        side=PLAN.base.upsampler.input,
        code=registry.code("evaluation.upsampling", "gigagan.pixels"),
    shell:
        "python -m evaluation.upsampling shrink --real {input} --side {params.side} --out {output} &> {log}"


rule filtered:
    input:
        rules.small.output,
    output:
        f"runs/{PLAN.name}/{{filter}}/samples.zip",
    log:
        f"runs/{PLAN.name}/{{filter}}/filter.log",
    params:
        side=PLAN.base.data.resolution,
        code=registry.code("evaluation.upsampling", "gigagan.pixels"),
    shell:
        "python -m evaluation.upsampling enlarge --small {input} --side {params.side} --filter {wildcards.filter}"
        " --out {output} &> {log}"


# Checkpoints lie beside the outputs, undeclared on purpose: Snakemake deletes what a failed job declares.
rule train:
    input:
        PLAN.clips("conditioner"),
    output:
        weights=f"{RUN}/weights.safetensors",
        style_mean=f"{RUN}/style_mean.safetensors",
        about=f"{RUN}/run.json",
    log:
        f"{RUN}/train.log",
    benchmark:
        f"{RUN}/train.benchmark.jsonl"
    wildcard_constraints:
        variant=PLAN.own,
    threads: PLAN.cpus
    resources:
        gpu=PLAN.gpus,
    params:
        recipe=PLAN.recipe,
        identity=PLAN.identity,
        snapshots=PLAN.suite.snapshots,
        rhythm=PLAN.rhythm,
        launch=PLAN.launch,
        device=PLAN.device,
        threads=PLAN.threads,
    shell:
        "OMP_NUM_THREADS={params.threads} {params.launch} gigagan.train --out $(dirname {output.weights}) --replace"
        " --seed {wildcards.seed} --device {params.device} --snapshots {params.snapshots} {params.rhythm}"
        " {params.recipe:q} &> {log}"


rule sample:
    input:
        weights=PLAN.drawn_by,
        prompts=PLAN.prompts,
    output:
        f"{RUN}/samples.zip",
    log:
        f"{RUN}/sample.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        device=PLAN.device,
        threads=PLAN.threads,
        draw=PLAN.draw,
        code=PLAN.drawing,
    shell:
        "OMP_NUM_THREADS={params.threads} python -m {params.draw} {input.prompts} --run $(dirname {input.weights})"
        " --device {params.device} --out {output} &> {log}"


# The ceiling of every table: what the full model draws before it has learned anything.
rule untrained:
    input:
        weights=f"{PLAN.first}/weights.safetensors",
        prompts=PLAN.prompts,
    output:
        f"runs/{PLAN.name}/untrained/samples.zip",
    log:
        f"runs/{PLAN.name}/untrained/sample.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        device=PLAN.device,
        threads=PLAN.threads,
        draw=PLAN.draw,
        code=PLAN.drawing,
    shell:
        "OMP_NUM_THREADS={params.threads} python -m {params.draw} {input.prompts} --run $(dirname {input.weights})"
        " --snapshot 0 --device {params.device} --out {output} &> {log}"


# Features are kept, so that a new metric needs neither training nor sampling.
rule features:
    input:
        PLAN.clips("judge"),
        inception=PLAN.inception,
        real=rules.reference.output.real,
        images=f"runs/{PLAN.name}/{{images}}.zip",
    output:
        f"runs/{PLAN.name}/{{images}}.safetensors",
    log:
        f"runs/{PLAN.name}/{{images}}.features.log",
    wildcard_constraints:
        images="real|reference|.*/samples",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        inception=PLAN.inception_option,
        truth=PLAN.truth,
        judge=PLAN.judge,
        device=PLAN.device,
        threads=PLAN.threads,
        code=registry.code(
            "evaluation.features",
            "evaluation.extractors",
            "evaluation.crops",
            "evaluation.preprocess",
            "evaluation.pyramid",
            "evaluation.siblings",
            "gigagan.clip",
            "gigagan.perceptual",
        ),
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.features --images {input.images}"
        " --judge {params.judge:q} {params.inception:q} {params.truth:q} --device {params.device} --out {output} &> {log}"


rule score:
    input:
        about=rules.train.output.about,
        images=rules.sample.output,
        features=f"{RUN}/samples.safetensors",
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        f"{RUN}/metrics.jsonl",
    log:
        f"{RUN}/metrics.log",
    params:
        **SCORING,
        who=f"--variant {{variant}} --seed {{seed}} --run {RUN}",
    shell:
        "OMP_NUM_THREADS=1 python -m evaluation.rows --features {input.features} --images {input.images}"
        " --reference-features {input.reference} --protocols {params.protocols} --suite {params.suite}"
        " {params.who} --out {output} &> {log}"


use rule score as score_untrained with:
    input:
        about=f"{PLAN.first}/run.json",
        images=rules.untrained.output,
        features=f"runs/{PLAN.name}/untrained/samples.safetensors",
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        f"runs/{PLAN.name}/untrained/metrics.jsonl",
    log:
        f"runs/{PLAN.name}/untrained/metrics.log",
    params:
        **SCORING,
        who=f"--variant untrained --seed {PLAN.seeds[0]} --run {PLAN.first} --kimg 0",


use rule score as score_real with:
    input:
        images=rules.reference.output.real,
        features=f"runs/{PLAN.name}/real.safetensors",
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        f"runs/{PLAN.name}/real.jsonl",
    log:
        f"runs/{PLAN.name}/real.metrics.log",
    params:
        **SCORING,
        who="--variant real",


use rule score as score_filtered with:
    input:
        images=rules.filtered.output,
        features=f"runs/{PLAN.name}/{{filter}}/samples.safetensors",
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        f"runs/{PLAN.name}/{{filter}}/metrics.jsonl",
    log:
        f"runs/{PLAN.name}/{{filter}}/metrics.log",
    params:
        **SCORING,
        who="--variant {filter}",


rule curve:
    input:
        PLAN.small[1:],
        weights=rules.train.output.weights,
        prompts=rules.reference.output.real,
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        f"{RUN}/progress.jsonl",
    log:
        f"{RUN}/curve.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        small=PLAN.small,
        judge=PLAN.judge,
        device=PLAN.device,
        threads=PLAN.threads,
        code=registry.code(
            "evaluation.curve",
            "evaluation.samplers",
            "evaluation.extractors",
            "evaluation.metrics",
            "gigagan.sampling",
        ),
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.curve --run $(dirname {input.weights})"
        " --real {input.prompts} --reference-features {input.reference} --judge {params.judge:q} --device {params.device}"
        " {params.small} --out {output} &> {log}"


# Takes all cores so that nothing else runs meanwhile, and uses as many as the suite's recipe says.
rule speed:
    input:
        PLAN.small[1:],
        PLAN.upsampler_weights,
        PLAN.all_drawn_by,
    output:
        f"runs/{PLAN.name}/speed.jsonl",
    log:
        f"runs/{PLAN.name}/speed.log",
    threads: workflow.cores
    resources:
        gpu=PLAN.gpu,
    params:
        small=PLAN.small,
        upsampler=PLAN.chained,
        timed=PLAN.timed,
        runs=PLAN.of_runs("", seeds=PLAN.seeds[:1]),
        suite=PLAN.name,
        device=PLAN.device,
        threads=PLAN.threads,
        code=PLAN.timing,
    message:
        "{params.timed}"
    shell:
        "python -m evaluation.speed --suite {params.suite} --device {params.device} --threads {params.threads}"
        " --runs {params.runs} {params.small} {params.upsampler} --out {output} &> {log}"


rule collect:
    input:
        PLAN.rows,
        rules.speed.output,
    output:
        f"{RESULTS}/metrics.jsonl",
    log:
        f"runs/{PLAN.name}/collect.log",
    params:
        suite=PLAN.name,
        code=registry.code("evaluation.records"),
    shell:
        "python -m evaluation.records collect --suite {params.suite} --out {output} {input} &> {log}"


rule tables:
    input:
        BESIDE,
        rows=rules.collect.output,
        variants=VARIANTS,
    output:
        report(
            multiext(f"{RESULTS}/tables/ablation", ".md", ".csv", ".tex"),
            category="Ablations",
        ),
    log:
        f"runs/{PLAN.name}/tables.log",
    params:
        suite=PLAN.name,
        code=registry.code(
            "evaluation.tables", "evaluation.markup", "evaluation.summary", "evaluation.stats", "evaluation.records"
        ),
    shell:
        "python -m evaluation.tables --suite {params.suite} --records {input.rows} --variants {input.variants}"
        " --out $(dirname {output} | uniq) &> {log}"


rule figures:
    input:
        PLAN.pictured,
        BESIDE,
        rows=rules.collect.output,
        variants=VARIANTS,
    output:
        report(
            expand(
                "{results}/figures/{figure}.{suffix}",
                results=RESULTS,
                figure=PLAN.figures,
                suffix=["png", "svg"],
            ),
            category="Ablations",
        ),
    log:
        f"runs/{PLAN.name}/figures.log",
    params:
        suite=PLAN.name,
        figures=PLAN.figures,
        code=registry.code(
            "evaluation.plots",
            "evaluation.looks",
            "evaluation.plotted",
            "evaluation.tradeoffs",
            "evaluation.steps",
            "evaluation.series",
            "evaluation.tables",
            "evaluation.summary",
            "evaluation.stats",
        ),
    shell:
        "python -m evaluation.plots --suite {params.suite} --records {input.rows}"
        " --runs runs/{params.suite} --variants {input.variants} --figures {params.figures} --out $(dirname {output} | uniq)"
        " &> {log}"


rule report:
    input:
        PLAN.gate,
        BESIDE,
        figures=rules.figures.output,
        rows=rules.collect.output,
        variants=VARIANTS,
    output:
        f"{RESULTS}/report.html",
    log:
        f"runs/{PLAN.name}/report.log",
    params:
        gate=f"--gate {RESULTS}/gate.json" if PLAN.gate else "",
        suite=PLAN.name,
        code=registry.code("evaluation.report", "evaluation.tables", "evaluation.summary", "evaluation.stats"),
    shell:
        "python -m evaluation.report --suite {params.suite} --records {input.rows}"
        " --figures $(dirname {input.figures} | uniq) --variants {input.variants} {params.gate} --out {output} &> {log}"


include: "rules/rivals.smk"
include: "rules/photographs.smk"
include: "rules/edits.smk"
include: "rules/full_size.smk"
include: "rules/page.smk"
include: "rules/paper.smk"


# The gate only writes down what it finds, so that the report can show it; the verdict fails.
rule gate:
    input:
        rows=rules.collect.output,
        expected=f"evaluation/expected/{PLAN.name}.json",
    output:
        f"{RESULTS}/gate.json",
    log:
        f"runs/{PLAN.name}/gate.log",
    params:
        suite=PLAN.name,
        code=registry.code("evaluation.regression", "evaluation.records"),
    shell:
        "python -m evaluation.regression --suite {params.suite} --records {input.rows} --expected {input.expected}"
        " --out {output} &> {log} || test -s {output}"


rule verdict:
    input:
        rules.gate.output,
    output:
        f"{RESULTS}/verdict.txt",
    log:
        f"runs/{PLAN.name}/verdict.log",
    shell:
        "python -m evaluation.regression --verdict {input} 2> {log} | tee {output}"
