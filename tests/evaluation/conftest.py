"""Made-up rows, images and progress for the tests of what happens after scoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.records import METRICS, Row
from gigagan.archive import write_images
from tests.evaluation.scoring import command, inception, sets  # noqa: F401 (fixtures)

VARIANTS = ("gigagan", "no_adaptive_kernels", "no_attention", "no_ms_io", "no_matching_loss")


@pytest.fixture
def make_row() -> Callable[..., Row]:
    def make(**fields: Any) -> Row:
        metric = fields.get("metric", "fd")
        return {
            "schema": 1,
            "suite": "demo",
            "variant": "gigagan",
            "family": "gigagan",
            "seed": 0,
            "dataset": "scenes",
            "metric": metric,
            "value": 40.0,
            "low": None,
            "high": None,
            "higher_is_better": METRICS[metric].higher_is_better if metric in METRICS else True,
            "n_images": 1000,
            "protocol": "scenes@2",
            "protocol_sha": "aaaaaaaaaaaa",
            "recipe_sha": "cccccccccccc",
            "kimg": 250.0,
            "params_m": 0.5213,
            "seconds": 300.0,
            "device": "Some CPU",
            "dtype": "fp32",
            "threads": 1,
            "git_sha": "0123456789abcdef",
            "git_dirty": False,
            "torch": "2.11.0",
            "started": "2026-01-02T03:04:05+00:00",
            **fields,
        }

    return make


@pytest.fixture
def make_suite(make_row: Callable[..., Row]) -> Callable[..., list[Row]]:
    """Rows of a whole suite: five variants and the references; ``no_attention`` is clearly worse."""

    def make(seeds: int = 1, suite: str = "demo", variants: tuple[str, ...] = VARIANTS) -> list[Row]:
        rng = np.random.default_rng(0)
        rows = []

        def add(variant: str, seed: int | None, quality: float, **more: Any) -> None:
            common = {"suite": suite, "variant": variant, "seed": seed, **more}
            noise = rng.normal(size=9) if seed is not None else np.zeros(9)
            fd = 40 / quality * np.exp(0.05 * noise[0])
            rows.append(make_row(metric="fd", value=fd, **common))
            blind = {"protocol": "scenes-blind@1", "protocol_sha": "bbbbbbbbbbbb"}
            rows.append(make_row(metric="fd", value=3.2 / quality * np.exp(0.05 * noise[1]), **common | blind))
            rows.append(make_row(metric="clip_score", value=0.6 * quality + 0.01 * noise[2], **common))
            rows.append(make_row(metric="clip_score_shuffled", value=0.1 + 0.01 * noise[3], **common))
            for i, name in enumerate(("background_color", "object_color", "shape", "size", "position")):
                value = float(np.clip((0.95 - 0.1 * i) * quality + 0.02 * noise[4 + i], 0, 1))
                limits = {"low": max(value - 0.03, 0), "high": min(value + 0.03, 1)}
                rows.append(make_row(metric=f"{name}_accuracy", value=value, **limits, **common))

        add("real", None, 1.05, params_m=None, kimg=None, recipe_sha=None, seconds=None)
        for seed in range(seeds):
            for variant in variants:
                add(variant, seed, 0.7 if variant == "no_attention" else 1.0)
                speed = {"suite": suite, "variant": variant, "seed": seed, "protocol": "speed@1", "n_images": None}
                rows.append(make_row(metric="latency_ms", value=8.0 + seed / 10, batch=1, **speed))
                rows.append(make_row(metric="throughput_images_per_s", value=300.0 + seed, batch=64, **speed))
        add("untrained", 0, 0.05, kimg=0.0, seconds=None)
        return rows

    return make


STEPS = (16, 8, 4, 2, 1)
KINDS = ("teacher", "distilled", "consistency")


def diffusion(kind: str, steps: int) -> str:
    """The run of a kind that draws with so many steps."""
    return f"diffusion_{kind}" + ("" if (kind, steps) == ("teacher", max(STEPS)) else f"_{steps}")


RIVALS = {"gigagan": 1, "stylegan2": 1, "stylegan_t": 1} | {diffusion(kind, k): k for kind in KINDS for k in STEPS}
"""The suite ``rivals``, with the steps of each."""


@pytest.fixture
def make_rivals(make_suite: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
    """Rows of the suite ``rivals``: a teacher that needs its steps, students of which those of 4 are the best."""

    def make(seeds: int = 1) -> list[Row]:
        rows = make_suite(seeds, "rivals", tuple(RIVALS))
        at = list(RIVALS)
        for row in rows:
            if row["variant"] not in RIVALS:
                continue
            name, steps = row["variant"], RIVALS[row["variant"]]
            kind = name.split("_")[1] if name.startswith("diffusion") else ""
            nfe = steps * (2 if kind == "teacher" else 1)  # a guided step asks the network twice
            row |= {"family": "diffusion" if kind else name, "steps": steps, "nfe": nfe}
            row |= {"train_tflop": 100.0 + at.index(name), "resolution": 16}
            worse = {"teacher": 16 / steps, "distilled": 1.2 + abs(steps - 4) / 8, "consistency": 1.6 + 1 / steps}
            if row["metric"] == "fd":
                row["value"] *= worse.get(kind, 1 + at.index(name) / 10)
            elif row["metric"] == "clip_score":
                row["value"] -= 0.04 * worse.get(kind, 1) ** 0.5
            elif row["metric"] == "latency_ms":
                row["value"] *= 0.7 + 0.9 * row["nfe"] if kind else 1 + at.index(name) / 8
        timed = [row | {"metric": "latency_end_to_end_ms"} for row in rows if row["metric"] == "latency_ms"]
        return rows + timed

    return make


@pytest.fixture
def variants_file(tmp_path: Path) -> str:
    path = tmp_path / "variants.yaml"
    path.write_text(
        "gigagan: {parent: null, overrides: [], label: GigaGAN}\n"
        "no_adaptive_kernels: {parent: gigagan, label: no adaptive kernels, expect: 'FD up by 8 %, CLIP score down'}\n"
        "no_attention: {parent: gigagan, label: no attention, expect: the largest loss of all}\n"
        "no_ms_io: {parent: gigagan, label: no MS-I/O, expect: 'FD alike, CLIP score down'}\n"
        "no_matching_loss:\n  parent: gigagan\n  overrides: [loss.matching=none]\n"
    )
    return str(path)


@pytest.fixture
def made_up_runs(tmp_path: Path) -> Callable[..., Path]:
    """``runs/demo`` with samples, real images and progress for the five variants."""

    def make(seeds: int = 1, captions: list[str] | None = None) -> Path:
        runs = tmp_path / "runs" / "demo"
        words = captions or [f"a {color} circle on a dark ground" for color in ("red", "blue", "green")]
        rng = np.random.default_rng(0)
        draw = lambda: rng.integers(0, 256, (len(words), 16, 16, 3), dtype=np.uint8)  # noqa: E731
        write_images(runs / "real.zip", draw(), words, range(len(words)))
        for variant in VARIANTS:
            for seed in range(seeds):
                folder = runs / variant / f"seed{seed}"
                write_images(folder / "samples.zip", draw(), words, range(len(words)))
                lines = [{"kimg": k, "fd": 600 / k + seed, "clip_score": 0.6 - 1 / k} for k in (10, 50, 100, 250)]
                (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return runs

    return make
