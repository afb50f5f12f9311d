"""What upsamplers are scored on: small pictures made of the ground truth, and what plain filters make of them.

    python -m evaluation.upsampling shrink --real real.zip --side 16 --out small.zip
    python -m evaluation.upsampling enlarge --small small.zip --side 64 --filter bicubic --out bicubic.zip

``gigagan.upsample --run RUN small.zip --out samples.zip`` is the run's answer to the first; evaluation.features, with
--truth real.zip, and evaluation.rows then score all three alike. The small pictures are made as in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gigagan.archive import read_batches, read_prompts, write_images
from gigagan.errors import UserError, command
from gigagan.options import positive
from gigagan.pixels import shrink, to_tensor, to_uint8
from gigagan.progress import Progress

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
"""The reference rows of every table of upsamplers, and what enlarges them."""


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [B, R, R, 3] -> [B, side, side, 3], as in training. Raises UserError where R is not ``side`` times a power
    of two."""
    height, width = images.shape[1:3]
    try:
        if height != width:
            raise ValueError
        return to_uint8(shrink(to_tensor(images), side))
    except ValueError:
        raise UserError(
            f"--side {side}: pictures of {width}x{height} px can only be halved, as squares, some times over"
        ) from None


def filtered(images: np.ndarray, side: int, name: str) -> np.ndarray:
    """uint8 [B, h, w, 3] -> [B, side, side, 3] by one of FILTERS, as Pillow has it."""
    return np.stack([np.asarray(Image.fromarray(image).resize((side, side), FILTERS[name])) for image in images])


def _each(path: Path, change: str, side: int) -> Iterator[np.ndarray]:
    progress, done = Progress(len(read_prompts(path))), 0
    for images, _ in read_batches(path, 64):
        if change in FILTERS and images.shape[1] >= side:
            raise UserError(f"--side {side}: the pictures of {path} are {images.shape[1]} px already")
        yield from shrunk(images, side) if change == "shrink" else filtered(images, side, change)
        done += len(images)
        progress.update(done)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.upsampling", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shrinking = commands.add_parser("shrink", help="small pictures from the ground truth")
    shrinking.add_argument("--real", type=Path, required=True, help="image set of the ground truth")
    enlarging = commands.add_parser("enlarge", help="a reference row: the small pictures enlarged by a filter")
    enlarging.add_argument("--small", type=Path, required=True, help="image set of small pictures")
    enlarging.add_argument("--filter", choices=sorted(FILTERS), required=True)
    for sub in (shrinking, enlarging):
        sub.add_argument("--side", type=positive, required=True, help="px of the pictures to make")
        sub.add_argument("--out", type=Path, required=True, help="image set to write")
    args = parser.parse_args()
    path, change = (args.real, "shrink") if args.command == "shrink" else (args.small, args.filter)
    prompts = read_prompts(path)
    captions, seeds = [prompt["caption"] for prompt in prompts], [prompt["seed"] for prompt in prompts]
    write_images(args.out, _each(path, change, args.side), captions, seeds)


if __name__ == "__main__":
    command(main)
