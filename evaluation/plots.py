"""The figures of a suite, each as PNG and SVG: picture grid, bars, training curves, and what compares variants.

    python -m evaluation.plots --suite demo --records results/demo/metrics.jsonl --runs runs/demo \\
        --variants ablations/variants.yaml --out results/demo/figures

The same rows and files give the same bytes. A variant keeps its colour in every figure: its place in variants.yaml.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from evaluation import records
from evaluation.looks import GREY, INK, Looks, counted, far_apart, intervals, note, plain_log, save, widen
from evaluation.plotted import CAPTIONS, Pictures, Point, Progress, read_grid, read_progress
from evaluation.records import UNTRAINED
from evaluation.steps import quality_vs_steps
from evaluation.summary import Cell, Column, Line, Summary, Variant, in_order, of_suite, read_variants, summarise
from evaluation.tables import heading
from evaluation.tradeoffs import half_widths, quality_vs_latency
from gigagan.data.captions import one_line
from gigagan.errors import command
from gigagan.options import positive

NAMES = ("grid", "bars", "leave_one_out", "training_curves", "fd_vs_clip", "quality_vs_latency", "quality_vs_steps")
"""The figures, in the order in which pages show them. One that compares variants needs two of them."""


# -------------------------------------------------------------------------------------------------- training curves


def training_curves(progress: Progress, known: Mapping[str, Variant]) -> Figure:
    """FD and CLIP score of the snapshots, a line per variant: the mean over seeds, with each seed as a faint line where
    there are several."""
    looks = Looks(known, progress)
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, metric in zip(panels, ("fd", "clip_score"), strict=True):
        for variant in in_order(progress, known):
            runs, name = progress[variant.name], variant.name
            by_kimg: dict[float, list[float]] = defaultdict(list)
            for points in runs.values():
                for point in points:
                    by_kimg[point["kimg"]].append(point[metric])
                if len(runs) > 1:
                    axes.plot(*_xy(points, metric), color=looks.color(name), lw=0.8, alpha=0.35)
            shared = [{"kimg": k, metric: float(np.mean(v))} for k, v in sorted(by_kimg.items()) if len(v) == len(runs)]
            style = {**looks.point(name), "ls": looks.line(name), "ms": 5, "lw": 1.8}
            axes.plot(*_xy(shared, metric), label=counted(variant.label, len(runs)), **style)
        axes.set(xlabel="training images, thousands")
    panels[0].set(ylabel="FD ↓ (judge's features)", yscale="log")
    plain_log(panels[0].yaxis)
    panels[1].set_ylabel("CLIP score ↑")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _xy(points: list[Point], metric: str) -> tuple[list[float], list[float]]:
    return [p["kimg"] for p in points], [p[metric] for p in points]


# ---------------------------------------------------------------------------------------------- from the result rows


def fd_vs_clip(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """FD (logarithmic) against CLIP score, one panel per FD protocol; a faint point per seed. None without both.

    The untrained generator is so far off that it would press all others together: it stands in the titles.
    """
    scores, distances = summary.find("clip_score"), summary.find("fd") + summary.find("fid")
    if not scores or not distances:
        return None
    looks = Looks(known, (line.variant.name for line in summary.lines))
    figure = Figure(figsize=(2.6 + 3.8 * len(distances), 4.2), layout="constrained")
    panels = figure.subplots(1, len(distances), squeeze=False, sharey=True)
    for axes, fd in zip(panels[0], distances, strict=True):
        score = next((c for c in scores if c.protocol_sha == fd.protocol_sha), scores[0])
        for line in summary.lines:
            x, y = line.cells.get(fd), line.cells.get(score)
            name = line.variant.name
            if not (x and y and _positive(x)):
                continue
            if name == UNTRAINED:
                figures = f"{fd.about.label} {fd.show(x.value.value)}, CLIP score {score.show(y.value.value)}"
                axes.set_title(f"untrained: {figures}", loc="left")
                continue
            look = looks.point(name)
            for seed in x.by_seed.keys() & y.by_seed.keys() if x.value.n > 1 else ():
                axes.plot(x.by_seed[seed], y.by_seed[seed], ms=4, alpha=0.3, ls="", **look)
            x_error, y_error = (half_widths(cell) if cell.over == "seeds" else None for cell in (x, y))
            look |= {"label": counted(line.variant.label, line.n), "ms": 8, "ls": "", "elinewidth": 1.2, "capsize": 3}
            axes.errorbar(x.value.value, y.value.value, y_error, x_error, **look)
        axes.set(xlabel=f"{fd.about.label} ↓ ({heading(fd, summary.columns)[1]})", xscale="log")
        low, high = axes.get_xlim()
        widen(axes.set_xlim, (low, high), 0.25 * low)
        plain_log(axes.xaxis)
    panels[0][0].set_ylabel("CLIP score ↑")
    widen(panels[0][0].set_ylim, panels[0][0].get_ylim(), 0.01)
    of_seeds = any(cell.over == "seeds" for line in summary.lines for cell in line.cells.values())
    handles = panels[0][0].get_legend_handles_labels()
    title = "mean, 95 % interval over seeds" if of_seeds else None
    figure.legend(*handles, loc="outside right upper", title=title, alignment="left")
    return figure


def bars(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """A panel per metric, a bar per trained variant with its interval; real and untrained stand in the titles.

    Where values differ by more than ten times, points on a logarithmic axis: small ones would be no bars at all.
    """
    columns = [column for column in summary.columns if column.about.kind != "control"]
    lines = [line for line in summary.lines if not line.is_reference]
    columns = [column for column in columns if any(column in line.cells for line in lines)]
    if not columns:
        return None
    looks = Looks(known, (line.variant.name for line in summary.lines))
    figure, panels = _panels(len(columns), len(lines))
    for i, (axes, column) in enumerate(zip(panels, columns, strict=True)):
        cells = [(place, line.variant.name, line.cells.get(column)) for place, line in enumerate(lines)]
        found = [(place, name, cell) for place, name, cell in cells if cell and math.isfinite(cell.value.value)]
        far = far_apart([cell.value.value for *_, cell in found])
        for place, name, cell in found:
            error = half_widths(cell)
            error = None if error is None else error * column.scale
            if far:
                style = {"ms": 6, "capsize": 3, "elinewidth": 1.2, **looks.point(name)}
                axes.errorbar(cell.value.value * column.scale, place, xerr=error, **style)
            else:
                _bar(axes, place, cell.value.value * column.scale, error, looks.color(name))
        _rows(axes, [counted(line.variant.label, line.n) for line in lines], labelled=i % ACROSS == 0)
        if far:
            axes.set_xscale("log")
            axes.margins(x=0.1)
            plain_log(axes.xaxis)
            axes.set_xlabel("logarithmic", fontsize=9)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(_title(column, summary), loc="left")
    note(figure, intervals(line.cells[c].over for c in columns for line in lines if c in line.cells))
    return figure


ACROSS = 3
"""Panels side by side."""


def _panels(n: int, rows: int) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` panels with so many rows each."""
    across = min(ACROSS, n)
    down = math.ceil(n / across)
    figure = Figure(figsize=(2 + 3.1 * across, down * (1.1 + 0.32 * rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches; end ticks of neighbours must not meet
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in panels[n:]:
        axes.set_axis_off()
    return figure, panels[:n]


def _rows(axes: Axes, labels: list[str], labelled: bool) -> None:
    axes.set_yticks(range(len(labels)), labels if labelled else [""] * len(labels))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _bar(axes: Axes, place: int, value: float, error: np.ndarray | None, color: str) -> None:
    """A bar with its interval, which is cased in white so that it is seen on dark bars, too."""
    style = {"lw": 1.2, "capsize": 3, "ecolor": INK}
    bar = axes.barh(place, value, color=color, edgecolor=INK, linewidth=0.5, xerr=error, error_kw=style)
    if bar.errorbar:
        _, caps, lines = bar.errorbar.lines
        for part in (*caps, *lines):
            part.set_path_effects([withStroke(linewidth=2.6, foreground="white")])


def leave_one_out(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """A panel per score, in it each ablated variant's difference to the full model, paired by seed. None where nothing
    is compared.

    Bars with intervals from two seeds on. One seed gives a hollow point, as no chance can be told from it.
    """
    lines = [line for line in summary.ablated if any(cell.difference for cell in line.cells.values())]
    columns = [column for column in summary.columns if column.about.kind == "quality"]
    columns = [c for c in columns if any(c in line.cells and line.cells[c].difference for line in lines)]
    if summary.full is None or not columns:
        return None
    looks = Looks(known, (line.variant.name for line in summary.lines))
    figure, panels = _panels(len(columns), len(lines))
    for i, (axes, column) in enumerate(zip(panels, columns, strict=True)):
        for place, line in enumerate(lines):
            _difference(axes, place, line, column, looks)
        axes.axvline(0, color="black", lw=1, zorder=1.2)
        axes.margins(x=0.12)
        _rows(axes, [line.variant.label for line in lines], labelled=i % ACROSS == 0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        name, below = heading(column, summary.columns)
        several = below and len(summary.find(column.metric)) > 1
        full = column.show(summary.full.cells[column].value.value) if column in summary.full.cells else "none"
        words = f"{name} ({below})" if several else name
        axes.set_title("\n".join([*textwrap.wrap(words, 34), f"{summary.full.variant.label}\u00a0{full}"]), loc="left")
        axes.set_xlabel("worse ←   → better" if column.about.higher_is_better else "better ←   → worse", fontsize=9)
    found = [cell.difference for line in lines for c in columns if (cell := line.cells.get(c)) and cell.difference]
    seeds = sorted({difference.n for difference in found})
    counts = " to ".join(map(str, dict.fromkeys(n for n in (*seeds[:1], *seeds[-1:]) if n > 1)))
    note(
        figure,
        f"Differences to {summary.full.variant.label}, paired by training seed.",
        "Hollow: n=1, which cannot be told from chance, however large the difference." if 1 in seeds else "",
        f"Bars: means over n={counts} seeds with 95 % t-intervals; *: p < 0.05 by a sign-flip test, Holm-corrected over"
        " the variants of a panel."
        if counts
        else "",
    )
    return figure


def _difference(axes: Axes, place: int, line: Line, column: Column, looks: Looks) -> None:
    cell = line.cells.get(column)
    if cell is None or cell.difference is None or not math.isfinite(cell.difference.value):
        return
    difference, name = cell.difference, line.variant.name
    value = difference.value * column.scale
    if difference.n == 1:
        axes.plot([0, value], [place, place], color=looks.color(name), lw=1)
        hollow = {"marker": looks.marker(name), "mfc": "white", "mec": looks.color(name), "mew": 1.6, "ms": 7}
        axes.plot(value, place, ls="", **hollow)
        return
    error = None
    if difference.low is not None and difference.high is not None:
        ends = np.array([[difference.value - difference.low], [difference.high - difference.value]])
        error = ends * column.scale
    _bar(axes, place, value, error, looks.color(name))
    if cell.significant:
        end = value if error is None else value + (error[1, 0] if value > 0 else -error[0, 0])
        side = 1 if value > 0 else -1
        at = {
            "xytext": (side * 5, 0),
            "textcoords": "offset points",
            "va": "center",
            "ha": "left" if value > 0 else "right",
        }
        axes.annotate("*", (end, place), **at)


def _title(column: Column, summary: Summary) -> str:
    name, below = heading(column, summary.columns)
    references = [
        f"{line.variant.name}\u00a0{column.show(line.cells[column].value.value)}"  # not to be torn apart
        for line in summary.lines
        if line.is_reference and column in line.cells
    ]
    first = f"{name} ({below})" if below and len(summary.find(column.metric)) > 1 else name
    return "\n".join([*textwrap.wrap(first, 34), *textwrap.wrap(", ".join(references), 40)])


def _positive(cell: Cell) -> bool:
    return math.isfinite(cell.value.value) and cell.value.value > 0


# ------------------------------------------------------------------------------------------------------ picture grid


MOST = 12
"""Pictures side by side; more would be too small on a page, and go on below."""


def grid(captions: list[str], images: Mapping[str, np.ndarray], known: Mapping[str, Variant], seed: int) -> Figure:
    """Rows: captions; columns: the real image, then the variants. Pixels are enlarged as they are, never smoothed."""
    variants = in_order(images, known)
    blocks = math.ceil(len(variants) / MOST)
    across = math.ceil(len(variants) / blocks)
    side, words, head, foot = 1.15, 2.1, 0.65, 0.3  # inches: a picture, the captions' column, the headings, the note
    block = head + side * len(captions)
    width, height = words + side * across, block * blocks + foot
    figure = Figure(figsize=(width, height))
    for top in (height - block * turn for turn in range(blocks)):
        for row, caption in enumerate(captions):
            text = figure.text(0.02 / width, (top - head - side * (row + 0.5)) / height, "", va="center", fontsize=9)
            for letters in (27, 18, 12):  # some are wider than others
                lines = textwrap.wrap(one_line(caption), letters, max_lines=6, placeholder=" …")
                text.set_text("\n".join(lines))
                if text.get_window_extent().x1 < words * figure.dpi:
                    break
    for place, variant in enumerate(variants):
        turn, column = divmod(place, across)
        left, top = words + side * column, height - block * turn - head
        for row in range(len(captions)):
            box = (left, top - side * (row + 1) + 0.04, side - 0.06, side - 0.06)
            axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            axes.imshow(_enlarged(images[variant.name][row]), interpolation="nearest")
            axes.set_axis_off()
        label = "\n".join(textwrap.wrap(variant.label, 14, max_lines=3))
        x = (left + side / 2 - 0.03) / width
        figure.text(x, (top + 0.06) / height, label, ha="center", va="bottom", fontsize=9)
    note = f"The first {len(captions)} held-out captions, training seed {seed}, the same noise for all; nothing picked."
    figure.text(0.02 / width, 0.08 / height, note, fontsize=8, color=GREY)
    return figure


def _enlarged(image: np.ndarray, least: int = 160) -> np.ndarray:
    """By a whole factor to at least ``least`` px: SVG viewers smooth what they enlarge themselves."""
    factor = math.ceil(least / image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def draw(
    summary: Summary, known: Mapping[str, Variant], progress: Progress | None, pictures: Pictures | None
) -> dict[str, Figure | None]:
    """Every figure of NAMES; None for one that its rows, curves or pictures do not give."""
    drawn = {
        "grid": grid(pictures.captions, pictures.images, known, pictures.seed) if pictures else None,
        "bars": bars(summary, known),
        "leave_one_out": leave_one_out(summary, known),
        "training_curves": training_curves(progress, known) if progress else None,
        "fd_vs_clip": fd_vs_clip(summary, known),
        "quality_vs_latency": quality_vs_latency(summary, known),
        "quality_vs_steps": quality_vs_steps(summary, known),
    }
    return {name: drawn[name] for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.plots", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", required=True)
    parser.add_argument("--records", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--runs", required=True, metavar="FOLDER", help="runs/<suite>")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml: labels and colours")
    parser.add_argument(
        "--prompts", type=positive, default=CAPTIONS, help="rows of the picture grid: first held-out captions"
    )
    parser.add_argument("--figures", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="only these")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    args = parser.parse_args()

    known, runs, out = read_variants(args.variants), Path(args.runs), Path(args.out)
    rows = of_suite(records.read(args.records), args.suite)
    summary = summarise(rows, args.suite, known)
    pictures = read_grid(runs, rows, args.prompts) if "grid" in args.figures else None
    progress = read_progress(runs, rows) if "training_curves" in args.figures else None
    for name, figure in draw(summary, known, progress, pictures).items():
        if name not in args.figures:
            continue
        if figure is None:
            print(f"{name}: the rows lack what it shows")
        else:
            save(figure, out, name)


if __name__ == "__main__":
    command(main)
