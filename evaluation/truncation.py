"""FD against CLIP score over truncation (Appendix C.1, Fig. A3): one run, scored at each psi.

    python -m evaluation.truncation --run runs/demo/gigagan/seed0 --real runs/demo/real.zip \\
        --reference-features runs/demo/reference.safetensors --judge evaluation/weights/scenes-judge \\
        --out truncation.jsonl --figure truncation_curve.png

Truncation towards each prompt's own mean style and, where training left one, towards the global mean style. One line a
point: ``{"towards": "prompt", "psi": 0.7, "fd": 31.4, "clip_score": 0.41, "n_images": 1000}``.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from evaluation.curve import Scorer
from evaluation.looks import save
from evaluation.plotted import Point
from evaluation.tradeoffs import MEANS, truncation_curve
from gigagan import sampling
from gigagan.archive import read_prompts
from gigagan.edit import fractions
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_jsonl
from gigagan.latents import Truncation
from gigagan.options import DEVICE_HELP, device, positive, whole
from gigagan.progress import Progress

PSIS = [1.0, 0.9, 0.7, 0.5, 0.3]


def settings(psis: list[float], means: list[str]) -> list[tuple[str, Truncation]]:
    """What is scored: every psi towards every mean, but psi = 1, which is the same towards all, once.

    Raises UserError as ``Truncation``.
    """
    every = [(towards, Truncation(**{towards: psi})) for towards in means for psi in dict.fromkeys(psis)]
    return [(towards, how) for towards, how in every if how != Truncation() or towards == means[0]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.truncation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a run's folder")
    parser.add_argument("--real", type=Path, required=True, help="image set whose captions are the prompts")
    parser.add_argument("--reference-features", type=Path, required=True)
    parser.add_argument("--judge", required=True, help="CLIP that judges, the one of the reference features")
    parser.add_argument("--psi", type=fractions, default=PSIS, metavar="NUMBERS")
    parser.add_argument(
        "--towards", choices=("both", *MEANS), default="both", help="both: overall only where it can be"
    )
    parser.add_argument("--n", type=whole(2), default=1000, help="images per point, at most as many as captions")
    parser.add_argument("--batch", type=positive, default=64, help="images at a time")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, help="scores (JSON lines)")
    parser.add_argument("--figure", type=Path, help="the curve, .png; an .svg is written beside it")
    args = parser.parse_args()
    if args.figure and args.figure.suffix != ".png":
        raise UserError(f"--figure {args.figure}: must end in .png (an .svg is written beside it)")
    settings(args.psi, [*MEANS])  # what is wrong with a psi shows before minutes of scoring
    for path in filter(None, (args.out, args.figure)):
        check_writable(path.parent)

    captions = [prompt["caption"] for prompt in read_prompts(args.real)][: args.n]
    score = Scorer(captions, args.reference_features, args.judge, args.device, args.batch)
    sampler = sampling.load(args.run, args.device)
    means = [args.towards]
    if args.towards == "both":
        means = [*MEANS] if sampler.style_mean is not None else ["prompt"]
    chosen = settings(args.psi, means)
    progress = Progress(len(chosen), unit="points")
    points: list[Point] = []
    for towards, how in chosen:
        figures = score(functools.partial(sampler, truncation=how))
        points.append({"towards": towards, "psi": getattr(how, towards), **figures, "n_images": len(captions)})
        progress.update(len(points))
    write_jsonl(args.out, points)
    if args.figure:
        save(truncation_curve(points), args.figure.parent, args.figure.stem)


if __name__ == "__main__":
    command(main)
