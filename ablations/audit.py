"""The audit of parameters: every model of the paper, built and counted, ours beside the paper's."""

from __future__ import annotations

from ablations.memory import step
from ablations.recipes import ancestry, model, models, variants, varied
from ablations.sizes import Sizes, sizes
from gigagan.config import Config, parse_overrides
from gigagan.errors import UserError

NOT_CONFIRMED = "not confirmed"
# What the paper prints of two models together.
SYSTEMS = (
    ("ImageNet 256, class to image (Table A1)", ("imagenet_64", "imagenet_64_256"), 569.0),
    ('text to 512 px image (Table 2, "1.0B")', ("laion_64", "laion_64_512"), 1011.6),
)
# A rung of the ladder is itself the ablation of the next one: variants are listed of Table A2's and Table 4's models.
VARIED = (
    "laion_64",
    "imagenet_64",
    "imagenet_64_256",
    "imagenet_64_256_unconditional",
    "laion_64_512",
    "photos_128_1024",
)

HEAD = """# Parameters of the paper's models, in millions

Made by `python -m ablations.registry params`: every configuration of `ablations/models.yaml`, built and counted. As in
the paper, whose counts close only so, the learned text layers T are not part of G and D; ours stand in their own
column (G's + D's), and so do the heads of the vision-aided discriminator, which the paper does not size.
"{not_confirmed}": the paper's value could not be read from the paper itself.
"""


def table() -> str:
    """Markdown: the models beside the paper's counts, then each model's variants, as they are and matched in size."""
    return "\n".join([models_table(), *_variants()]) + "\n"


def _count(name: str) -> Sizes:
    return sizes(parse_overrides(model(name)))


def models_table() -> str:
    """The first part of ``table``."""
    counted = {name: _count(name) for name in models()}
    lines = [
        HEAD.format(not_confirmed=NOT_CONFIRMED),
        "| model | where | G | paper | difference | D | paper | difference | T | heads | what is open |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | :-- |",
    ]
    for name, entry in models().items():
        size = counted[name]
        lines.append(
            _row(
                f"{entry.label} (`{name}`)",
                entry.source,
                *_beside(size.generator, entry.generator_m),
                *_beside(size.discriminator, entry.discriminator_m),
                f"{size.generator_t + size.discriminator_t:.1f}",
                f"{size.heads:.1f}",
                entry.note,
            )
        )
    for label, names, paper in SYSTEMS:
        total = sum(counted[name].generator for name in names)
        lines.append(_row(label, " + ".join(f"`{name}`" for name in names), *_beside(total, paper), *[""] * 6))
    return "\n".join(lines) + "\n"


def _variants() -> list[str]:
    lines = [
        "## Variants, as they are and matched in size",
        "",
        "A variant without a part has fewer parameters; its `_matched` twin has them given back as width. In brackets,",
        "the difference to the model itself; D with the heads of the vision-aided discriminator. What a model has not",
        "got cannot be taken out of it.",
        "",
        "| model | variant | G | D | widths |",
        "| :-- | :-- | --: | --: | :-- |",
    ]
    for name in VARIED:
        base, full = model(name), _count(name)
        for variant in variants():
            config = _varied(base, variant)
            if config is None or (size := sizes(config)) == full:
                continue
            judges, all_judges = size.discriminator + size.heads, full.discriminator + full.heads
            lines.append(
                _row(
                    f"`{name}`",
                    f"`{variant}`",
                    f"{size.generator:.1f} ({size.generator / full.generator - 1:+.1%})",
                    f"{judges:.1f} ({judges / all_judges - 1:+.1%})",
                    _widths(config),
                )
            )
    return lines


def _varied(base: list[str], variant: str) -> Config | None:
    """None where the model has not got the part that the variant takes out."""
    matched = variants()[variant].match
    try:
        parse_overrides(varied(base, ancestry(variant)[-2].name if matched else variant))
    except UserError:
        return None
    return parse_overrides(varied(base, variant))


def _widths(config: Config) -> str:
    g, d = config.generator, config.discriminator
    return f"G {g.channel_base}/{g.channel_max}, D {d.channel_base}/{d.channel_max}"


def _beside(ours: float, paper: float | None) -> tuple[str, str, str]:
    if paper is None:
        return f"{ours:.1f}", NOT_CONFIRMED, ""
    return f"{ours:.1f}", f"{paper:.1f}", f"{ours / paper - 1:+.2%}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


MEMORY_HEAD = """# Memory of a training step, in GiB

Made by `python -m ablations.registry memory`: counted, not measured, by running every phase of a step (R1's second
derivative included) with all its losses on tensors that have shapes and lifetimes but no data. Between steps a GPU
holds weights (the frozen CLIPs' and LPIPS's among them), Adam's moments and G's average; at the peak also gradients and
activations. Not counted: the allocator's fragments and what CUDA keeps for itself. fp32; a GPU has 80 GB, which are
{gpu:.1f} GiB.

| model | images a GPU | between steps | peak | peak with gradient checkpointing |
| :-- | --: | --: | --: | --: |
"""
GPU_GIB = 80e9 / 2**30


def memory_table() -> str:
    """Markdown: what a step of every model with a ``per_gpu`` takes."""
    rows = []
    for name, entry in models().items():
        if not entry.per_gpu:
            continue
        peaks = []
        for again in ("false", "true"):
            strings = [*model(name), f"train.gradient_checkpointing={again}"]
            counted = step(parse_overrides(strings), entry.per_gpu)
            peaks.append(f"{counted.peak:.1f}")
        rows.append(_row(f"{entry.label} (`{name}`)", str(entry.per_gpu), f"{counted.between:.1f}", *peaks))
    return MEMORY_HEAD.format(gpu=GPU_GIB) + "\n".join(rows) + "\n"
