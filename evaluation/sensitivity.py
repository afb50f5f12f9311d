"""What each score sees: held-out scenes, disturbed in known ways, are scored like samples.

    python -m evaluation.sensitivity --real real.zip --reference-features reference.safetensors \\
        --judge evaluation/weights/scenes-judge --out results/records/sensitivity_scenes

The inputs are a suite's own (runs/demo/real.zip, runs/demo/reference.safetensors), or come from evaluation.reference
and evaluation.features. Writes a Markdown and a CSV table. Each Fréchet distance stands beside its ratio to the floor,
the distance of the undisturbed images: 1 means that the extractor does not see the disturbance at all.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from evaluation import feature_file, pyramid
from evaluation.extractors import Extractor, Judge, Pyramid, extract
from evaluation.metrics.attributes import attribute_accuracy
from evaluation.metrics.clip_score import clip_score
from evaluation.metrics.frechet import frechet_distance
from evaluation.records import METRICS
from gigagan import provenance
from gigagan.archive import read_about, read_images, read_prompts
from gigagan.clip import Clip
from gigagan.data.scenes import Scene, Scenes, render
from gigagan.errors import UserError, command
from gigagan.files import write_text

EXTRACTORS = ("judge", "pyramid")
LEVELS = 255
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Held:
    """Held-out scenes: their images, uint8 [N, S, S, 3], their captions and what was drawn."""

    images: np.ndarray
    captions: list[str]
    scenes: list[Scene]


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, ``sigma`` in pixels."""
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma))) for image in images])


def noise(images: np.ndarray, sigma: float) -> np.ndarray:
    """White noise, ``sigma`` as a share of the range."""
    return _levels(images + np.random.default_rng(0).normal(0, sigma * LEVELS, images.shape))


def contrast(images: np.ndarray, factor: float) -> np.ndarray:
    """Distances from middle grey times ``factor``."""
    return _levels(LEVELS / 2 + factor * (images.astype(np.float64) - LEVELS / 2))


def one_shape(scene: Scene, resolution: int, shape: str = "circle") -> np.ndarray:
    """The scene drawn again with all its objects of one shape."""
    objects = tuple(dataclasses.replace(thing, shape=shape) for thing in scene.objects)
    return render(dataclasses.replace(scene, objects=objects), resolution)


def _levels(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, LEVELS).astype(np.uint8)


def _on_images(change: Callable[..., np.ndarray], *amount: float) -> Callable[[Held], Held]:
    return lambda held: dataclasses.replace(held, images=change(held.images, *amount))


def _all_circles(held: Held) -> Held:
    side = held.images.shape[1]
    return dataclasses.replace(held, images=np.stack([one_shape(scene, side) for scene in held.scenes]))


def _shuffled(held: Held) -> Held:
    half = len(held.captions) // 2
    return dataclasses.replace(held, captions=held.captions[half:] + held.captions[:half])


DISTURBANCES: dict[str, Callable[[Held], Held]] = {
    "none (the floor)": lambda held: held,
    "blur, 0.5 px": _on_images(blur, 0.5),
    "blur, 1 px": _on_images(blur, 1.0),
    "noise, 2 %": _on_images(noise, 0.02),
    "noise, 5 %": _on_images(noise, 0.05),
    "contrast × 0.9": _on_images(contrast, 0.9),
    "contrast × 0.7": _on_images(contrast, 0.7),
    "one shape for all (circles)": _all_circles,
    "captions shuffled": _shuffled,
}


def measure(held: Held, extractors: list[Extractor], reference: dict[str, np.ndarray], batch: int = 100) -> Figures:
    """The Fréchet distance of each extractor as ``fd_<extractor>``, the CLIP score and the attribute accuracies."""
    starts = range(0, len(held.captions), batch)
    batches = ((held.images[i : i + batch], held.captions[i : i + batch]) for i in starts)
    features = extract(batches, extractors)
    attributes = attribute_accuracy(held.images, held.captions)
    return {
        **{f"fd_{name}": frechet_distance(features[name], reference[name]) for name in EXTRACTORS},
        "clip_score": clip_score(features["judge_image"], features["judge_text"]).value,
        **{metric: score.value for metric, score in attributes.items()},
    }


def with_ratios(rows: dict[str, Figures]) -> dict[str, Figures]:
    """The rows with each distance's ratio to the first row's, as ``ratio_<extractor>``."""
    floor = next(iter(rows.values()))
    return {
        name: row | {f"ratio_{e}": row[f"fd_{e}"] / floor[f"fd_{e}"] for e in EXTRACTORS} for name, row in rows.items()
    }


def to_csv(rows: dict[str, Figures]) -> str:
    out = io.StringIO()
    columns = list(next(iter(rows.values())))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["disturbance", *columns])
    writer.writerows([name, *(f"{row[column]:.6g}" for column in columns)] for name, row in rows.items())
    return out.getvalue()


def to_markdown(rows: dict[str, Figures], source: str) -> str:
    accuracies = [metric for metric in METRICS if metric.endswith("_accuracy") and metric in next(iter(rows.values()))]
    header = ["Disturbance", "FD, judge", "× floor", "FD, pyramid", "× floor", "CLIP score"]
    lines = [header + [METRICS[metric].label for metric in accuracies], ["---", *["---:"] * (5 + len(accuracies))]]
    for name, row in rows.items():
        distances = [
            f"{row[f'{kind}_{e}']:.{digits}f}" for e in EXTRACTORS for kind, digits in (("fd", 3), ("ratio", 1))
        ]
        shares = [f"{100 * row[metric]:.1f}" for metric in accuracies]
        lines.append([name, *distances, f"{row['clip_score']:.3f}", *shares])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"# What each score sees of disturbed scenes\n\n{table}\n\n{source}\n"


def held_out(path: Path) -> Held:
    """The scenes of an image set that evaluation.reference made. Raises UserError for any other set."""
    about = read_about(path)
    if about.get("dataset") != "scenes":
        raise UserError(f"{path} is not of held-out scenes: make it with evaluation.reference data.name=scenes")
    images, captions = read_images(path)
    scenes = Scenes(about["resolution"], tuple(about["objects"]), "test", placed=about["placed"])
    return Held(images, captions, [scenes.scene(prompt["seed"]) for prompt in read_prompts(path)])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.sensitivity", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--real", type=Path, required=True, help="held-out scenes (zip)")
    parser.add_argument("--reference-features", type=Path, required=True)
    parser.add_argument("--judge", required=True, help="CLIP that judges, the one of the reference features")
    parser.add_argument("--out", type=Path, required=True, help="path of the tables without .md and .csv")
    args = parser.parse_args()
    held, judge = held_out(args.real), Clip.load(args.judge)
    reference, about = feature_file.read(args.reference_features)
    if (about["weights"]["judge"], about["weights"]["pyramid"]) != (judge.sha, pyramid.VERSION):
        raise UserError(f"{args.reference_features} is of another judge or pyramid: extract the features again")
    extractors = [Judge(judge), Pyramid()]
    rows = with_ratios({name: measure(disturb(held), extractors, reference) for name, disturb in DISTURBANCES.items()})
    table = to_markdown(rows, _source(held, reference, judge))  # before the tree changes
    write_text(args.out.with_suffix(".csv"), to_csv(rows))
    write_text(args.out.with_suffix(".md"), table)


def _source(held: Held, reference: dict[str, np.ndarray], judge: Clip) -> str:
    here: dict[str, Any] = provenance.collect(threads=torch.get_num_threads())
    state = f"{here['git_sha']}{' with uncommitted changes' if here['git_dirty'] else ''}"
    return (
        f"{len(held.captions):,} held-out scenes of {held.images.shape[1]} px against {len(reference['judge']):,} "
        "others. FD: Fréchet distance, its floor that of the first row; accuracies in per cent. "
        f"Made by `python -m evaluation.sensitivity` at {state}, judge {judge.sha[:12]}, pyramid {pyramid.VERSION}, "
        f"torch {here['torch']}, {here['device']}, {here['threads']} thread(s), {here['started']}."
    )


if __name__ == "__main__":
    command(main)
