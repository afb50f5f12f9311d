"""Draw the pictures of prompts with a pretrained model from a local folder.

python -m evaluation.rivals.pretrained.sample --models models --settings pretrained.yaml --model sd_turbo_1 \\
    --prompts runs/demo/real.zip --out samples.zip --about run.json --device cuda --batch 16
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from evaluation.rivals.pretrained import samplers
from evaluation.rivals.pretrained.diffusion import PipelineSampler
from evaluation.rivals.pretrained.memory import is_out_of_memory
from evaluation.rivals.pretrained.samplers import PretrainedSampler
from evaluation.rivals.pretrained.settings import pick
from gigagan.archive import read_prompts, write_images
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_json
from gigagan.options import DEVICE_HELP, device, natural, positive, threads
from gigagan.pixels import to_uint8
from gigagan.progress import Progress


@dataclass
class Flaws:
    """Pictures that are none: how many held NaN or infinity (they are kept as black there), or one colour alone."""

    pictures: int = 0
    non_finite: int = 0
    constant: int = 0

    def take(self, images: torch.Tensor) -> np.ndarray:
        """[B, 3, R, R] in [-1, 1] -> uint8 [B, R, R, 3], counted."""
        finite = torch.isfinite(images).flatten(1).all(1)
        pictures = to_uint8(torch.nan_to_num(images, nan=-1, posinf=-1, neginf=-1))
        constant = (pictures == pictures[:, :1, :1]).all((1, 2, 3))
        self.pictures += len(pictures)
        self.non_finite += int((~finite).sum())
        self.constant += int((constant & finite.cpu().numpy()).sum())
        return pictures


def draw(
    sampler: PretrainedSampler, captions: list[str], seeds: list[int], batch: int, flaws: Flaws
) -> Iterator[np.ndarray]:
    """Pictures uint8 [R, R, 3] one by one, with progress. A batch that the device's memory does not hold is halved
    until it fits, and that is said.

    Raises UserError where a single picture does not fit.
    """
    progress, start, asked = Progress(len(captions)), 0, batch
    while start < len(captions):
        rows, images = slice(start, start + batch), None
        try:
            images = sampler.generate(sampler.encode(captions[rows]), seeds[rows])
        except Exception as e:
            if not is_out_of_memory(e):
                raise
        if images is None:  # behind the handler, where the error holds no tensors any more
            if sampler.device.type == "cuda":
                torch.cuda.empty_cache()
            if batch == 1:
                raise UserError(
                    f"a single picture of {sampler.resolution} px does not fit into the memory of {sampler.device}: "
                    "take a smaller dtype or resolution, or another device"
                )
            batch = max(1, min(batch, len(captions) - start) // 2)
            continue
        if batch < asked:
            print(f"--batch {asked} does not fit into the memory of {sampler.device}: {batch} does", file=sys.stderr)
            asked = batch
        yield from flaws.take(images)
        start += len(images)
        progress.update(start)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.rivals.pretrained.sample", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="where the models' folders are")
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE.yaml", help="entries by name")
    parser.add_argument("--model", required=True, metavar="NAME", help="of the entry")
    parser.add_argument("--prompts", type=Path, required=True, help="an image archive or a list (.jsonl)")
    parser.add_argument("--seed", type=natural, default=0, help="the first picture's seed")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="the archive, with its captions")
    parser.add_argument("--about", type=Path, metavar="FILE.json", help="what records say of it; written, too")
    args = parser.parse_args()
    settings = pick(args.settings, args.model)
    captions = [prompt["caption"] for prompt in read_prompts(args.prompts)]
    seeds = list(range(args.seed, args.seed + len(captions)))
    for path in filter(None, (args.out, args.about)):
        check_writable(path.parent)
    torch.set_num_threads(args.threads)

    sampler = samplers.load(settings, args.models, args.device)
    print(f"{settings.name}: {sampler.description}", file=sys.stderr)
    flaws = Flaws()
    write_images(args.out, draw(sampler, captions, seeds, args.batch, flaws), captions, seeds)
    said = {"hold NaN or infinity": flaws.non_finite, "are of one colour": flaws.constant}
    said["were blackened by the safety checker"] = sampler.n_blackened
    for what, n in said.items():
        if n:
            print(f"warning: {n:,} of {flaws.pictures:,} pictures {what}: they are in the archive", file=sys.stderr)
    cut = sampler.count_cut(captions) if isinstance(sampler, PipelineSampler) else 0
    if cut:
        print(f"warning: {cut:,} of {len(captions):,} prompts were cut to what the text encoder reads", file=sys.stderr)
    if args.about:
        found = {**asdict(flaws), "blackened": sampler.n_blackened, "captions_cut": cut}
        write_json(args.about, {**samplers.about(sampler, settings, args.threads), "flaws": found})


if __name__ == "__main__":
    command(main)
