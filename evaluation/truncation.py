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
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from evaluation import plots
from evaluation.curve import Scorer
from gigagan import sampling
from gigagan.archive import read_prompts
from gigagan.edit import fractions
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_jsonl
from gigagan.latents import Truncation
from gigagan.options import DEVICE_HELP, device, positive, whole
from gigagan.progress import Progress

PSIS = [1.0, 0.9, 0.7, 0.5, 0.3]
MEANS = {"prompt": "the prompt's mean", "overall": "the global mean"}
Point = dict[str, Any]


def settings(psis: list[float], means: list[str]) -> list[tuple[str, Truncation]]:
    """What is scored: every psi towards every mean, but psi = 1, which is the same towards all, once.

    Raises UserError as ``Truncation``.
    """
    every = [(towards, Truncation(**{towards: psi})) for towards in means for psi in dict.fromkeys(psis)]
    return [(towards, how) for towards, how in every if how != Truncation() or towards == means[0]]


def figure(points: list[Point]) -> Figure:
    """A panel for each mean, as their ranges differ by far; each begins without truncation, with psi at every point."""
    means = list(dict.fromkeys(point["towards"] for point in points))
    drawn = Figure(figsize=(1.2 + 4.0 * len(means), 4.0), layout="constrained")
    drawn.get_layout_engine().set(w_pad=0.12)  # inches; end ticks of neighbours must not meet
    FigureCanvasAgg(drawn)
    start = [point for point in points if point["psi"] == 1][:1]
    panels = drawn.subplots(1, len(means), squeeze=False)[0]
    for place, (axes, towards) in enumerate(zip(panels, means, strict=True)):
        line = start + [point for point in points if point["towards"] == towards and point["psi"] != 1]
        line.sort(key=lambda point: -point["psi"])
        look = {"color": plots.PALETTE[place], "marker": plots.MARKERS[place]}
        axes.plot([point["fd"] for point in line], [point["clip_score"] for point in line], ms=6, lw=1.4, **look)
        axes.margins(0.18)
        # A share of what chance alone moves them by would look like a trend.
        _widen(axes.set_xlim, axes.get_xlim(), 0.05 * min(point["fd"] for point in line))
        _widen(axes.set_ylim, axes.get_ylim(), 0.01)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(useOffset=False)
        axes.set(xlabel="FD ↓")
        axes.set_title(f"towards {MEANS[towards]}", loc="left")
        drawn.draw_without_rendering()  # where the points are is known only now
        _label(axes, line)
    panels[0].set_ylabel("CLIP score ↑")
    drawn.supxlabel(f"{points[0]['n_images']:,} images at each point.", fontsize=9, color=plots.GREY)
    return drawn


def _widen(set_ends: Callable[[float, float], object], ends: tuple[float, float], least: float) -> None:
    more = max(0.0, least - (ends[1] - ends[0])) / 2
    set_ends(ends[0] - more, ends[1] + more)


def _label(axes: Axes, line: list[Point]) -> None:
    """Write psi beside each point, as near as there is room; what stands further off is joined to its point."""
    renderer = axes.figure.canvas.get_renderer()
    spots = axes.transData.transform([(point["fd"], point["clip_score"]) for point in line])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in spots]
    for a, b in itertools.pairwise(spots):  # the line between two points
        taken += [Bbox.from_bounds(*(a + (b - a) * share - 1), 2, 2) for share in np.linspace(0, 1, 60)]
    for point, spot in zip(line, spots, strict=True):
        at = (point["fd"], point["clip_score"])
        text = axes.annotate(f"ψ = {point['psi']:g}", at, (0, 0), textcoords="offset points", fontsize=8, va="center")
        # Away from the other points, the nearest ones first of all: a label between two could be either's.
        away = spot - spots
        push = (away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1) ** 3).sum(0)
        turns = sorted(range(0, 360, 15), key=lambda turn: min(turn, 360 - turn))
        angles = [math.atan2(push[1], push[0]) + math.radians(turn) for turn in turns]
        for radius, angle in itertools.product((10, 18, 28, 40, 54), angles):
            x, y = radius * math.cos(angle), radius * math.sin(angle)
            text.set_ha("center" if abs(x) < 0.3 * radius else "left" if x > 0 else "right")
            text.xyann = (x, y)
            box = text.get_window_extent(renderer)
            inside = axes.bbox.containsx(box.x0 - 4) and axes.bbox.containsx(box.x1 + 4)
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        if radius > 10:
            line_to = {"arrowstyle": "-", "lw": 0.6, "color": plots.GREY, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", at, text.xyann, textcoords="offset points", arrowprops=line_to)


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
        plots.save(figure(points), args.figure.parent, args.figure.stem)


if __name__ == "__main__":
    command(main)
