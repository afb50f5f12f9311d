# The paper's text-to-image system at its full size, untrained: one picture of the 64 px base, and one of 512 px by base
# and upsampler in turn. It shows that a machine can hold them, and needs no download: its CLIP has random weights, too.
rule full_size_weights:
    output:
        config="runs/full_size/{model}/config.json",
        weights="runs/full_size/{model}/weights.safetensors",
    log:
        "runs/full_size/{model}.log",
    wildcard_constraints:
        model="|".join(registry.models()),
    threads: workflow.cores
    params:
        clip="text.clip=ViT-L-14-quickgelu:random",
        code=registry.code("gigagan.networks", "gigagan.clip"),
    shell:
        "OMP_NUM_THREADS={threads} python -m gigagan.train --untrained --out $(dirname {output.weights})"
        " $(python -m ablations.registry overrides {wildcards.model}) {params.clip} &> {log}"


rule full_size:
    input:
        base="runs/full_size/laion_64/weights.safetensors",
        upsampler="runs/full_size/laion_64_512/weights.safetensors",
    output:
        small="results/full_size/64.png",
        large="results/full_size/512.png",
    log:
        "runs/full_size/pictures.log",
    benchmark:
        "runs/full_size/pictures.benchmark.jsonl"
    threads: workflow.cores
    params:
        caption="a red bicycle",
        code=registry.code("gigagan.sample", "gigagan.sampling", "gigagan.upsample", "gigagan.networks"),
    shell:
        "exec &> {log};"
        " OMP_NUM_THREADS={threads} python -m gigagan.sample --run $(dirname {input.base}) --n 1 --threads {threads}"
        " --caption {params.caption:q} --out {output.small};"
        " OMP_NUM_THREADS={threads} python -m gigagan.sample --run $(dirname {input.base}) --n 1 --threads {threads}"
        " --upsampler $(dirname {input.upsampler}) --caption {params.caption:q} --out {output.large}"
