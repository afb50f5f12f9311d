"""Figures of what the paper prints: its ablation ladder, and quality against inference time and against steps.

    python -m evaluation.paper_figures ladder --records results/records/*.jsonl \\
        --variants ablations/variants.yaml --out results/paper/figures

Published values are those of published.yaml and are drawn hollow; ours, rows of records under a protocol that
published.yaml names for the table, are filled. Below them, in panels of its own, a suite that compares by itself.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation import published, records, steps, tradeoffs
from evaluation.looks import GREY, Looks, Point, counted, label_points, note, save, settle
from evaluation.paper_tables import Sheet
from evaluation.published import SURE, Entry, Number, Table
from evaluation.records import Row
from evaluation.summary import Variant, read_variants
from evaluation.tradeoffs import Panel, Spot
from gigagan.errors import command

KINDS = {"Diff": ("s", "diffusion"), "AR": ("^", "autoregressive"), "GAN": ("D", "GAN"), "": ("s", "")}
"""Marker of each type of model that the paper tells apart, and its name."""

BELOW = 0.3
"""How far below what is published ours stands, in rows."""

HOLLOW = {"color": "black", "mfc": "white", "mew": 1.4}
STEP = {"marker": "o", "ms": 7, "ls": "-", "lw": 1.4} | HOLLOW
BRANCH = {"marker": "D", "ms": 6, "ls": ":", "lw": 1.2} | HOLLOW

# ------------------------------------------------------------------------------------------------------------- ladder


def rungs(table: Table) -> tuple[list[int], list[tuple[int, int]]]:
    """Places of the rows that are steps of the ladder, and (step that it leaves, branch) of each side branch."""
    steps: list[int] = []
    branches = []
    for place, entry in enumerate(table.rows):
        if entry.branch and steps:
            branches.append((steps[-1], place))
        else:
            steps.append(place)
    return steps, branches


def ladder(rows: list[Row], known: Mapping[str, Variant], table: Table | None = None) -> Figure:
    """Table 1 from top to bottom, a panel for each score; side branches hang on the step that they leave."""
    table = table or published.table("table1")
    sheet = Sheet(table, rows)
    metrics = [metric for metric in sheet.metrics if published.METRICS[metric].kind == "quality"]
    looks = Looks(known, (row["variant"] for row in rows))
    figure = Figure(figsize=(3.4 + 3.6 * len(metrics), 1.5 + 0.4 * len(table.rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1)
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    around = {}
    for axes, metric in zip(panels, metrics, strict=True):
        _published(axes, table, metric)
        around[metric] = _ours(axes, sheet, metric, looks)
        of = published.METRICS[metric]
        axes.set_title(f"{sheet.heads[metric]}\u00a0{'↑' if of.higher_is_better else '↓'}", loc="left")
        axes.margins(x=0.16)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_yticks(range(len(table.rows)), [_label(entry) for entry in table.rows])
    panels[0].set_ylim(len(table.rows) - 0.4, -0.6)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    figure.legend(handles=_legend(sheet, looks), loc="outside upper right", ncols=3)
    note(figure, *_words(table, metrics, sheet))
    settle(figure)
    for axes, metric in zip(panels, metrics, strict=True):
        found = [(number.value, place, number.printed) for place, number in _numbers(table, metric)]
        others, lines = around[metric]
        points = [(value, place) for value, place, _ in found]
        label_points(axes, points, [text for *_, text in found], [*_lines(table, metric), *lines], others)
    return figure


def _numbers(table: Table, metric: str) -> list[tuple[int, Number]]:
    found = ((place, entry.numbers.get(metric)) for place, entry in enumerate(table.rows))
    return [(place, number) for place, number in found if number]


def _lines(table: Table, metric: str) -> list[list[Point]]:
    """The line of the ladder's steps, then that of each side branch; (value, row) at every corner."""
    values = {place: number.value for place, number in _numbers(table, metric)}
    steps, branches = rungs(table)
    return [[(values[place], place) for place in line if place in values] for line in (steps, *branches)]


def _published(axes: Axes, table: Table, metric: str) -> None:
    steps, *branches = _lines(table, metric)
    axes.plot(*zip(*steps, strict=True), **STEP, zorder=2)
    for branch in branches:
        axes.plot(*zip(*branch, strict=True), **BRANCH, markevery=[-1], zorder=1.9)


def _ours(axes: Axes, sheet: Sheet, metric: str, looks: Looks) -> tuple[list[Point], list[Sequence[Point]]]:
    """A line for each suite of ours, and below each row's own line a filled point; returns points and lines."""
    points: list[Point] = []
    lines: list[Sequence[Point]] = []
    for block in sheet.blocks:
        for place in (place for place in block.places if place.metric == metric):
            found = [(at + BELOW, entry, sheet.ours(block, place, entry)) for at, entry in enumerate(sheet.table.rows)]
            cells = [(at, entry, cell) for at, entry, cell in found if cell]
            line = [(cell.value.value, at) for at, entry, cell in cells if not entry.branch]
            if line:
                axes.plot(*zip(*line, strict=True), color="#888888", lw=1, zorder=1.4)
                lines.append(line)
            for at, entry, cell in cells:
                spot = Spot(
                    (cell.value.value, at), "", looks.point(entry.ours[0]), {"xerr": tradeoffs.half_widths(cell)}
                )
                axes.errorbar(*spot.at, **spot.errors, **spot.look, ms=7, elinewidth=1, capsize=3)
                points.append(spot.at)
                lines += spot.whiskers()
    return points, lines


def _label(entry: Entry) -> str:
    return f"{entry.label}, side branch" if entry.branch else entry.label


def _legend(sheet: Sheet, looks: Looks) -> list[Line2D]:
    handles = [
        Line2D([], [], **STEP, label="published"),
        Line2D([], [], **BRANCH, label="published, side branch"),
    ]
    for block in sheet.blocks:
        lines = [line for entry in sheet.table.rows if (line := block.line(entry))]
        if lines:
            look = looks.point(lines[-1].variant.name)
            label = counted(block.title, max(line.n for line in lines))
            handles.append(Line2D([], [], **look, ms=7, mec=look["color"], ls="-", lw=1, label=label))
    return handles


def _words(table: Table, metrics: list[str], sheet: Sheet) -> list[str]:
    made = "; ".join(f"{sheet.heads[metric]}: {table.protocols[metric]}" for metric in metrics)
    sure = " and ".join(SURE[reading] for reading in sheet.readings)
    first = f"Hollow: as published in {table.table} of {table.source}, {sure}. {made}."
    if sheet.summaries:
        return [first, "Filled: ours, 95 % intervals; no test compares them with the published values."]
    return [first, f"Ours: none so far, no row of records is of protocol {' or '.join(table.ours)}."]


# --------------------------------------------------------------------------------------- quality against inference time


def quality_vs_latency(known: Mapping[str, Variant], names: tuple[str, ...] = ("table2", "table3")) -> Figure:
    """What the paper prints of quality and inference time: a panel for each of its tables and scores."""
    looks = Looks(known, ())
    tables = [published.table(name) for name in names]
    panels = [
        _published_panel(table, head, metric, looks)
        for table in tables
        for head, metric in (table.columns or {}).items()
        if metric in tradeoffs.QUALITY
    ]
    made = dict.fromkeys(of.protocols["inference_s"] for of in tables)
    shown = {entry.kind for table in tables for entry in table.rows if not entry.ours and entry.kind}
    kinds = [f"{name} {'□△◇'['s^D'.index(marker)]}" for kind, (marker, name) in KINDS.items() if kind in shown]
    sources = " and ".join(table.table for table in tables)
    return tradeoffs.draw(
        [panels],
        f"All values as published in {sources} of {tables[0].source}; none is ours. Grey: {', '.join(kinds)}."
        " Dashed: the quality that so much time buys.",
        f"Times are {'; '.join(made)}: papers copy them from one another.",
    )


def _published_panel(table: Table, head: str, metric: str, looks: Looks) -> Panel:
    spots = []
    for entry in table.rows:
        time, quality = entry.numbers.get("inference_s"), entry.numbers.get(metric)
        if time and quality:
            look = looks.point(entry.ours[0]) if entry.ours else {"color": GREY, "marker": KINDS[entry.kind][0]}
            spots.append(Spot((time.value, quality.value), entry.label, look, hollow=True))
    better = bool(published.METRICS[metric].higher_is_better)
    data = ", ".join(dict.fromkeys(entry.data for entry in table.rows))
    title = f"published, {table.table}: {head} on {data}"
    return Panel(title, f"{head} {'↑' if better else '↓'}", "inference time, s ↓ (logarithmic)", better, spots)


# ----------------------------------------------------------------------------------------------- quality against steps


def quality_vs_steps(
    rows: list[Row], known: Mapping[str, Variant], notes: Mapping[str, str] | None = None, name: str = "table3"
) -> Figure:
    """A table's scores over steps of sampling, with ours under the same protocols; below, the suite of ours that makes
    the same comparison by itself, where it has rows."""
    sheet = Sheet(published.table(name), rows, notes, known)
    looks = Looks(known, (row["variant"] for row in rows))
    metrics = [metric for metric in sheet.metrics if metric in tradeoffs.QUALITY]
    panels = [[_over_steps(sheet, metric, looks) for metric in metrics]]
    if controlled := sheet.controlled and sheet.controlled.summary:
        own = steps.panels(controlled, looks)
        panels.append([replace(panel, title=f"ours, {controlled.suite} ({panel.title})") for panel in own])
    return steps.draw(panels, *_words(sheet.table, metrics, sheet), _of_controlled(sheet))


def _over_steps(sheet: Sheet, metric: str, looks: Looks) -> steps.Panel:
    of = published.METRICS[metric]
    kin: dict[str, list[tuple[Entry, Number]]] = {}
    for entry in sheet.table.rows:
        if entry.steps and (number := entry.numbers.get(metric)):
            kin.setdefault(re.sub(r"-\d+$", "", entry.method), []).append((entry, number))
    tracks = []
    for method, found in kin.items():
        found = sorted(found, key=lambda one: one[0].steps or 0)
        look = looks.point(found[0][0].ours[0]) if found[0][0].ours else {"color": GREY, "marker": "s"}
        spots = [Spot((float(entry.steps or 0), number.value), "", {}) for entry, number in found]
        tracks.append(steps.Track(f"{method}, published", {**look, "ls": "-" if len(spots) > 1 else ""}, spots, True))
    for block in (block for block in sheet.blocks if block.summary and not block.controlled):
        for column in (place.column for place in block.places if place.metric == metric and place.column):
            lines = [line for line in block.summary.lines if line.steps]
            ours = steps.tracks(lines, column, looks)
            tracks += [replace(track, label=f"{track.label}, {block.title}") for track in ours]
    arrow = "↑" if of.higher_is_better else "↓"
    title = f"{sheet.table.table}: {sheet.heads[metric]}"
    return steps.Panel(title, f"{sheet.heads[metric]}\u00a0{arrow}", tracks)


def _of_controlled(sheet: Sheet) -> str:
    of = sheet.table.controlled
    return f"Below, suite {of.suite}: {of.note}" if of and sheet.controlled else ""


FIGURES = ("ladder", "quality_vs_latency", "quality_vs_steps")


def draw(rows: list[Row], known: Mapping[str, Variant]) -> dict[str, Figure]:
    """Every figure of FIGURES."""
    drawn = (ladder(rows, known), quality_vs_latency(known), quality_vs_steps(rows, known))
    return dict(zip(FIGURES, drawn, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper_figures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--records", nargs="*", default=[], metavar="FILE", help="rows of ours, of any suites")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml: colours")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()

    known = read_variants(args.variants)
    save(draw(records.read(args.records), known)[args.figure], args.out, args.figure)


if __name__ == "__main__":
    command(main)
