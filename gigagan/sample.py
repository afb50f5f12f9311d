"""Draw pictures for captions with a trained run.

python -m gigagan.sample --run runs/demo/gigagan/seed0 --prompts runs/demo/real.zip --out samples.zip
python -m gigagan.sample --run runs/base --prompts prompts.jsonl --out samples.zip
python -m gigagan.sample --run runs/demo/gigagan/seed0 --caption "a big red circle on white" --n 16 --out grid.png
python -m gigagan.sample --run runs/base --upsampler runs/up --caption "a red bicycle" --n 1 --out 512.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from gigagan import drawing
from gigagan.archive import read_prompts, write_images
from gigagan.errors import UserError, command
from gigagan.files import check_writable
from gigagan.latents import Truncation
from gigagan.options import DEVICE_HELP, device, natural, positive, real, threads
from gigagan.png import write_grid
from gigagan.progress import Progress
from gigagan.sampling import check_prompts, load
from gigagan.upsample import Upsampling
from gigagan.upsample import load as load_upsampler


def enlarge(images: np.ndarray, upsampler: Upsampling, captions: list[str], seeds: list[int], batch: int) -> np.ndarray:
    """uint8 [N, H, W, 3] -> [N, H * factor, W * factor, 3], with progress. Raises UserError for pictures too small."""
    n, h, w, _ = images.shape
    upsampler.check_size(h, w, "the pictures drawn")
    upsampler.encode.count_cut(list(dict.fromkeys(captions)))
    large = np.empty((n, h * upsampler.factor, w * upsampler.factor, 3), np.uint8)
    progress = Progress(n)
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        large[rows] = upsampler(images[rows], captions[rows], seeds[rows])
        progress.update(min(start + batch, n))
    return large


def add_truncation(parser: argparse.ArgumentParser) -> None:
    """The options --truncation and --global-truncation (Appendix C.1); without them, as the run's config says."""
    psi = {"type": real(), "metavar": "PSI"}
    parser.add_argument("--truncation", help="styles towards their prompt's mean: 0 = all the way, 1 = not", **psi)
    parser.add_argument("--global-truncation", help="then towards the mean of the training captions", **psi)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """The options --dtype and --compile, as ``gigagan.inference.prepare`` takes them."""
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="what levels are computed in")
    parser.add_argument("--compile", action="store_true", help="pays where many batches of one size are drawn")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gigagan.sample", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--prompts",
        type=Path,
        help="an image archive or a list (.jsonl); its captions are drawn, with their index as seed",
    )
    what.add_argument("--caption", help="one caption, or a class's name or number, drawn --n times")
    parser.add_argument("--n", type=positive, default=16)
    parser.add_argument("--seed", type=natural, default=0, help="the first picture's seed")
    parser.add_argument("--snapshot", type=natural, metavar="IMAGES", help="weights after so many; 0 = untrained")
    add_truncation(parser)
    parser.add_argument(
        "--upsampler",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="an upsampler's run that enlarges the pictures; several go one after the other",
    )
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    add_speed(parser)
    parser.add_argument("--out", type=Path, required=True, help=".zip for an archive, .png for a grid")
    args = parser.parse_args()
    if args.out.suffix not in (".zip", ".png"):
        raise UserError(f"--out {args.out}: must end in .zip (an archive with its captions) or .png (a grid)")
    Truncation().but(args.truncation, args.global_truncation)  # refused before anything is loaded
    if args.caption is not None:
        check_prompts(args.caption)
    check_writable(args.out.parent)
    torch.set_num_threads(args.threads)

    sampler = load(args.run, args.device, args.snapshot, args.dtype, args.compile)
    sampler.encode.remember = args.batch
    truncation = sampler.truncation.but(args.truncation, args.global_truncation)
    if args.prompts:
        prompts = [prompt["caption"] for prompt in read_prompts(args.prompts)]
    elif args.caption is None and sampler.encode.kind != "none":
        raise UserError("say what to draw: --caption TEXT, or --prompts with an image archive or a list")
    else:
        prompts = [args.caption or ""]
    sampler.encode.count_cut(prompts)
    captions = prompts if args.prompts else prompts * args.n
    seeds = list(range(args.seed, args.seed + len(captions)))
    images = np.empty((len(captions), sampler.resolution, sampler.resolution, 3), np.uint8)
    for i, picture in enumerate(drawing.draw(sampler, captions, seeds, args.batch, sampler.tally, truncation)):
        images[i] = picture
    sampler.tally.warn(args.run)
    del sampler  # the large models are not held at once
    for run in args.upsampler:
        upsampler = load_upsampler(run, args.device, dtype=args.dtype, compile=args.compile)
        images = enlarge(images, upsampler, captions, seeds, args.batch)
        upsampler.tally.warn(run)
        del upsampler
    if args.out.suffix == ".zip":
        write_images(args.out, images, captions, seeds)
    else:
        write_grid(args.out, images, math.ceil(math.sqrt(len(images))))


if __name__ == "__main__":
    command(main)
