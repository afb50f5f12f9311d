# What GigaGAN is compared with, trained by the same trainer on the same data; a student starts from its teacher's weights.
rule train_rival:
    input:
        PLAN.clips("conditioner"),
        PLAN.rivals.start,
    output:
        weights=f"{RUN}/weights.safetensors",
        about=f"{RUN}/run.json",
    log:
        f"{RUN}/train.log",
    benchmark:
        f"{RUN}/train.benchmark.jsonl"
    wildcard_constraints:
        variant=PLAN.rivals.names,
    threads: PLAN.cpus
    resources:
        gpu=PLAN.gpus,
    params:
        family=PLAN.rivals.family,
        start=PLAN.rivals.start_option,
        recipe=PLAN.recipe,
        identity=PLAN.identity,
        snapshots=PLAN.suite.snapshots,
        rhythm=PLAN.rhythm,
        launch=PLAN.launch,
        device=PLAN.device,
        threads=PLAN.threads,
    message:
        "train {wildcards.variant} ({params.family}), seed {wildcards.seed}"
    shell:
        "OMP_NUM_THREADS={params.threads} {params.launch} evaluation.rivals.train --family {params.family}"
        " --out $(dirname {output.weights}) --replace --seed {wildcards.seed} --device {params.device} {params.start}"
        " --snapshots {params.snapshots} {params.rhythm} {params.recipe:q} &> {log}"


# A pretrained model of the user's: nothing is trained, but it is loaded once, before anything is drawn, and what it is
# stands in its run from then on.
rule bind:
    output:
        config=f"{RUN}/config.json",
        about=f"{RUN}/run.json",
    log:
        f"{RUN}/bind.log",
    wildcard_constraints:
        variant=PLAN.pretrained.names,
    priority: 10  # a folder that holds something else is to be noticed before hours of drawing
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        models=PLAN.pretrained.models,
        recipe=PLAN.pretrained.recipe,
        fingerprint=PLAN.pretrained.fingerprint,
        device=PLAN.device,
        threads=PLAN.threads,
    message:
        "look at {wildcards.variant} in {params.models}"
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.rivals.pretrained.bind --models {params.models:q}"
        " --settings ablations/pretrained.yaml --model {wildcards.variant} --device {params.device}"
        " --threads {params.threads} --out $(dirname {output.about}) &> {log}"
