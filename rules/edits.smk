# The figures of the paper that show what the latents hold, for the full model or the first of those that were chosen;
# not among what `all` makes.
rule latents:
    input:
        weights=PLAN.edited_weights,
        style_mean=f"{PLAN.first}/style_mean.safetensors",
        prompts=rules.reference.output.real,
    output:
        expand(
            "results/{edited}/edits/{figure}.{suffix}",
            edited=PLAN.edited,
            figure=[
                "truncation",
                "truncation_overall",
                "interpolate",
                "prompts",
                "styles",
                "mix",
                "arithmetic",
            ],
            suffix=["png", "svg"],
        ),
    log:
        f"runs/{PLAN.edited}/latents.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        device=PLAN.device,
        threads=PLAN.threads,
        code=registry.code("gigagan.edit", "gigagan.sheet", "gigagan.sampling", "gigagan.latents"),
    shell:
        "OMP_NUM_THREADS={params.threads} python -m gigagan.edit all --run $(dirname {input.weights})"
        " --prompts {input.prompts} --device {params.device} --out $(dirname {output} | uniq) &> {log}"


rule truncation:
    input:
        weights=PLAN.edited_weights,
        style_mean=f"{PLAN.first}/style_mean.safetensors",
        prompts=rules.reference.output.real,
        reference=f"runs/{PLAN.name}/reference.safetensors",
    output:
        points=f"runs/{PLAN.edited}/truncation.jsonl",
        figure=multiext(f"results/{PLAN.edited}/edits/truncation_curve", ".png", ".svg"),
    log:
        f"runs/{PLAN.edited}/truncation.log",
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpu,
    params:
        judge=PLAN.judge,
        device=PLAN.device,
        threads=PLAN.threads,
        code=registry.code(
            "evaluation.truncation",
            "evaluation.tradeoffs",
            "evaluation.looks",
            "evaluation.curve",
            "evaluation.extractors",
            "evaluation.metrics",
            "gigagan.latents",
        ),
    shell:
        "OMP_NUM_THREADS={params.threads} python -m evaluation.truncation --run $(dirname {input.weights})"
        " --real {input.prompts} --reference-features {input.reference} --judge {params.judge:q} --device {params.device}"
        " --out {output.points} --figure {output.figure[0]} &> {log}"


rule edits:
    input:
        rules.latents.output,
        rules.truncation.output,
