"""How figures look: a variant's colour, marker and line, labels beside points, and how figures are saved."""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from evaluation import published
from evaluation.records import FILTERS, REAL, REFERENCES, UNTRAINED
from evaluation.summary import FULL, Variant, last_number, stem
from gigagan import files

# Okabe & Ito's palette, safe for colour-blind readers; a dark brown in place of its yellow, which is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#692D00")
MARKERS = "osD^vPXh"
OF_SERIES = ("#882255", "#332288", "#999933", "#44AA99")  # Tol's muted colours, which no variant has
OF_REFERENCES = dict(zip((REAL, *FILTERS, UNTRAINED), "*<>x", strict=True))
STYLES = ("-", "--", ":", "-.")
GREY = "#555555"
INK = "#222222"

matplotlib.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",  # never transparent: the figures are also read on dark pages
        "svg.hashsalt": "gigagan",
        "text.parse_math": False,  # captions may hold anything, dollar signs too
    }
)


@functools.cache
def _published() -> tuple[str, ...]:
    """The variants that published tables know, the paper's ladder first."""
    entries = (entry for table in published.tables().values() for entry in table.rows)
    return tuple(dict.fromkeys(name for entry in entries for name in entry.ours))


class Looks:
    """Colour, marker and line of each variant, fixed by its place among all known ones: those of variants.yaml, then
    those of the published tables, then others by name.

    Rivals that differ in their number of steps alone share a colour, which is nobody else's; the marker says how many.
    """

    def __init__(self, known: Mapping[str, Variant], names: Iterable[str]) -> None:
        kin: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, of in known.items():
            kin[of.family, stem(name)].append(name)
        series = [of for (family, _), of in kin.items() if family and len(of) > 1]
        self._series = {name: i for i, of in enumerate(series) for name in of}
        self._numbers = sorted({last_number(name) for name in self._series})
        every = dict.fromkeys((FULL, *known, *_published(), *sorted(names)))
        alone = (name for name in every if name not in REFERENCES and name not in self._series)
        self._place = {name: i for i, name in enumerate(alone)}

    def color(self, name: str) -> str:
        if name in self._series:
            return OF_SERIES[self._series[name] % len(OF_SERIES)]
        return GREY if name in REFERENCES else PALETTE[self._place[name] % len(PALETTE)]

    def marker(self, name: str) -> str:
        """Two variants that share a colour, because there are more of them than colours, have other markers."""
        if name in REFERENCES:
            return OF_REFERENCES[name]
        if name in self._series:
            return MARKERS[self._numbers.index(last_number(name)) % len(MARKERS)]
        turn, place = divmod(self._place[name], len(PALETTE))
        return MARKERS[(place + turn) % len(MARKERS)]

    def line(self, name: str) -> str:
        return STYLES[self._series.get(name, self._place.get(name, 0) // len(PALETTE)) % len(STYLES)]

    def point(self, name: str) -> dict[str, str]:
        return {"color": self.color(name), "marker": self.marker(name)}


def save(figure: Figure, folder: Path, name: str, suffixes: Sequence[str] = ("png", "svg")) -> None:
    for suffix in suffixes:
        metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[suffix]
        path = folder / f"{name}.{suffix}"
        with files.written_whole(path) as temporary:
            figure.savefig(temporary, dpi=160, bbox_inches="tight", pad_inches=0.2, metadata=metadata)
        print(path)


def counted(label: str, n: int) -> str:
    return f"{label} (n={n})" if n > 1 else label


def intervals(overs: Iterable[str]) -> str:
    """What the intervals of some cells are over, in words."""
    notes = {
        "seeds": "training seeds",
        "captions": "the captions of one run",
        "images": "the images of one run",
        "repetitions": "measurements of one run",
    }
    known = sorted({*overs} - {""})
    words = f"Intervals: 95 % over {' or '.join(notes[over] for over in known)}" if known else ""
    return words and (f"{words}." if "seeds" in known else f"{words}, not over seeds.")


def note(figure: Figure, *sentences: str) -> None:
    """Small print below a figure, in lines that are no wider than it is."""
    width = int(figure.get_figwidth() * 13)
    if text := " ".join(filter(None, sentences)):
        figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=9, color=GREY)


def plain_log(axis: Axis) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 (over more decades at 1 and 3, or at 1 alone), or evenly
    spaced where it spans less than one."""
    low, high = axis.get_view_interval()
    at = (1, 2, 5) if high < 60 * low else (1, 3) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=at, numticks=8) if high > 10 * low else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def far_apart(values: Sequence[float]) -> bool:
    """Whether values want a logarithmic axis: all above 0, and more than ten times apart."""
    return bool(values) and 0 < 10 * min(values) < max(values)


def widen(set_ends: Callable[[float, float], object], ends: tuple[float, float], least: float) -> None:
    """Move an axis's ends apart to at least so much: what chance alone moves points by would look like a difference."""
    more = max(0.0, least - (ends[1] - ends[0])) / 2
    set_ends(ends[0] - more, ends[1] + more)


# ------------------------------------------------------------------------------------------------------------- labels

Point = tuple[float, float]


def settle(figure: Figure) -> None:
    """Lay a figure out, so that it is known where its points are; no text that comes later moves them."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def label_points(
    axes: Axes,
    points: Sequence[Point],
    texts: Sequence[str],
    lines: Iterable[Sequence[Point]] = (),
    others: Sequence[Point] = (),
    inks: Sequence[str] = (),
) -> None:
    """Write a text beside each point, as near as there is room; what stands further off is joined to its point.

    ``lines``: corners of lines that no text may cover; ``others``: further points; ``inks``: the texts' colours where
    they are not black. The figure must be settled.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg), "the figure is not settled"
    renderer = canvas.get_renderer()
    spots = axes.transData.transform([*points, *others])
    taken = []
    for a, b in itertools.chain.from_iterable(itertools.pairwise(axes.transData.transform(line)) for line in lines):
        steps = max(2, round(float(np.abs(b - a).max()) / 4))
        taken += [Bbox.from_bounds(*(a + (b - a) * share - 1), 2, 2) for share in np.linspace(0, 1, steps)]
    for point, spot, words, ink in zip(points, spots, texts, inks or ["black"] * len(points), strict=False):
        # From other points further than from its own, or it would seem to be theirs.
        near = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in spots if (x, y) == (*spot,)]
        near += [Bbox.from_extents(x - 14, y - 9, x + 14, y + 9) for x, y in spots if (x, y) != (*spot,)]
        text = axes.annotate(words, point, (0, 0), textcoords="offset points", fontsize=8, va="center", color=ink)
        # Away from the other points, the nearest ones first of all: a label between two could be either's.
        away = spot - spots
        push = (away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1) ** 3).sum(0)
        turns = sorted(range(0, 360, 15), key=lambda turn: min(turn, 360 - turn))
        angles = [math.atan2(push[1], push[0]) + math.radians(turn) for turn in turns]
        for radius, angle in itertools.product((10, 18, 28, 40, 54, 70, 90), angles):
            x, y = radius * math.cos(angle), radius * math.sin(angle)
            text.set_ha("center" if abs(x) < 0.3 * radius else "left" if x > 0 else "right")
            text.xyann = (x, y)
            box = text.get_window_extent(renderer)
            wider = box.padded(4)
            inside = axes.bbox.containsx(wider.x0) and axes.bbox.containsx(wider.x1)
            inside = inside and axes.bbox.containsy(wider.y0) and axes.bbox.containsy(wider.y1)
            if inside and not any(box.overlaps(other) for other in (*taken, *near)):
                break
        taken.append(box)
        if radius > 10:
            join = {"arrowstyle": "-", "lw": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", point, text.xyann, textcoords="offset points", arrowprops=join)
