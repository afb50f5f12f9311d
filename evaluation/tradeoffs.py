"""Trade-offs: quality against latency, with what no other model beats, and FD against CLIP score over truncation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation import plotted
from evaluation.looks import (
    INK,
    MARKERS,
    STYLES,
    Looks,
    Point,
    counted,
    far_apart,
    intervals,
    label_points,
    note,
    plain_log,
    settle,
    widen,
)
from evaluation.series import series_of
from evaluation.summary import Cell, Column, Line, Summary, Variant, setting
from evaluation.tables import heading

MEANS = {"prompt": "the prompt's mean", "overall": "the global mean"}
"""What truncation goes towards."""

QUALITY = ("fd", "fid", "clip_score")


def pareto(points: Sequence[Point], higher_is_better: bool) -> list[int]:
    """Places of the (latency, quality) points that no other beats, the quickest first.

    A point is beaten by one that is as quick and better, or quicker and as good; of equal points all stay.
    """
    sign = -1 if higher_is_better else 1
    costs = [(latency, sign * quality) for latency, quality in points]
    best = [
        place
        for place, (x, y) in enumerate(costs)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in costs)
    ]  # fmt: skip
    return sorted(best, key=lambda place: (costs[place], place))


@dataclass(frozen=True)
class Spot:
    """One model in a panel; ``look`` is matplotlib's color and marker."""

    at: Point
    text: str
    look: Mapping[str, str]
    errors: Mapping[str, np.ndarray | None] = field(default_factory=dict)  # xerr, yerr
    hollow: bool = False
    ink: str = "black"  # of the text

    def whiskers(self) -> list[tuple[Point, Point]]:
        """Ends of the error bars."""
        (x, y), lines = self.at, []
        if (error := self.errors.get("xerr")) is not None:
            lines.append(((x - error[0, 0], y), (x + error[1, 0], y)))
        if (error := self.errors.get("yerr")) is not None:
            lines.append(((x, y - error[0, 0]), (x, y + error[1, 0])))
        return lines


@dataclass(frozen=True)
class Trail:
    """Models that differ in their steps alone, joined in their order; the legend names them."""

    label: str
    color: str
    points: list[Point]


@dataclass(frozen=True)
class Panel:
    title: str
    y_label: str
    x_label: str
    higher_is_better: bool
    spots: list[Spot]
    trails: list[Trail] = field(default_factory=list)

    def line(self) -> list[Point]:
        """Corners of the best quality that so much latency buys, up to the slowest model; none without a model."""
        points = [spot.at for spot in self.spots]
        if not points:
            return []
        corners: list[Point] = []
        for place in pareto(points, self.higher_is_better):
            x, y = points[place]
            corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
        slowest = max(x for x, _ in points)
        return corners if corners[-1][0] == slowest else [*corners, (slowest, corners[-1][1])]


FEW = 9
"""Points that a panel of the usual size has room for."""


def draw(rows: Sequence[Sequence[Panel]], *sentences: str) -> Figure:
    """A figure of rows of panels, every point labelled, with small print below."""
    across = max(len(row) for row in rows)
    width, height = (4.1, 3.7) if max(len(panel.spots) for row in rows for panel in row) <= FEW else (5.2, 4.8)
    figure = Figure(figsize=(0.6 + width * across, 0.7 + height * len(rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches; end ticks of neighbours must not meet
    grid = figure.subplots(len(rows), across, squeeze=False)
    drawn: list[tuple[Axes, Panel]] = []
    for line, panels in zip(grid, rows, strict=True):
        for axes in line[len(panels) :]:
            axes.set_axis_off()
        for axes, panel, before in zip(line, panels, [None, *panels], strict=False):
            _panel(axes, panel)
            if before is None or panel.title != before.title:  # one title for all that it holds for
                axes.set_title(panel.title, loc="left")
            drawn.append((axes, panel))
    legend(figure, {trail.label: {"color": trail.color, "lw": 1.6} for _, panel in drawn for trail in panel.trails})
    note(figure, *sentences)
    settle(figure)
    for axes, panel in drawn:
        lines = [panel.line(), *(line for spot in panel.spots for line in spot.whiskers())]
        lines += [trail.points for trail in panel.trails]
        texts, inks = [spot.text for spot in panel.spots], [spot.ink for spot in panel.spots]
        label_points(axes, [spot.at for spot in panel.spots], texts, lines, inks=inks)
    return figure


def legend(figure: Figure, looks: Mapping[str, Mapping[str, Any]], aside: bool = False) -> None:
    """A line's look by its label: above the panels, or aside in a column."""
    handles = [Line2D([], [], **look, label=label) for label, look in looks.items()]
    if handles:
        where = {"loc": "outside right upper"} if aside else {"loc": "outside upper right", "ncols": len(handles)}
        figure.legend(handles=handles, **where)


def _panel(axes: Axes, panel: Panel) -> None:
    line = panel.line()
    axes.plot([x for x, _ in line], [y for _, y in line], color="#888888", ls="--", lw=1.2, zorder=1.5)
    for trail in panel.trails:
        axes.plot([x for x, _ in trail.points], [y for _, y in trail.points], color=trail.color, lw=1.6, alpha=0.55)
    for spot in panel.spots:
        style = dict(spot.look) | ({"mfc": "white", "mew": 1.6} if spot.hollow else {})
        axes.errorbar(*spot.at, **spot.errors, **style, ms=7, ls="", elinewidth=1, capsize=2, zorder=3)
    qualities = [spot.at[1] for spot in panel.spots]
    axes.set_xscale("log")
    if far_apart(qualities):
        axes.set_yscale("log")
        axes.margins(0.22)
        plain_log(axes.yaxis)
    else:
        axes.margins(0.22)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(axis="y", useOffset=False)
    plain_log(axes.xaxis)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)


def _sides(summary: Summary, column: Column) -> set[int]:
    """Of the pictures that a column's rows are of, in pixels, where they say it."""
    return {
        row["resolution"]
        for row in summary.rows
        if (row["metric"], row["protocol_sha"]) == (column.metric, column.protocol_sha)
        and (not column.setting or setting(row) == column.setting)
        and row.get("resolution")
    }


def quality_vs_latency(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """A panel per score of pictures, a row of them per device and setting: times of two never share a panel, and a time
    stands beside scores of the pictures that it buys alone, of their size.

    None where no setting has two variants.
    """
    looks = Looks(known, (line.variant.name for line in summary.lines))
    rows: list[list[Panel]] = []
    overs: set[str] = set()
    counts = {line.n for line in summary.lines if not line.is_reference}
    for latency in summary.find("latency_ms"):
        panels = []
        for column in (column for metric in QUALITY for column in summary.find(metric)):
            both = [line for line in summary.lines if latency in line.cells and column in line.cells]
            if len(both) < 2 or len(_sides(summary, latency) | _sides(summary, column)) > 1:
                continue
            overs |= {line.cells[of].over for line in both for of in (latency, column)}
            panels.append(
                _of_columns(summary, latency, column, *_placed(both, latency, column, looks, len(counts) > 1))
            )
        rows += [panels] if panels else []
    if not rows:
        return None
    return draw(
        rows,
        "Dashed: the quality that a latency buys; no model on a corner is beaten in both.",
        "Numbers: steps of sampling." if any(panel.trails for row in rows for panel in row) else "",
        intervals(overs),
        "With n=1 it cannot be told from chance who stands on the line."
        if counts == {1}
        else f"n={min(counts)} seeds each."
        if len(counts) == 1
        else "",
    )


LONG = 36
"""Letters that stand beside an axis in one line without leaving its panel."""


def _placed(
    lines: list[Line], latency: Column, column: Column, looks: Looks, say_n: bool
) -> tuple[list[Spot], list[Trail]]:
    """Where lines stand that have both; of a series each says its number of steps, and the trail its name."""
    spots: dict[str, Spot] = {}
    series = series_of(lines)
    steps = {line.variant.name: str(line.steps) for of in series for line in of.lines}
    for line in lines:
        x, y, name = line.cells[latency], line.cells[column], line.variant.name
        at = (x.value.value, y.value.value)
        if math.isfinite(at[1]) and 0 < at[0] < math.inf:
            text, ink = (steps[name], looks.color(name)) if name in steps else (line.variant.label, "black")
            errors = {"xerr": half_widths(x), "yerr": half_widths(y)}
            spots[name] = Spot(at, counted(text, line.n) if say_n else text, looks.point(name), errors, ink=ink)
    trails = []
    for of in series:
        points = [spots[line.variant.name].at for line in of.lines if line.variant.name in spots]
        trails.append(Trail(of.label, looks.color(of.lines[0].variant.name), points))
    return [*spots.values()], trails


def _of_columns(summary: Summary, latency: Column, column: Column, spots: list[Spot], trails: list[Trail]) -> Panel:
    below = heading(column, summary.columns)[1]
    name = f"{column.about.label}\u00a0{column.arrow}"
    between = "\n" if len(name) + len(below) > LONG else " "
    return Panel(
        ", ".join(filter(None, latency.setting)),
        f"{name}{between}({below})" if below else name,
        "latency, ms ↓ (logarithmic)",
        bool(column.about.higher_is_better),
        spots,
        trails,
    )


def half_widths(cell: Cell) -> np.ndarray | None:
    """[2, 1] distances of the interval's ends from the value, as matplotlib takes them; None without an interval."""
    if cell.value.low is None or cell.value.high is None:
        return None
    return np.array([[cell.value.value - cell.value.low], [cell.value.high - cell.value.value]]).clip(0)


# ------------------------------------------------------------------------------------------------------ over truncation


def truncation_curve(points: list[plotted.Point]) -> Figure:
    """A panel for each mean, as their ranges differ by far; each begins without truncation, with psi at every point."""
    means = list(dict.fromkeys(point["towards"] for point in points))
    drawn = Figure(figsize=(1.2 + 4.0 * len(means), 4.0), layout="constrained")
    drawn.get_layout_engine().set(w_pad=0.12)  # inches; end ticks of neighbours must not meet
    start = [point for point in points if point["psi"] == 1][:1]
    panels = drawn.subplots(1, len(means), squeeze=False)[0]
    lines = []
    for place, (axes, towards) in enumerate(zip(panels, means, strict=True)):
        line = start + [point for point in points if point["towards"] == towards and point["psi"] != 1]
        line.sort(key=lambda point: -point["psi"])
        look = {"color": INK, "marker": MARKERS[place], "ls": STYLES[place]}  # no variant's colour: it is one run's
        axes.plot([point["fd"] for point in line], [point["clip_score"] for point in line], ms=6, lw=1.4, **look)
        axes.margins(0.18)
        # A share of what chance alone moves them by would look like a trend.
        widen(axes.set_xlim, axes.get_xlim(), 0.05 * min(point["fd"] for point in line))
        widen(axes.set_ylim, axes.get_ylim(), 0.01)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(useOffset=False)
        axes.set(xlabel="FD ↓")
        axes.set_title(f"towards {MEANS[towards]}", loc="left")
        lines.append((axes, line))
    panels[0].set_ylabel("CLIP score ↑")
    note(drawn, f"{points[0]['n_images']:,} images at each point.")
    settle(drawn)  # where the points are is known only now
    for axes, line in lines:
        at = [(point["fd"], point["clip_score"]) for point in line]
        label_points(axes, at, [f"ψ = {point['psi']:g}" for point in line], [at])
    return drawn
