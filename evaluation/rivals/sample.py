"""Draw pictures for captions with a run of any family, trained or pretrained.

python -m evaluation.rivals.sample --run runs/demo/stylegan_t/seed0 --prompts runs/demo/real.zip --out samples.zip
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from evaluation import samplers
from evaluation.rivals.pretrained.sample import said
from evaluation.rivals.pretrained.samplers import KINDS
from gigagan import drawing
from gigagan.archive import read_prompts
from gigagan.errors import UserError, command
from gigagan.files import check_writable
from gigagan.options import DEVICE_HELP, device, natural, positive, threads


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.rivals.sample", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--prompts", type=Path, required=True, help="captions, drawn with their index as seed")
    parser.add_argument("--snapshot", type=natural, metavar="IMAGES", help="weights after so many; 0 = untrained")
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, help="an image archive (.zip)")
    args = parser.parse_args()
    if args.out.suffix != ".zip":
        raise UserError(f"--out {args.out}: must end in .zip (an archive with its captions)")
    check_writable(args.out.parent)
    torch.set_num_threads(args.threads)
    sampler = samplers.load(args.run, args.device, args.snapshot)
    captions = [prompt["caption"] for prompt in read_prompts(args.prompts)]
    seeds = list(range(len(captions)))
    drawing.write(args.out, sampler, captions, seeds, args.batch)
    if isinstance(sampler, KINDS):
        said(sampler, captions)


if __name__ == "__main__":
    command(main)
