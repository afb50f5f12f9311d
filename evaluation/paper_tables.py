"""A table of the paper in the paper's layout, with what it prints and, beside that, ours.

    python -m evaluation.paper_tables table1 --records results/records/*.jsonl \\
        --out-md table1.md --out-csv table1.csv --out-tex table1.tex

Published values are those of published.yaml. Ours are rows of records under a protocol that published.yaml names for
the table; what was not run is left blank. Without an --out, the Markdown is printed.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from evaluation import published, records, stats
from evaluation.markup import TEX_FIT, md, md_row, tex, tex_row
from evaluation.published import DASH, METRICS, SUFFIXES, SURE, Entry, Number, Table
from evaluation.records import Row
from evaluation.summary import Cell, Column, Line, Summary, read_notes, summarise
from evaluation.tables import caption, heading, value_text
from gigagan import files
from gigagan.errors import UserError, command, nearest

UNKNOWN = "?"
OURS = {"inference_s": ("latency_end_to_end_ms", 1e-3)}
"""Beside a published metric of another unit: the one of our records, and what to multiply it by."""
TEXTS = ("label", "setting", "kind", "data")


@dataclass(frozen=True)
class Place:
    """One column of ours beside one of the paper's: a column of a suite's summary, or None where nothing was run."""

    head: str
    metric: str
    column: Column | None = None


@dataclass(frozen=True)
class Block:
    """The columns of one suite's rows; without a summary, of what was not run."""

    summary: Summary | None
    places: tuple[Place, ...]

    @property
    def title(self) -> str:
        return f"ours, {self.summary.suite}" if self.summary else "ours"

    def line(self, entry: Entry) -> Line | None:
        lines = self.summary.lines if self.summary else []
        return next((line for line in lines if entry.ours in names(self.summary.suite, line.variant.name)), None)


class Sheet:
    """A paper's table with what of our records may stand beside it."""

    def __init__(self, table: Table, rows: list[Row], notes: Mapping[str, str] | None = None) -> None:
        """``rows``: of any suites and protocols. ``notes``: what suites say of their data.

        Raises:
            UserError: a table without a layout of columns, or two rows of one seed and column.
        """
        if not table.columns:
            raise UserError(
                f"{table.name} has no columns in published.yaml{nearest(table.name, published.printable())}"
            )
        self.table = table
        self.columns = dict(table.columns)
        self.heads = {what: head for head, what in self.columns.items()}
        metrics = [what for what in self.columns.values() if what in METRICS]
        wanted = {_ours(metric) for metric in metrics if metric not in SUFFIXES}
        fitting = [row for row in rows if row["protocol"] in table.ours and row["metric"] in wanted]
        scored = {_run(row) for row in fitting if records.METRICS[row["metric"]].kind == "quality"}
        ours = {entry.ours for entry in table.rows if entry.ours}
        beside = [row for row in fitting if _run(row) in scored and names(*_run(row)) & ours]
        self.others = sorted({v for s, v in scored if not names(s, v) & ours} - {*records.REFERENCES})
        self.metrics = metrics
        suites, told = sorted({row["suite"] for row in beside}), notes or {}
        self.summaries = [summarise(beside, suite, note=told.get(suite, "")) for suite in suites]
        self.blocks = [Block(summary, tuple(self._places(summary))) for summary in self.summaries or [None]]

    def _places(self, summary: Summary | None) -> Iterator[Place]:
        for metric in self.metrics:
            found = summary.find(_ours(metric)) if summary else []
            yield from (Place(self.heads[metric], metric, column) for column in found or [None])

    # ---------------------------------------------------------------------------------------------- published cells

    @cached_property
    def readings(self) -> list[str]:
        """How the table's numbers were read, surest first."""
        found = {number.sure for number in self.numbers()}
        return [sure for sure in SURE if sure in found]

    @cached_property
    def marks(self) -> dict[str, str]:
        """A letter for each of several readings."""
        return dict(zip(self.readings, "abcdefg", strict=False)) if len(self.readings) > 1 else {}

    def numbers(self) -> list[Number]:
        shown = [entry.numbers.get(metric) for entry in self.table.rows for metric in self.metrics]
        return [number for number in shown if number]

    def printed(self, entry: Entry, what: str) -> tuple[str, str]:
        """What the paper's column says of a row, and the mark of its surety."""
        if what not in METRICS:
            value = getattr(entry, what)
            return ("" if value is None else str(value)), ""
        if what not in entry.numbers:
            return UNKNOWN, ""
        number = entry.numbers[what]
        return (number.printed + _unit(what), self.marks.get(number.sure, "")) if number else (DASH, "")

    # --------------------------------------------------------------------------------------------------- cells of ours

    def ours(self, block: Block, place: Place, entry: Entry) -> Cell | None:
        """Our value in the published metric's unit; None where nothing was run."""
        line = block.line(entry)
        if line is None or block.summary is None:
            return None
        if place.metric in SUFFIXES:  # a fact of the runs, which each of their rows states
            found = {row[place.metric] for row in block.summary.rows if entry.ours in names(*_run(row))}
            value = found.pop() if len(found) == 1 else None
            return None if value is None else Cell(stats.Mean(value, None, None, line.n), "", {})
        cell = line.cells.get(place.column) if place.column else None
        if cell is None:
            return None
        scale = _scale(place.metric)
        low, high = (None if end is None else end * scale for end in (cell.value.low, cell.value.high))
        return replace(cell, value=stats.Mean(cell.value.value * scale, low, high, cell.value.n))

    def text(self, block: Block, place: Place, entry: Entry) -> str:
        cell, line = self.ours(block, place, entry), block.line(entry)
        if cell is None or line is None:
            return ""
        if place.metric in SUFFIXES:
            return _sized(cell.value.value, place.metric)
        shown = value_text(cell, self._show(place))
        return shown + (f" (n={cell.value.n})" if cell.value.n != line.n else "") + (" †" if cell.marked else "")

    def _show(self, place: Place) -> Callable[[float], str]:
        """With the paper's decimals at least, and with those that the column has in the suite's own table."""
        decimals = max(
            (len(n.printed.partition(".")[2]) for n in self.numbers() if n.metric == place.metric), default=0
        )
        if place.column:
            decimals = max(decimals, place.column.decimals - round(math.log10(_scale(place.metric))))
        return lambda value: f"{value:,.{decimals}f}".replace("-", "−") + _unit(place.metric)

    # ------------------------------------------------------------------------------------------------------- caption

    def caption(self) -> list[str]:
        """What is published and how sure, how it was made, and whose and how many runs ours are."""
        table = self.table
        lines = [f"{table.table} of {table.source}, {table.title}: published values, and ours beside them."]
        readings = [", ".join(filter(None, (self.marks.get(sure), SURE[sure]))) for sure in self.readings]
        lines.append(f"How sure the published values are: {'; '.join(readings)}.")
        by_words: dict[str, list[str]] = {}
        for metric in self.metrics:
            by_words.setdefault(table.protocols[metric], []).append(self.heads[metric])
        made = ". ".join(f"{_listed(heads)}: {words}" for words, heads in by_words.items())
        lines += [f"How they were made, as far as is known: {made}.", table.note]
        cells = [self.printed(entry, what)[0] for entry in table.rows for what in self.metrics]
        lines.append(f"{UNKNOWN}: recovered from no source." if UNKNOWN in cells else "")
        lines.append(f"{DASH}: the paper prints a dash." if DASH in cells else "")
        if not self.summaries:
            lines.append(f"Ours are blank: no row of records is of protocol {' or '.join(self._scoring())}.")
        for summary in self.summaries:
            lines += ["Ours: " + " ".join(caption(summary, compared=False))]
        if self.summaries:
            lines.append("n: training seeds. Blank: not run. No test compares ours with the published values.")
            if any(place.metric in OURS and place.column for block in self.blocks for place in block.places):
                lines.append("Our times are from text to picture, on the machine named.")
        if self.others:
            lines.append(f"Under the same protocol, but in no row of the paper: {', '.join(self.others)}.")
        return [line for line in lines if line]

    def _scoring(self) -> list[str]:
        return [name for name in self.table.ours if not name.startswith("speed")]


def _run(row: Row) -> tuple[str, str]:
    return row["suite"], row["variant"]


def names(suite: str, variant: str) -> set[str]:
    """What published.yaml may call our variant that is the same thing as a row of its own."""
    return {variant, f"{suite}/{variant}"}


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _unit(metric: str) -> str:
    return "s" if metric == "inference_s" else ""


def _ours(metric: str) -> str:
    return OURS[metric][0] if metric in OURS else metric


def _scale(metric: str) -> float:
    """From our unit to the published one."""
    return OURS[metric][1] if metric in OURS else 1.0


def _sized(value: float, metric: str) -> str:
    """Parameters or images as papers print them: 27.8M, 0.98B."""
    (million, one), (billion, thousand) = SUFFIXES[metric].items()
    if value >= 0.9 * thousand:
        return f"{value / thousand:.2f}{billion}"
    return f"{value / one:{'.1f' if value >= 10 * one else '.3g'}}{million}"


def _arrow(what: str) -> str:
    return {True: "\u00a0↑", False: "\u00a0↓", None: ""}[METRICS[what].higher_is_better] if what in METRICS else ""


def _below(block: Block, place: Place) -> str:
    """The protocol or setting of a column of ours."""
    return heading(place.column, block.summary.columns)[1] if block.summary and place.column else ""


# ---------------------------------------------------------------------------------------------------------- Markdown


def markdown(sheet: Sheet) -> str:
    head = [md(h + _arrow(what)) + ("<br>published" if what in METRICS else "") for h, what in sheet.columns.items()]
    for block in sheet.blocks:
        head.append(f"n<br>{md(block.title)}")
        for place in block.places:
            head.append("<br>".join(filter(None, (md(place.head + _arrow(place.metric)), md(block.title),
                                                  md(_below(block, place))))))  # fmt: skip
    texts = [what in TEXTS for what in sheet.columns.values()] + [False] * (len(head) - len(sheet.columns))
    out = [md_row(head), md_row([":--" if text else "--:" for text in texts])]
    for entry in sheet.table.rows:
        cells = []
        for what in sheet.columns.values():
            text, mark = sheet.printed(entry, what)
            indent = "&emsp;" if what == "label" and entry.branch else ""
            cells.append(indent + md(text) + (f"<sup>{mark}</sup>" if mark else ""))
        for block in sheet.blocks:
            line = block.line(entry)
            cells.append(str(line.n) if line else "")
            cells += [md(sheet.text(block, place, entry)) for place in block.places]
        out.append(md_row(cells))
    return "\n".join([*out, "", " ".join(md(sentence) for sentence in sheet.caption())]) + "\n"


# ------------------------------------------------------------------------------------------------------------- LaTeX


def latex(sheet: Sheet) -> str:
    r"""A ``table*`` to ``\input``; needs booktabs and graphicx."""
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{' '.join(tex(sentence) for sentence in sheet.caption())}}}",
            rf"\label{{tab:paper-{sheet.table.name}}}",
            r"\par\medskip",
            _tabular(sheet),
            r"\end{table*}",
            "",
        ]
    )


def _tabular(sheet: Sheet) -> str:
    shown = list(sheet.columns.values())
    first = next(i for i, what in enumerate(shown) if what in METRICS)
    groups = [("published", len(shown) - first), *((block.title, 1 + len(block.places)) for block in sheet.blocks)]
    above, rules, at = [""] * first, [], first + 1
    for title, n in groups:
        above.append(rf"\multicolumn{{{n}}}{{c}}{{{tex(title)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + n - 1}}}")
        at += n
    names = [tex(head + _arrow(what)) for head, what in sheet.columns.items()]
    below = [""] * len(names)
    for block in sheet.blocks:
        names += ["$n$", *(tex(place.head + _arrow(place.metric)) for place in block.places)]
        below += ["", *(tex(_below(block, place)) for place in block.places)]
    align = "".join("l" if what in TEXTS else "r" for what in shown) + "r" * (len(names) - len(shown))
    out = [TEX_FIT, rf"\begin{{tabular}}{{{align}}}", r"\toprule", tex_row(above), " ".join(rules), tex_row(names)]
    out += [tex_row([rf"\footnotesize {text}" if text else "" for text in below])] if any(below) else []
    out.append(r"\midrule")
    for i, entry in enumerate(sheet.table.rows):
        if "resolution" in shown and i and entry.resolution != sheet.table.rows[i - 1].resolution:
            out.append(r"\addlinespace")
        cells = []
        for what in shown:
            text, mark = sheet.printed(entry, what)
            indent = r"\quad " if what == "label" and entry.branch else ""
            cells.append(indent + tex(text) + (rf"\rlap{{$^{{{mark}}}$}}" if mark else ""))  # digits stay aligned
        for block in sheet.blocks:
            line = block.line(entry)
            cells += [str(line.n) if line else "", *(tex(sheet.text(block, place, entry)) for place in block.places)]
        out.append(tex_row(cells))
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}}"])


# --------------------------------------------------------------------------------------------------------------- CSV

_PUBLISHED = (
    *("table", "row", "method", "column", "metric"),
    *("published", "printed", "sure", "published_protocol", "source"),
)
_OURS = ("suite", "variant", "ours", "low", "high", "n", "interval_over", "protocol", "protocol_sha", "setting")


def csv_text(sheet: Sheet) -> str:
    """One line per row and column of the paper, and per suite of ours that has it; values unrounded, in its unit."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*_PUBLISHED, *_OURS), lineterminator="\n", restval="")
    writer.writeheader()
    for i, entry in enumerate(sheet.table.rows, 1):
        for metric in sheet.metrics:
            number = entry.numbers.get(metric)
            theirs = {
                "table": sheet.table.table,
                "row": i,
                "method": entry.method,
                "column": sheet.heads[metric],
                "metric": metric,
                "published": number.value if number else None,
                "printed": sheet.printed(entry, metric)[0],
                "sure": number.sure if number else None,
                "published_protocol": sheet.table.protocols[metric],
                "source": str(entry.source),
            }
            writer.writerows([theirs | beside for beside in _beside(sheet, metric, entry)] or [theirs])
    return out.getvalue()


def _beside(sheet: Sheet, metric: str, entry: Entry) -> Iterator[dict[str, object]]:
    for block in sheet.blocks:
        for place in block.places:
            cell = sheet.ours(block, place, entry)
            if place.metric != metric or cell is None or block.summary is None:
                continue
            value = cell.value
            found = {"suite": block.summary.suite, "variant": entry.ours, "ours": value.value, "n": value.n}
            if place.column:
                found |= {"low": value.low, "high": value.high, "interval_over": cell.over}
                found |= {"protocol": place.column.protocol, "protocol_sha": place.column.protocol_sha}
                found["setting"] = ", ".join(filter(None, place.column.setting))
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper_tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("table", help=", ".join(published.printable()))
    parser.add_argument("--records", nargs="*", default=[], metavar="FILE", help="rows of ours, of any suites")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml, with suites beside it")
    for suffix in ("md", "csv", "tex"):
        parser.add_argument(f"--out-{suffix}", default="", metavar="FILE")
    args = parser.parse_args()

    sheet = Sheet(published.table(args.table), records.read(args.records), read_notes(args.variants))
    outs = ((args.out_md, markdown), (args.out_csv, csv_text), (args.out_tex, latex))
    for path, write in outs:
        if path:
            files.write_text(path, write(sheet))
            print(path)
    if not any(path for path, _ in outs):
        print(markdown(sheet), end="")


if __name__ == "__main__":
    command(main)
