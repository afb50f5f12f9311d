"""What a suite at the paper's size takes before anybody starts it: GPU-hours, memory and disk, by run and in all.

Operations and memory of a training step are counted at full size (ablations/memory.py), which takes seconds for each
run; what was counted is kept in results/records/steps.json, by everything that it follows from.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from ablations.entries import Suite
from ablations.memory import Step, step
from ablations.plan import ROOT, code
from ablations.recipes import protocols, recipe, suites
from ablations.sizes import sizes
from gigagan.config import Config, parse_overrides, to_dict

KEPT = ROOT / "results" / "records" / "steps.json"
# What a step follows from besides its configuration.
CODE = ("gigagan.networks", "gigagan.training.phases", "gigagan.training.losses", "ablations.memory")
NO_WORK = {"data": None, "sampling": None}  # sections of a configuration that cost a step nothing, but for its size
# The paper's GPU, and the share of its peak that training is taken to reach: an assumption, not a measurement.
GPU, PEAK_TFLOPS, GPU_GB, UTILISATION = "A100 (80 GB), TF32", 156.0, 80.0, 1 / 3
PAPER_DAYS = 4783  # A100 GPU-days of the full system, as the caption of Table 2 prints it (evaluation/published.yaml)
FEATURE_BYTES = 4 * (2048 + 2 * 512)  # of a picture while it is scored: Inception's, and CLIP's of picture and caption


@dataclass(frozen=True)
class Run:
    """One run: what it is asked to do, what a step of it takes, and what is left of it on disk, in GB."""

    name: str
    batch: int
    kimg: float
    at_once: int  # pictures on a GPU
    step: Step
    disk: float

    @property
    def exaflop(self) -> float:
        return self.kimg * 1e3 * self.step.gflop / 1e9

    def hours(self, utilisation: float) -> float:
        """GPU-hours."""
        return self.exaflop * 1e6 / (PEAK_TFLOPS * utilisation) / 3600


def key(config: Config, at_once: int) -> str:
    """What a count of a step is kept under."""
    values = {name: part for name, part in to_dict(config).items() if name not in NO_WORK}
    values["train"] = {"gradient_checkpointing": config.train.gradient_checkpointing}
    values["text"] = {**values["text"], "clip": _model(config.text.clip)}
    values["vision"] = {**values["vision"], "clip": _model(config.vision.clip)}
    values["loss"] = {**values["loss"], "clip_model": _model(config.loss.clip_model), "lpips_backbone": ""}
    text = json.dumps([config.data.resolution, at_once, values, code(*CODE)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _model(clip: str) -> str:
    return clip.partition(":")[0]


def kept() -> dict[str, dict[str, Any]]:
    """The counts that are committed."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


def counted(name: str, config: Config, known: dict[str, dict[str, Any]]) -> Step:
    """A step of a run; counted where it is not known, which takes a while and is said."""
    at_once = config.train.micro_batch or config.train.batch
    found = known.get(key(config, at_once))
    if found is None:
        print(f"counting a step of {name} ...", file=sys.stderr, flush=True)
        return step(config, at_once)
    return Step(found["peak"], found["between"], found["gflop"])


def measured(of: Suite) -> bool:
    """Whether the steps of a suite are counted: of the paper's models, with CLIPs that have a name."""
    return bool(of.model and of.trained) and not any(o.startswith("text.clip=local-dir:") for o in of.overrides)


def runs(of: Suite, known: dict[str, dict[str, Any]]) -> list[Run]:
    """Every run of a suite at one seed, its upsampler last."""
    found = []
    for name in (*of.trained, *filter(None, [of.upsampler])):
        config = parse_overrides(recipe(of, name))
        size = sizes(config)
        g, d = size.generator + size.generator_t, size.discriminator + size.discriminator_t + size.heads
        # Two checkpoints with two moments for G and D each and G's average, snapshots and weights, in fp32.
        disk = 4e-3 * (2 * (4 * g + 3 * d) + (of.snapshots + 2) * g)
        at_once = config.train.micro_batch or config.train.batch
        found.append(Run(name, config.train.batch, config.train.kimg, at_once, counted(name, config, known), disk))
    return found


def samples(of: Suite) -> list[tuple[str, float, float]]:
    """By protocol: GB of samples that one run leaves, and of those that are there while it is scored (enlarged ones and
    features). Pictures are taken as large as their bytes: PNGs of photographs are hardly smaller."""
    side = parse_overrides(recipe(of, of.trained[0])).data.resolution
    large = parse_overrides(recipe(of, of.upsampler)).data.resolution if of.upsampler else side
    found = []
    for name in of.protocols:
        n, wanted = protocols()[name]["images"], protocols()[name]["side"]
        enlarged = 3 * large**2 if wanted > side else 0
        found.append((name, n * 3 * side**2 / 1e9, n * (enlarged + FEATURE_BYTES) / 1e9))
    return found


def table(of: Suite, utilisation: float = UTILISATION) -> str:
    """What it takes, as text."""
    found, seeds = runs(of, kept()), len(of.seeds)
    heads = (
        "run",
        "batch",
        "steps",
        "kimg",
        "GFLOP/image",
        "GPU-hours",
        "at once",
        "GiB between",
        "GiB peak",
        "disk GB",
    )
    rows = [
        (
            run.name,
            f"{run.batch:,}",
            f"{run.kimg * 1000 / run.batch:,.0f}",
            f"{run.kimg:,.0f}",
            f"{run.step.gflop:,.0f}",
            f"{run.hours(utilisation):,.0f}",
            f"{run.at_once}",
            f"{run.step.between:.1f}",
            f"{run.step.peak:.1f}",
            f"{run.disk:.1f}",
        )
        for run in found
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = [f"{of.name}: {of.about}", *([" ".join(of.data.split())] if of.data else []), ""]
    for first, *others in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    once = [run for run in found if run.name == of.upsampler]
    each = [run for run in found if run.name != of.upsampler]
    hours = seeds * sum(r.hours(utilisation) for r in each) + sum(r.hours(utilisation) for r in once)
    disk = seeds * sum(r.disk for r in each) + sum(r.disk for r in once)
    samples_gb = sum(left for _, left, _ in samples(of)) * (seeds * len(each) + 1)
    meanwhile = max(there for _, _, there in samples(of))
    peak = max(found, key=lambda run: run.step.peak)
    also = f" and one {of.upsampler}" if once else ""
    lines += [
        "",
        f"in all, {len(each)} runs x {seeds} seeds{also}: {hours:,.0f} GPU-hours ({hours / 24:,.0f} GPU-days)",
        f"GPU-hours: of one {GPU}, at {utilisation:.0%} of its peak of {PEAK_TFLOPS:g} TFLOP/s. The share is assumed; "
        "operations are counted, of every phase of a step at full size, forward and backward",
        f"memory: of a GPU that holds so many pictures at once (train.micro_batch), fp32, counted; the most is "
        f"{peak.step.peak:.1f} GiB, for {peak.name}, of the {GPU_GB * 1e9 / 2**30:.1f} GiB of a GPU of {GPU_GB:.0f} GB",
        f"disk: {disk:,.0f} GB of weights, checkpoints and snapshots, {samples_gb:,.1f} GB of samples, and up to "
        f"{meanwhile:,.1f} GB more while a run is scored (enlarged samples and features)",
        *_paper(found, utilisation),
    ]
    return "\n".join(lines)


def _paper(found: list[Run], utilisation: float) -> list[str]:
    """The paper's own figure beside ours, for the full system."""
    system = [run for run in found if run.name in ("laion_64", "laion_64_512")]
    if len(system) < 2:
        return []
    days = sum(run.hours(utilisation) for run in system) / 24
    share = sum(run.exaflop for run in system) * 1e6 / (PAPER_DAYS * 86400 * PEAK_TFLOPS)
    return [
        f"the full system ({' and '.join(run.name for run in system)}): {days:,.0f} GPU-days so counted; the paper "
        f"prints {PAPER_DAYS:,} A100 GPU-days, at which the same operations are {share:.0%} of the peak: at that share "
        f"multiply all GPU-hours by {utilisation / share:.1f}"
    ]


def steps_json() -> str:
    """The counts of all suites that have some, to be kept."""
    known = kept()
    found: dict[str, dict[str, Any]] = {}
    for of in suites().values():
        if measured(of):
            for run in runs(of, known):
                config = parse_overrides(recipe(of, run.name))
                found[key(config, run.at_once)] = {"run": f"{of.name}/{run.name}", **asdict(run.step)}
    return json.dumps(dict(sorted(found.items())), indent=1) + "\n"
