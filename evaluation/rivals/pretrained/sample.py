"""Draw the pictures of prompts with a pretrained model from a local folder.

python -m evaluation.rivals.pretrained.sample --models models --settings pretrained.yaml --model sd_turbo_1 \\
    --prompts runs/demo/real.zip --out samples.zip --about run.json --device cuda --batch 16
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from evaluation.rivals.pretrained import samplers
from evaluation.rivals.pretrained.diffusion import PipelineSampler
from evaluation.rivals.pretrained.samplers import PretrainedSampler
from evaluation.rivals.pretrained.settings import pick
from gigagan import drawing
from gigagan.archive import read_prompts
from gigagan.errors import command
from gigagan.files import check_writable, write_json
from gigagan.options import DEVICE_HELP, device, natural, positive, threads


def said(sampler: PretrainedSampler, captions: list[str]) -> dict[str, int]:
    """What a tally of the pictures does not tell: how many the safety checker has blackened, and how many captions were
    longer than the text encoder reads. What there is of it is said on stderr."""
    cut = sampler.count_cut(captions) if isinstance(sampler, PipelineSampler) else 0
    found = {"n_blackened": sampler.n_blackened, "n_cut": cut}
    what = {"n_blackened": "pictures were blackened by the safety checker",
            "n_cut": "prompts were cut to what the text encoder reads"}  # fmt: skip
    for name, n in found.items():
        if n:
            print(f"warning: {n:,} of {len(captions):,} {what[name]}", file=sys.stderr)
    return found


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
    flaws = asdict(drawing.write(args.out, sampler, captions, seeds, args.batch)) | said(sampler, captions)
    if args.about:
        write_json(args.about, {**samplers.about(sampler, settings, args.threads), "flaws": flaws})


if __name__ == "__main__":
    command(main)
