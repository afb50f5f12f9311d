"""Quality against steps of sampling: a line for each series of rivals, and what takes one step beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from evaluation.looks import MARKERS, Looks, counted, far_apart, intervals, note, plain_log
from evaluation.series import runs, series_of
from evaluation.summary import Column, Line, Summary, Variant
from evaluation.tables import heading
from evaluation.tradeoffs import QUALITY, Spot, half_widths, legend

WAYS = ("-", "--", "-.")
"""Lines of the series; dotted is what models of one step reach."""


@dataclass(frozen=True)
class Track:
    """Models that differ in their steps alone, or one model, which is a point; ``spots`` at (steps, quality)."""

    label: str
    look: Mapping[str, str]  # color, marker, ls
    spots: list[Spot]
    hollow: bool = False

    @property
    def style(self) -> dict[str, object]:
        return {**self.look, "ms": 6, "lw": 1.6} | ({"mfc": "white", "mew": 1.4} if self.hollow else {})


@dataclass(frozen=True)
class Panel:
    title: str
    y_label: str
    tracks: list[Track]


def draw(rows: Sequence[Sequence[Panel]], *sentences: str) -> Figure:
    """A figure of rows of panels, with one legend and small print below."""
    across = max(len(row) for row in rows)
    labels = {track.label: track.style for row in rows for panel in row for track in panel.tracks}
    width = 1.2 + 3.6 * across
    figure = Figure(figsize=(width + 2.4, 0.9 + 3.5 * len(rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches; end ticks of neighbours must not meet
    for line, panels in zip(figure.subplots(len(rows), across, squeeze=False), rows, strict=True):
        for axes in line[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(line, panels, strict=False):
            _panel(axes, panel)
    legend(figure, labels, aside=True)
    note(figure, "Dotted: models of one step.", *sentences)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    spots = [spot for track in panel.tracks for spot in track.spots]
    axes.set_xscale("log", base=2)
    for track in panel.tracks:
        points = [spot.at for spot in track.spots]
        axes.plot(*zip(*points, strict=True), **track.style, zorder=2.5)
        for spot in track.spots:
            if (error := spot.errors.get("yerr")) is not None:
                style = {"fmt": "none", "ecolor": track.look["color"], "elinewidth": 1, "capsize": 2}
                axes.errorbar(*spot.at, yerr=error, **style, zorder=2.4)
        if len(points) == 1 and points[0][0] == 1:
            axes.axhline(points[0][1], color=track.look["color"], ls=":", lw=1.1, zorder=1.6)
    steps = {x for x, _ in (spot.at for spot in spots)}
    last = math.ceil(math.log2(max(steps, default=1)))
    axes.xaxis.set_major_locator(FixedLocator([2**power for power in range(last + 1)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(2**-0.35, 2 ** (last + 0.35))
    qualities = [spot.at[1] for spot in spots]
    if far_apart(qualities):
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    else:
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(xlabel="steps of sampling (logarithmic)", ylabel=panel.y_label)
    axes.set_title(panel.title, loc="left")


def tracks(lines: Sequence[Line], column: Column, looks: Looks) -> list[Track]:
    """Of the series among ``lines`` and of the others, in one column; what has no finite value is left out."""
    found, series = [], series_of(lines)
    for place, of in enumerate(series):
        color = looks.color(of.lines[0].variant.name)  # the markers would be those of a number of steps
        look = {"color": color, "marker": MARKERS[(1 + 2 * place) % len(MARKERS)], "ls": WAYS[place % len(WAYS)]}
        label = counted(of.label, max(line.n for line in of.lines))
        found.append(Track(label, look, _spots(of.lines, column)))
    joined = {line.variant.name for of in series for line in of.lines}
    for line in (line for line in lines if line.variant.name not in joined):
        look = {**looks.point(line.variant.name), "ls": ""}
        found.append(Track(counted(line.variant.label, line.n), look, _spots([line], column)))
    return [track for track in found if track.spots]


def _spots(lines: Iterable[Line], column: Column) -> list[Spot]:
    """In the order of ``lines``, of those that have a finite value."""
    cells = [(line, line.cells[column]) for line in lines if column in line.cells and line.steps]
    return [
        Spot((float(line.steps or 0), cell.value.value), "", {}, {"yerr": half_widths(cell)})
        for line, cell in cells
        if math.isfinite(cell.value.value)
    ]


def panels(summary: Summary, looks: Looks) -> list[Panel]:
    """A panel for each score of pictures that a run has which says how many steps it takes."""
    lines = [line for line in runs(summary) if line.steps]
    columns = [column for metric in QUALITY for column in summary.find(metric)]
    return [
        Panel(
            heading(column, summary.columns)[1],
            f"{column.about.label}\u00a0{column.arrow}",
            tracks(lines, column, looks),
        )
        for column in columns
        if any(column in line.cells for line in lines)
    ]


def quality_vs_steps(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """A panel per score of pictures, over the steps that sampling takes. None where all take as many.

    The lines go from step to step and nothing says that they fall: a score may be the best in the middle.
    """
    drawn = panels(summary, Looks(known, (line.variant.name for line in summary.lines)))
    if len({line.steps for line in runs(summary)} - {None}) < 2 or not drawn:
        return None
    silent = [line.variant.label for line in runs(summary) if line.steps is None]
    cells = [(column, cell) for line in runs(summary) if line.steps for column, cell in line.cells.items()]
    return draw(
        [drawn],
        intervals(cell.over for column, cell in cells if column.metric in QUALITY),
        f"Not shown, as their rows do not say how many steps they take: {', '.join(silent)}." if silent else "",
    )
