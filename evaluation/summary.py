"""Rows to what tables, figures and the report show: one line per variant, one column per metric and protocol."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation import stats
from evaluation.declared import METRICS, Metric
from evaluation.records import FILTERS, REAL, REFERENCES, UNTRAINED, Row, describe
from gigagan import files
from gigagan.errors import UserError, nearest

FULL = "gigagan"
"""The full model, which every other variant is compared with."""

COSTS: dict[str, tuple[str, Callable[[Row], float | None], int]] = {
    "params_m": ("parameters, M", lambda row: row["params_m"], 4),
    "kimg": ("kimg", lambda row: row["kimg"], 6),
    "minutes": ("training, min", lambda row: row["seconds"] and row["seconds"] / 60, 3),
    # Rows of a snapshot repeat what the whole run took, and have no seconds.
    "train_tflop": ("training, TFLOP", lambda row: row["seconds"] and row.get("train_tflop"), 5),
    "steps": ("steps", lambda row: row.get("steps"), 4),
    "nfe": ("network evaluations", lambda row: row.get("nfe"), 4),
}
"""The last columns of tables: what the runs took. Name, heading, value of a row, digits shown."""
TELLING = ("train_tflop", "steps", "nfe")
"""Those that stand only in tables whose runs differ in them."""

BEST = "each at its best batch"
"""In the place of a batch: of a sweep over batches, the one at which a model is fastest, which its cell names."""

_LABELS = {REAL: "Real images", UNTRAINED: "Untrained generator", "bicubic": "Bicubic", "lanczos": "Lanczos"}


@dataclass(frozen=True)
class Variant:
    """What ablations/variants.yaml says of a variant to readers."""

    name: str
    label: str
    expect: str = ""  # what the paper would expect of it
    family: str = ""  # of a rival: whose configuration it is an entry of


@dataclass(frozen=True)
class Column:
    """One metric under one protocol; speed also on one device and setting. ``decimals`` is for display."""

    metric: str
    protocol: str
    protocol_sha: str
    setting: tuple[str, ...] = ()
    decimals: int = 3

    @property
    def about(self) -> Metric:
        return METRICS[self.metric]

    @property
    def scale(self) -> int:
        """From the stored value to the shown one."""
        return 100 if self.about.unit == "%" else 1

    @property
    def arrow(self) -> str:
        return {True: "↑", False: "↓", None: ""}[self.about.higher_is_better]

    def show(self, value: float | None, sign: bool = False) -> str:
        """A value as text in the column's unit and decimals, with a true minus; no value is a dash."""
        if value is None:
            return "–"
        text = f"{value * self.scale:{'+' if sign else ''},.{self.decimals}f}"
        return text.replace("-", "−")


@dataclass(frozen=True)
class Cell:
    """One variant in one column."""

    value: stats.Mean
    over: str  # what the interval is over: "seeds", or "captions", "images" or "repetitions" of one run, or "" for none
    by_seed: dict[int | None, float]
    difference: stats.Difference | None = None  # to the full model, paired by seed
    p: float = 1.0  # of the difference, Holm-corrected over the variants of the column
    p90: float | None = None  # of a speed: the 90th percentile, over seeds its mean
    marked: bool = False  # the network that scores has trained the run, too
    batch: int | None = None  # of a throughput, at which it is best

    @property
    def significant(self) -> bool:
        return self.p < stats.ALPHA

    def better(self, column: Column) -> bool:
        assert self.difference is not None
        return (self.difference.value > 0) is column.about.higher_is_better


@dataclass(frozen=True)
class Line:
    variant: Variant
    n: int  # training seeds; 0 for real images
    costs: dict[str, str]  # by COSTS
    cells: dict[Column, Cell]
    family: str = FULL
    steps: int | None = None  # of sampling, where all its rows that say it agree

    @property
    def is_reference(self) -> bool:
        return self.variant.name in REFERENCES


@dataclass(frozen=True)
class Summary:
    suite: str
    rows: list[Row]
    columns: list[Column]
    lines: list[Line]
    note: str = ""  # what a reader must know of the suite's data

    @property
    def full(self) -> Line | None:
        return next((line for line in self.lines if line.variant.name == FULL), None)

    @property
    def compared(self) -> list[Line]:
        return [line for line in self.lines if line is not self.full and not line.is_reference]

    @property
    def ablated(self) -> list[Line]:
        """What is compared and a variant of the full model, not a rival of its."""
        return [line for line in self.compared if line.family == FULL]

    @property
    def awaited(self) -> list[Line]:
        """What is compared and has, or should have, an expectation of the paper's."""
        return [line for line in self.compared if line in self.ablated or line.variant.expect]

    @property
    def costs(self) -> list[str]:
        """The names of the costs that its tables show."""
        known = {name: {line.costs[name] for line in self.lines if not line.is_reference} - {"–"} for name in COSTS}
        return [name for name in COSTS if name not in TELLING or len(known[name]) > 1]

    def find(self, metric: str) -> list[Column]:
        return [column for column in self.columns if column.metric == metric]


MODELS, RIVALS, PRETRAINED, SUITES = "models.yaml", "rivals.yaml", "pretrained.yaml", "suites.yaml"
"""Beside variants.yaml: the paper's models, the rivals and the pretrained models, which may be runs of their own names,
and the suites."""


def read_variants(path: str) -> dict[str, Variant]:
    """Labels and expectations of all variants, in the file's order, then of the models, the rivals and the pretrained
    models that stand beside them; an empty path knows none.

    Raises:
        UserError: the file is missing or is not a mapping of variants.
    """
    if not path:
        return {}
    if not Path(path).is_file():
        raise UserError(f"no such file: {path}")
    beside = [Path(path).with_name(name) for name in (MODELS, RIVALS, PRETRAINED)]
    entries = [files.read_yaml(file) for file in (path, *beside) if Path(file).is_file()]
    if not all(isinstance(found, dict) for found in entries):
        raise UserError(f"{path} must map each variant's name to its parent, overrides, label and expect")
    given = {name: fields or {} for found in entries for name, fields in found.items()}
    return {
        name: Variant(name, of.get("label") or _label(name), of.get("expect") or "", of.get("family") or "")
        for name, of in given.items()
    }


def read_notes(path: str) -> dict[str, str]:
    """What suites say of their data to readers, by name, from the file of suites beside that of variants; without one,
    nothing. Raises UserError where that is no mapping of suites."""
    beside = Path(path).with_name(SUITES) if path else None
    if beside is None or not beside.is_file():
        return {}
    entries = files.read_yaml(beside)
    if not isinstance(entries, dict):
        raise UserError(f"{beside} must map each suite's name to its fields")
    given = {name: fields.get("data") for name, fields in entries.items() if isinstance(fields, dict)}
    return {name: " ".join(str(text).split()) for name, text in given.items() if text}


def _label(name: str) -> str:
    return _LABELS.get(name) or name.replace("_", " ")


def stem(name: str) -> str:
    """What rivals share that differ in their number of steps alone: ``diffusion_distilled`` of
    ``diffusion_distilled_4``."""
    return re.sub(r"_\d+$", "", name)


def last_number(name: str) -> float:
    """The 4 of ``diffusion_distilled_4``; a name without any is that of the most steps."""
    return float(name.removeprefix(f"{stem(name)}_")) if name != stem(name) else math.inf


def in_order(names: Iterable[str], known: Mapping[str, Variant]) -> list[Variant]:
    """Real images, the full model, variants as in variants.yaml, others (rivals) by name, the untrained generator.

    Rivals that differ in their number of steps alone stand together, those of the most steps first.
    """
    rank = {REAL: (0, 0, 0), FULL: (1, 0, 0), **{name: (4, i, 0) for i, name in enumerate((*FILTERS, UNTRAINED))}}
    first: dict[tuple[str, str], int] = {}
    position = {
        name: (2, first.setdefault((of.family, stem(name)), i), -last_number(name)) if of.family else (2, i, 0)
        for i, (name, of) in enumerate(known.items())
    }
    ordered = sorted(set(names), key=lambda name: (*(rank.get(name) or position.get(name) or (3, 0, 0)), name))
    return [known.get(name) or Variant(name, _label(name)) for name in ordered]


def of_suite(rows: list[Row], suite: str) -> list[Row]:
    """The rows of one suite. Raises UserError where there are none."""
    ours = [row for row in rows if row["suite"] == suite]
    if not ours:
        known = {row["suite"] for row in rows}
        raise UserError(f"no rows of suite {suite!r}{nearest(suite, known) if known else ': the files are empty'}")
    return ours


def summarise(rows: list[Row], suite: str, known: Mapping[str, Variant] | None = None, note: str = "") -> Summary:
    """Means over seeds, differences to the full model and their corrected p-values.

    Holm's correction runs over the variants of one column. Reference rows are not compared.

    Raises:
        UserError: no rows of the suite, or two values for one variant, seed and column.
    """
    rows = [row for row in of_suite(rows, suite) if _is_shown(row)]
    values: dict[Column, dict[str, dict[int | None, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if METRICS[row["metric"]].kind == "size":
            continue  # parameters have a column of their own, from each row's params_m
        of_variant = values[_column(row)][row["variant"]]
        if row["seed"] in of_variant:
            raise UserError(f"two values of {describe(row)}, which differ in device or setting: give the rows of one")
        of_variant[row["seed"]] = row

    cells = {_with_decimals(column, found): _cells(column, found) for column, found in values.items()}
    columns = sorted(cells, key=_position)
    by_variant: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_variant[row["variant"]].append(row)
    lines = [
        Line(
            variant,
            len({row["seed"] for row in by_variant[variant.name]} - {None}),
            {name: _spread(map(of, by_variant[variant.name]), digits) for name, (_, of, digits) in COSTS.items()},
            {column: cells[column][variant.name] for column in columns if variant.name in cells[column]},
            by_variant[variant.name][0]["family"],
            _shared(row.get("steps") for row in by_variant[variant.name]),
        )
        for variant in in_order(by_variant, known or {})
    ]
    return Summary(suite, rows, columns, lines, note)


def brief(summary: Summary) -> Summary:
    """For a front page: the scores alone, without speeds, controls and intervals within one run."""

    def plain(cell: Cell) -> Cell:
        return cell if cell.over == "seeds" else replace(cell, value=replace(cell.value, low=None, high=None), over="")

    columns = [column for column in summary.columns if column.about.kind == "quality"]
    lines = [
        replace(line, cells={column: plain(line.cells[column]) for column in columns if column in line.cells})
        for line in summary.lines
    ]
    rows = [row for row in summary.rows if METRICS[row["metric"]].kind == "quality"]
    return replace(summary, rows=rows, columns=columns, lines=lines)


def _is_shown(row: Row) -> bool:
    """Of a sweep over batches, tables show each model's best throughput and the memory of one picture; records hold
    all."""
    if row["metric"] == "peak_memory_gb":
        return row.get("batch") in (None, 1)
    return bool(row.get("best", True))


def machine(row: Row) -> tuple[str, ...]:
    """What a row was measured on and how, in words."""
    threads, compiled = row["threads"], row.get("compile") or "none"
    return (
        row["device"],
        row["dtype"] or "",
        f"{threads} thread{'s' if threads > 1 else ''}" if threads else "",
        f"compiled ({compiled})" if compiled != "none" else "",
        row.get("layout", "").replace("_", " "),
    )


def setting(row: Row) -> tuple[str, ...]:
    """What a speed depends on besides the model, in words: rows that differ in it share no column."""
    batch, side = row.get("batch"), row.get("resolution")
    many = BEST if "best" in row else f"batch {batch}" if batch else ""
    return (*machine(row), many, f"{side} px" if side else "")


def _column(row: Row) -> Column:
    speed = METRICS[row["metric"]].kind == "speed"
    return Column(row["metric"], row["protocol"], row["protocol_sha"], setting(row) if speed else ())


def _position(column: Column) -> tuple[object, ...]:
    by_length = (len(column.protocol), column.protocol)  # scenes@2 before scenes-blind@1
    return (list(METRICS).index(column.metric), *by_length, column.protocol_sha, column.setting)


def _with_decimals(column: Column, found: Mapping[str, Mapping[int | None, Row]]) -> Column:
    """Three significant digits for the smallest trained variant, alike down the column; per cent with one decimal."""
    trained = [abs(row["value"]) for name in found if name not in REFERENCES for row in found[name].values()]
    smallest = min((v for v in trained if v and math.isfinite(v)), default=1.0)
    decimals = 1 if column.about.unit == "%" else min(max(2 - math.floor(math.log10(smallest)), 0), 5)
    return Column(column.metric, column.protocol, column.protocol_sha, column.setting, decimals)


def _cells(column: Column, found: Mapping[str, Mapping[int | None, Row]]) -> dict[str, Cell]:
    by_seed = {name: {seed: row["value"] for seed, row in runs.items()} for name, runs in found.items()}
    compared = {
        name: difference
        for name in found
        if name not in (FULL, *REFERENCES) and FULL in found
        if (difference := stats.paired(by_seed[name], by_seed[FULL]))
    }
    p = dict(zip(compared, stats.holm([d.p for d in compared.values()]), strict=True))
    cells = {}
    for name, runs in found.items():
        value, over = stats.mean(list(by_seed[name].values())), "seeds"
        if value.low is None:
            row, over = next(iter(runs.values())), ""
            if len(runs) == 1 and row["low"] is not None and row["high"] is not None:
                value = stats.Mean(value.value, row["low"], row["high"], 1)
                over = column.about.over
        marked = any(row.get("judge_trained") for row in runs.values())
        tails = [row["p90"] for row in runs.values() if row.get("p90") is not None]
        p90 = sum(tails) / len(tails) if tails and len(tails) == len(runs) else None
        batches = {row["batch"] for row in runs.values() if "best" in row}
        batch = batches.pop() if len(batches) == 1 else None
        cells[name] = Cell(value, over, by_seed[name], compared.get(name), p.get(name, 1.0), p90, marked, batch)

    return cells


def _shared(values: Iterable[int | None]) -> int | None:
    """The one value that all have which have any."""
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def _spread(values: Iterable[float | None], digits: int) -> str:
    """The one value all rows share, or the range of several; a dash for none."""
    known = sorted({v for v in values if v is not None})
    return "–".join(dict.fromkeys(f"{v:.{digits}g}" for v in known[:1] + known[-1:])) or "–"
