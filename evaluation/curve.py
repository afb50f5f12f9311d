"""Learning curves: the snapshots of one run, each scored as the finished run is.

    python -m evaluation.curve --run runs/demo/gigagan/seed0 --real runs/demo/real.zip --out progress.jsonl \\
        --reference-features runs/demo/reference.safetensors --judge evaluation/weights/scenes-judge

One line a snapshot: ``{"kimg": 12.0, "fd": 31.4, "clip_score": 0.41}``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from evaluation import feature_file, samplers
from evaluation.extractors import Judge, extract
from evaluation.metrics.clip_score import clip_score
from evaluation.metrics.frechet import frechet_distance
from gigagan.archive import read_prompts
from gigagan.clip import Clip
from gigagan.errors import UserError, command
from gigagan.files import write_jsonl
from gigagan.options import DEVICE_HELP, device, positive
from gigagan.progress import Progress

Draw = Callable[[list[str], list[int]], np.ndarray]  # captions and seeds -> uint8 [B, R, R, 3]


class Scorer:
    """FD and CLIP score of whatever is drawn for the same captions, against one reference.

    Raises UserError where the reference features were made with another judge.
    """

    def __init__(self, captions: list[str], reference: Path, judge: str, device: torch.device, batch: int) -> None:
        features, about = feature_file.read(reference)
        clip = Clip.load(judge).to(device)
        if about["weights"].get("judge") != clip.sha:
            raise UserError(f"{reference} was made with another judge than {judge}: extract it again")
        self.captions, self.batch, self.reference = captions, batch, features["judge"]
        self.extractor = Judge(clip)

    def __call__(self, draw: Draw) -> dict[str, float]:
        """``{"fd": ..., "clip_score": ...}``; every picture's seed is its caption's place."""

        def part(start: int) -> tuple[np.ndarray, list[str]]:
            captions = self.captions[start : start + self.batch]
            return draw(captions, list(range(start, start + len(captions)))), captions

        features = extract((part(i) for i in range(0, len(self.captions), self.batch)), [self.extractor])
        return {
            "fd": float(frechet_distance(features["judge"], self.reference)),
            "clip_score": clip_score(features["judge_image"], features["judge_text"]).value,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.curve", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--real", type=Path, required=True, help="image set whose captions are the prompts")
    parser.add_argument("--small", type=Path, help="of an upsampler: image set of the pictures that it enlarges")
    parser.add_argument("--reference-features", type=Path, required=True)
    parser.add_argument("--judge", required=True, help="CLIP that judges, the one of the reference features")
    parser.add_argument("--batch", type=positive, default=100, help="images at a time")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, help="scores (JSON lines)")
    args = parser.parse_args()

    captions = [prompt["caption"] for prompt in read_prompts(args.real)]
    score = Scorer(captions, args.reference_features, args.judge, args.device, args.batch)
    snapshots = sorted(int(path.stem) for path in (args.run / "snapshots").glob("[0-9]*.safetensors"))
    if not snapshots:
        raise UserError(f"{args.run}: no snapshots there; train the run first")
    progress = Progress(len(snapshots), unit="snapshots")
    lines = []
    for images_seen in snapshots:
        sampler = samplers.load(args.run, args.device, images_seen, args.small)
        lines.append({"kimg": images_seen / 1000, **score(sampler)})
        progress.update(len(lines))
    write_jsonl(args.out, lines)


if __name__ == "__main__":
    command(main)
