"""A labelled sheet of pictures as one figure, written as PNG and SVG beside each other.

The same sheet gives the same bytes. Captions may be long and hold anything: they are wrapped by their measured width,
cut where there is no room for more, and never read as mathematics.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gigagan.data.captions import one_line
from gigagan.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WORDS, GAP = 1.15, 1.75, 0.06  # inches: a picture with its gap, the widest row label, the gap
SIZE, NOTE_SIZE = 9, 8  # points
GREY = "#555555"
LOOK = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",  # never transparent: the figures are also read on dark pages
    "svg.hashsalt": "gigagan",
    "text.parse_math": False,  # captions may hold anything, dollar signs too
}


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows and columns, and what is written around them."""

    images: np.ndarray  # uint8 [rows, columns, H, W, 3]
    rows: list[str] = field(default_factory=list)  # one label each, or none at all
    columns: list[str] = field(default_factory=list)
    note: str = ""  # below
    corners: list[str] = field(default_factory=list)  # four: top left, top right, bottom left, bottom right


def save(sheet: Sheet, path: Path) -> None:
    """Write ``path`` as PNG and, beside it, as SVG, each whole."""
    import matplotlib

    with matplotlib.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a caption in a script that the font lacks
        figure = draw(sheet)
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            with written_whole(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, dpi=160, bbox_inches="tight", pad_inches=0.1, metadata=metadata)
            print(path.with_suffix(suffix))


def draw(sheet: Sheet) -> Figure:
    """The sheet as a figure; all lengths in inches, from the top left corner."""
    from matplotlib.figure import Figure

    n, m = sheet.images.shape[:2]
    words = [wrapped(label, WORDS, SIZE, 6) for label in sheet.rows]
    left = max((_inches(line, SIZE) for label in words for line in label.split("\n")), default=0.0)
    left += 0.15 if words else 0.0
    width = max(left + m * SIDE, 3.0)
    line = SIZE * 1.3 / 72
    heads = [wrapped(label, SIDE - GAP, SIZE, 5) for label in sheet.columns]
    half = m * SIDE / 2 - GAP
    corners = [wrapped(label, half, SIZE, 3) for label in sheet.corners]
    above = max((label.count("\n") + 1 for label in heads + corners[:2] if label), default=0) * line
    below = max((label.count("\n") + 1 for label in corners[2:]), default=0) * line
    note = wrapped(sheet.note, width, NOTE_SIZE, 6)
    foot = (note.count("\n") + 1) * NOTE_SIZE * 1.3 / 72 + 0.1 if note else 0.0
    height = above + n * SIDE + below + foot + 0.1
    figure = Figure(figsize=(width, height))

    def write(x: float, y: float, label: str, **how: str | float) -> None:
        figure.text(x / width, 1 - y / height, label, linespacing=1.2, **{"fontsize": SIZE, **how})

    top = above + 0.05
    for i, label in enumerate(words):
        write(0, top + (i + 0.5) * SIDE - GAP / 2, label, va="center")
    for j, label in enumerate(heads):
        write(left + (j + 0.5) * SIDE - GAP / 2, top - 0.04, label, ha="center", va="bottom")
    if corners:
        right = left + m * SIDE - GAP
        for k, label in enumerate(corners):
            down, across = divmod(k, 2)
            y = top + n * SIDE - GAP + 0.04 if down else top - 0.04
            write(right if across else left, y, label, ha="right" if across else "left", va="top" if down else "bottom")
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: many take seconds
    axes.set_axis_off()
    for i in range(n):
        for j in range(m):
            x, y = left + j * SIDE, height - top - (i + 1) * SIDE + GAP
            extent = (x, x + SIDE - GAP, y, y + SIDE - GAP)
            axes.imshow(enlarged(sheet.images[i, j]), interpolation="nearest", extent=extent, aspect="auto")
    axes.set(xlim=(0, width), ylim=(0, height))
    write(0, top + n * SIDE + below + 0.08, note, va="top", fontsize=NOTE_SIZE, color=GREY)
    return figure


def enlarged(image: np.ndarray, least: int = 160) -> np.ndarray:
    """By a whole factor to at least ``least`` px: SVG viewers smooth what they enlarge themselves."""
    factor = math.ceil(least / image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def wrapped(text: str, width: float, size: float, most: int) -> str:
    """``text`` in at most ``most`` lines, none wider than ``width`` inches at ``size`` points; what is left over is
    cut, and marked. A word that is wider than a line is broken."""
    words, lines = one_line(text).split(), [""]
    while words and len(lines) <= most:
        longer = f"{lines[-1]} {words[0]}".lstrip()
        if _inches(longer, size) <= width:
            lines[-1] = longer
            words.pop(0)
        elif lines[-1]:
            lines.append("")
        else:
            fits = next((k for k in range(len(words[0]) - 1, 1, -1) if _inches(words[0][:k], size) <= width), 1)
            lines[-1], words[0] = words[0][:fits], words[0][fits:]
            if not words[0]:
                words.pop(0)
            else:
                lines.append("")
    if len(lines) > most:
        last = lines[most - 1]
        while last and _inches(f"{last} …", size) > width:
            last = last[:-1].rstrip()
        lines = [*lines[: most - 1], f"{last} …"]
    return "\n".join(lines).strip()


def _inches(text: str, size: float) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0] / 72
