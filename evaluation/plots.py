"""The figures of a suite, each as PNG and SVG: FD over training, FD against CLIP score, bars per variant, picture grid.

    python -m evaluation.plots --suite demo --records results/demo/metrics.jsonl --runs runs/demo \\
        --variants ablations/variants.yaml --out results/demo/figures

The same rows and files give the same bytes. A variant keeps its colour in every figure: its place in variants.yaml.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from evaluation import records
from evaluation.records import FILTERS, REAL, REFERENCES, UNTRAINED, Row
from evaluation.summary import Cell, Column, Summary, Variant, in_order, of_suite, read_variants, summarise
from evaluation.tables import heading
from gigagan import files
from gigagan.archive import read_batches, read_prompts
from gigagan.data.captions import one_line
from gigagan.errors import UserError, command
from gigagan.options import positive

# Okabe & Ito's palette, safe for colour-blind readers; yellow last, as it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPXh"
OF_REFERENCES = dict(zip((REAL, *FILTERS, UNTRAINED), "*<>x", strict=True))
STYLES = ("-", "--", ":", "-.")
GREY = "#555555"

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


class Looks:
    """Colour, marker and line of each variant, fixed by its place among all known ones."""

    def __init__(self, known: Mapping[str, Variant], names: Iterable[str]) -> None:
        every = in_order({*known, *names} - {*REFERENCES}, known)
        self._place = {variant.name: i for i, variant in enumerate(every)}

    def color(self, name: str) -> str:
        return GREY if name in REFERENCES else PALETTE[self._place[name] % len(PALETTE)]

    def marker(self, name: str) -> str:
        return OF_REFERENCES[name] if name in REFERENCES else MARKERS[self._place[name] % len(MARKERS)]

    def line(self, name: str) -> str:
        return STYLES[self._place[name] // len(PALETTE) % len(STYLES)]


def save(figure: Figure, folder: Path, name: str) -> None:
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        path = folder / f"{name}.{suffix}"
        with files.written_whole(path) as temporary:
            figure.savefig(temporary, dpi=160, bbox_inches="tight", pad_inches=0.2, metadata=metadata)
        print(path)


# ------------------------------------------------------------------------------------------------- FD over training


Progress = dict[str, dict[int, list[dict[str, float]]]]
"""``{variant: {seed: [{"kimg": thousands of training images, "fd": ...}, ...]}}``, snapshots in order."""


def _trained(rows: list[Row]) -> list[tuple[str, int]]:
    """The runs that the rows are of; the folder may hold others, of other variants and seeds."""
    return sorted({(row["variant"], row["seed"]) for row in rows if row["variant"] not in REFERENCES})


def read_progress(runs: Path, rows: list[Row]) -> Progress:
    """The scored snapshots of the runs that the rows are of.

    Raises:
        UserError: none of them has a progress.jsonl, or a line of one is broken.
    """
    progress: Progress = defaultdict(dict)
    for variant, seed in _trained(rows):
        path = runs / variant / f"seed{seed}" / "progress.jsonl"
        if not path.exists():
            continue
        try:
            lines = sorted(files.read_jsonl(path), key=lambda line: line["kimg"])
            points = [{k: float(line[k]) for k in ("kimg", "fd")} for line in lines]
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path}: a line is broken ({e!r}): score this run's snapshots again") from None
        if points:
            progress[variant][seed] = points
    if not progress:
        raise UserError(f"no scored snapshots: no run under {runs} has a progress.jsonl")
    return dict(progress)


def fd_over_training(progress: Progress, known: Mapping[str, Variant]) -> Figure:
    """One line per variant: the mean over seeds, with each seed as a faint line where there are several."""
    looks = Looks(known, progress)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for variant in in_order(progress, known):
        runs, name = progress[variant.name], variant.name
        by_kimg: dict[float, list[float]] = defaultdict(list)
        for points in runs.values():
            for point in points:
                by_kimg[point["kimg"]].append(point["fd"])
            if len(runs) > 1:
                axes.plot(*_xy(points), color=looks.color(name), lw=0.8, alpha=0.35)
        shared = [{"kimg": k, "fd": float(np.mean(v))} for k, v in sorted(by_kimg.items()) if len(v) == len(runs)]
        style = {"color": looks.color(name), "ls": looks.line(name), "marker": looks.marker(name), "ms": 4.5, "lw": 1.8}
        axes.plot(*_xy(shared), label=_counted(variant.label, len(runs)), **style)
    axes.set(xlabel="training images, thousands", ylabel="FD ↓", yscale="log")
    _plain_log(axes.yaxis)
    figure.legend(loc="outside right upper")
    return figure


def _xy(points: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    return [p["kimg"] for p in points], [p["fd"] for p in points]


def _counted(label: str, n: int) -> str:
    return f"{label} (n={n})" if n > 1 else label


def _plain_log(axis: Axis) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or evenly spaced where it spans less than a decade."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8) if high > 10 * low else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# ---------------------------------------------------------------------------------------------- from the result rows


def fd_vs_clip(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """FD (logarithmic) against CLIP score, one panel per FD protocol; a faint point per seed. None without both.

    The untrained generator is so far off that it would press all others together: it stands in the titles.
    """
    scores, distances = summary.find("clip_score"), summary.find("fd")
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
                figures = f"FD {fd.show(x.value.value)}, CLIP score {score.show(y.value.value)}"
                axes.set_title(f"untrained: {figures}", loc="left")
                continue
            look = {"color": looks.color(name), "marker": looks.marker(name)}
            for seed in x.by_seed.keys() & y.by_seed.keys() if x.value.n > 1 else ():
                axes.plot(x.by_seed[seed], y.by_seed[seed], ms=4, alpha=0.3, ls="", **look)
            x_error, y_error = (_half_widths(cell) if cell.over == "seeds" else None for cell in (x, y))
            look |= {"label": _counted(line.variant.label, line.n), "ms": 8, "ls": "", "elinewidth": 1.2, "capsize": 3}
            axes.errorbar(x.value.value, y.value.value, y_error, x_error, **look)
        axes.set(xlabel=f"FD ↓ ({heading(fd, summary.columns)[1]})", xscale="log")
        _plain_log(axes.xaxis)
    panels[0][0].set_ylabel("CLIP score ↑")
    of_seeds = any(cell.over == "seeds" for line in summary.lines for cell in line.cells.values())
    handles = panels[0][0].get_legend_handles_labels()
    title = "mean, 95 % interval over seeds" if of_seeds else None
    figure.legend(*handles, loc="outside right upper", title=title, alignment="left")
    return figure


def bars(summary: Summary, known: Mapping[str, Variant]) -> Figure | None:
    """A panel per metric, a bar per trained variant with its interval; real and untrained stand in the titles."""
    columns = [column for column in summary.columns if column.about.kind != "control"]
    lines = [line for line in summary.lines if not line.is_reference]
    columns = [column for column in columns if any(column in line.cells for line in lines)]
    if not columns:
        return None
    looks = Looks(known, (line.variant.name for line in lines))
    across = min(3, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(figsize=(2 + 3.1 * across, down * (1.1 + 0.32 * len(lines))), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches; end ticks of neighbours must not meet
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(columns) :]:
        axes.set_axis_off()
    for i, (axes, column) in enumerate(zip(panels.flat, columns, strict=False)):
        for place, line in enumerate(lines):
            cell = line.cells.get(column)
            if cell is None or not math.isfinite(cell.value.value):
                continue
            error = _half_widths(cell)
            axes.barh(
                place,
                cell.value.value * column.scale,
                color=looks.color(line.variant.name),
                xerr=None if error is None else error * column.scale,
                error_kw={"lw": 1.2, "capsize": 3, "ecolor": "#222222"},
            )
        labels = [_counted(line.variant.label, line.n) for line in lines] if i % across == 0 else []
        axes.set_yticks(range(len(lines)), labels or [""] * len(lines))
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(_title(column, summary), loc="left")
    over = sorted({line.cells[c].over for c in columns for line in lines if c in line.cells} - {""})
    notes = {
        "seeds": "training seeds",
        "captions": "the captions of one run",
        "images": "the images of one run",
        "repetitions": "measurements of one run",
    }
    if over:
        note = f"Intervals: 95 % over {' or '.join(notes[o] for o in over)}"
        figure.supxlabel(f"{note}." if "seeds" in over else f"{note}, not over seeds.", fontsize=9, color=GREY)
    return figure


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


def _half_widths(cell: Cell) -> np.ndarray | None:
    """[2, 1] distances of the interval's ends from the value, as matplotlib takes them; None without an interval."""
    if cell.value.low is None or cell.value.high is None:
        return None
    return np.array([[cell.value.value - cell.value.low], [cell.value.high - cell.value.value]]).clip(0)


# ------------------------------------------------------------------------------------------------------ picture grid


def read_grid(runs: Path, rows: list[Row], n: int) -> tuple[list[str], dict[str, np.ndarray], int]:
    """The first ``n`` captions, ``{variant: uint8 [n, H, W, 3]}`` for real images, filters and variants, and the seed.

    The seed is the lowest training seed that all variants with rows have samples of.

    Raises:
        UserError: an image set is missing, or two of them differ in captions or noise.
    """
    seeds: dict[str, set[int]] = defaultdict(set)
    for name, seed in _trained(rows):
        seeds[name].add(seed)
    shared = set.intersection(*seeds.values()) if seeds else set()
    if not shared:
        raise UserError("no training seed is common to all variants: a grid compares pictures of one seed")
    names, seed = sorted(seeds), min(shared)
    filters = {name: runs / name / "samples.zip" for name in FILTERS if any(row["variant"] == name for row in rows)}
    paths = {REAL: runs / "real.zip"} | filters | {name: runs / name / f"seed{seed}" / "samples.zip" for name in names}

    prompts = {name: read_prompts(path)[:n] for name, path in paths.items()}
    captions = [prompt["caption"] for prompt in prompts[REAL]]
    noise = None
    for name in names:
        if [prompt["caption"] for prompt in prompts[name]] != captions:
            raise UserError(f"{paths[name]} has other captions than {paths[REAL]}: sample {name} again")
        noise = noise or (name, [prompt["seed"] for prompt in prompts[name]])
        if [prompt["seed"] for prompt in prompts[name]] != noise[1]:
            raise UserError(f"{paths[name]} was sampled with other seeds than {noise[0]}: sample one of them again")
    return captions, {name: next(read_batches(path, len(captions)))[0] for name, path in paths.items()}, seed


def grid(captions: list[str], images: Mapping[str, np.ndarray], known: Mapping[str, Variant], seed: int) -> Figure:
    """Rows: captions; columns: the real image, then the variants. Pixels are enlarged as they are, never smoothed."""
    variants = in_order(images, known)
    side, words, head, foot = 1.15, 2.1, 0.65, 0.3  # inches: a picture, the captions' column, the headings, the note
    width, height = words + side * len(variants), head + side * len(captions) + foot
    figure = Figure(figsize=(width, height))
    for row, caption in enumerate(captions):
        top = height - head - side * row
        text = figure.text(0.02 / width, (top - side / 2) / height, "", va="center", fontsize=9)
        for letters in (27, 18, 12):  # some are wider than others
            lines = textwrap.wrap(one_line(caption), letters, max_lines=6, placeholder=" …")
            text.set_text("\n".join(lines))
            if text.get_window_extent().x1 < words * figure.dpi:
                break
        for column, variant in enumerate(variants):
            box = (words + side * column, top - side + 0.04, side - 0.06, side - 0.06)
            axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            axes.imshow(_enlarged(images[variant.name][row]), interpolation="nearest")
            axes.set_axis_off()
    for column, variant in enumerate(variants):
        label = "\n".join(textwrap.wrap(variant.label, 14, max_lines=3))
        x = (words + side * (column + 0.5) - 0.03) / width
        figure.text(x, (height - head + 0.06) / height, label, ha="center", va="bottom", fontsize=9)
    note = f"The first {len(captions)} held-out captions, training seed {seed}, the same noise for all; nothing picked."
    figure.text(0.02 / width, 0.08 / height, note, fontsize=8, color=GREY)
    return figure


def _enlarged(image: np.ndarray, least: int = 160) -> np.ndarray:
    """By a whole factor to at least ``least`` px: SVG viewers smooth what they enlarge themselves."""
    factor = math.ceil(least / image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.plots", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", required=True)
    parser.add_argument("--records", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--runs", required=True, metavar="FOLDER", help="runs/<suite>")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml: labels and colours")
    parser.add_argument("--prompts", type=positive, default=8, help="rows of the picture grid: first held-out captions")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    args = parser.parse_args()

    known, runs, out = read_variants(args.variants), Path(args.runs), Path(args.out)
    rows = of_suite(records.read(args.records), args.suite)
    summary = summarise(rows, args.suite, known)
    captions, images, seed = read_grid(runs, rows, args.prompts)
    progress = read_progress(runs, rows)

    drawn = {
        "fd_over_training": fd_over_training(progress, known),
        "fd_vs_clip": fd_vs_clip(summary, known),
        "bars": bars(summary, known),
        "grid": grid(captions, images, known, seed),
    }
    for name, figure in drawn.items():
        if figure is None:
            print(f"{name}: the rows lack its metrics")
        else:
            save(figure, out, name)


if __name__ == "__main__":
    command(main)
