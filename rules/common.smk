# What edits are shown of, below runs/ and results/: the suite's own first run, or another one in folders of its own.
OWN = (PLAN.full, PLAN.seeds[0]) == (PLAN.suite.variants[0], PLAN.suite.seeds[0])
EDITED = PLAN.name if OWN else PLAN.first.removeprefix("runs/")


def of_edited(wildcards):
    """Its weights. Raises UserError for upsamplers; called only where edits are asked for."""
    if PLAN.enlarges:
        raise registry.UserError(
            f"suite {PLAN.name}: edits are of generators, and its models are upsamplers: name another suite"
        )
    return f"{PLAN.first}/weights.safetensors"
