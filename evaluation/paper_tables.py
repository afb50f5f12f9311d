"""A table of the paper in the paper's layout, with what it prints and, beside that, ours.

    python -m evaluation.paper_tables table1 --records results/records/*.jsonl \\
        --out-md table1.md --out-csv table1.csv --out-tex table1.tex

Published values are those of published.yaml. Ours are rows of records under a protocol that published.yaml names for
the table; what was not run is left blank, and what no row of the paper is stands below. A suite that makes the table's
comparison by itself has columns of its own. Without an --out, the Markdown is printed.
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
from evaluation.published import DASH, METRICS, SUFFIXES, SURE, Entry, Number, Source, Table
from evaluation.records import Row
from evaluation.summary import Cell, Column, Line, Summary, Variant, in_order, read_notes, read_variants, summarise
from evaluation.tables import caption, heading, value_text
from gigagan import files
from gigagan.errors import UserError, command, nearest

UNKNOWN = "?"
OURS = {"inference_s": ("latency_end_to_end_ms", 1e-3)}
"""Beside a published metric of another unit: the one of our records, and what to multiply it by."""
TEXTS = ("label", "setting", "kind", "data")
CONTROLLED = ("fd", "clip_score", "latency_end_to_end_ms")
"""What is shown of a suite that makes a table's comparison by itself."""


@dataclass(frozen=True)
class Place:
    """One column of ours: a column of a suite's summary, or None where nothing was run. ``metric`` is the published one
    that it stands beside, or our own."""

    head: str
    metric: str
    column: Column | None = None


@dataclass(frozen=True)
class Block:
    """The columns of one suite's rows; without a summary, of what was not run."""

    summary: Summary | None
    places: tuple[Place, ...]
    controlled: bool = False  # under protocols that are not the table's

    @property
    def suite(self) -> str:
        return self.summary.suite if self.summary else ""

    @property
    def title(self) -> str:
        return f"ours, {self.suite}" if self.summary else "ours"

    def line(self, entry: Entry) -> Line | None:
        lines = [(name, line) for name in entry.ours for line in (self.summary.lines if self.summary else ())]
        return next((line for name, line in lines if name in names(self.suite, line.variant.name)), None)


class Sheet:
    """A paper's table with what of our records may stand beside it."""

    def __init__(
        self,
        table: Table,
        rows: list[Row],
        notes: Mapping[str, str] | None = None,
        known: Mapping[str, Variant] | None = None,
    ) -> None:
        """``rows``: of any suites and protocols. ``notes``: what suites say of their data. ``known``: labels of ours.

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
        self.metrics = [what for what in self.columns.values() if what in METRICS]
        self._known, self._notes = known or {}, notes or {}
        wanted = {_ours(metric) for metric in self.metrics if metric not in SUFFIXES}
        self.summaries = self._summaries(rows, table.ours, wanted)
        self.blocks = [Block(summary, tuple(self._places(summary))) for summary in self.summaries or [None]]
        self.controlled: Block | None = None
        if of := table.controlled:
            own = [row for row in rows if row["suite"] == of.suite]
            for summary in self._summaries(own, of.protocols, {*CONTROLLED}):
                self.controlled = Block(summary, tuple(_own_places(summary)), controlled=True)
                self.blocks.append(self.controlled)
        self.below = self._below()
        self.entries = (*table.rows, *self.below)

    def _summaries(self, rows: list[Row], protocols: tuple[str, ...], wanted: set[str]) -> list[Summary]:
        """Of each suite that was scored under one of the protocols, those scores and the speeds of what has them."""
        fitting = [row for row in rows if row["protocol"] in (*protocols, *self.table.speeds)]
        fitting = [row for row in fitting if row["metric"] in wanted and row["variant"] not in records.REFERENCES]
        scored = {_run(row) for row in fitting if records.METRICS[row["metric"]].kind == "quality"}
        ours = [row for row in fitting if _run(row) in scored]
        suites = sorted({suite for suite, _ in scored})
        return [summarise(ours, suite, self._known, self._notes.get(suite, "")) for suite in suites]

    def _places(self, summary: Summary | None) -> Iterator[Place]:
        for metric in self.metrics:
            found = summary.find(_ours(metric)) if summary else []
            yield from (Place(self.heads[metric], metric, column) for column in found or [None])

    def _below(self) -> tuple[Entry, ...]:
        """A row without published numbers for each variant of ours that no row of the paper is."""
        left: dict[str, list[tuple[str, int | None]]] = {}
        for block in self.blocks:
            named = [line.variant.name for entry in self.table.rows if (line := block.line(entry))]
            for line in block.summary.lines if block.summary else ():
                if (name := line.variant.name) not in named:
                    left.setdefault(name, []).append((f"{block.suite}/{name}", line.steps))
        return tuple(_own_entry(variant, dict(left[variant.name])) for variant in in_order(left, self._known))

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
        """What the paper's column says of a row, and the mark of its surety; nothing where the row is ours alone."""
        if what not in METRICS:
            value = getattr(entry, what)
            return ("" if value is None else str(value)), ""
        if what not in entry.numbers:
            return (UNKNOWN if entry.numbers else ""), ""
        number = entry.numbers[what]
        return (number.printed + _unit(what), self.marks.get(number.sure, "")) if number else (DASH, "")

    # --------------------------------------------------------------------------------------------------- cells of ours

    def ours(self, block: Block, place: Place, entry: Entry) -> Cell | None:
        """Our value in the published metric's unit; None where nothing was run."""
        line = block.line(entry)
        if line is None or block.summary is None:
            return None
        if place.metric in SUFFIXES:  # a fact of the runs, which each of their rows states
            found = {row[place.metric] for row in block.summary.rows if row["variant"] == line.variant.name}
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
            lines.append(f"Ours are blank: no row of records is of protocol {' or '.join(table.ours)}.")
        for summary in self.summaries:
            lines += ["Ours: " + " ".join(caption(summary, compared=False))]
        if self.summaries or self.controlled:
            lines.append("n: training seeds. Blank: not run. No test compares ours with the published values.")
            if any(place.metric in OURS and place.column for block in self.blocks for place in block.places):
                lines.append("Our times are from text to picture, on the machine named.")
        if self.below:
            lines.append("Rows without published values are measured here and are no row of the paper.")
        if self.controlled and self.controlled.summary and table.controlled:
            of = table.controlled
            lines.append(f"In columns of its own, beside models of as many steps, suite {of.suite}: {of.note}")
            lines += caption(self.controlled.summary, compared=False)
        return [line for line in lines if line]


def _run(row: Row) -> tuple[str, str]:
    return row["suite"], row["variant"]


def names(suite: str, variant: str) -> set[str]:
    """What published.yaml may call our variant that is the same thing as a row of its own."""
    return {variant, f"{suite}/{variant}"}


def _own_places(summary: Summary) -> Iterator[Place]:
    """Columns under the names of our own metrics."""
    for column in (column for metric in CONTROLLED for column in summary.find(metric)):
        unit = f", {column.about.unit}" if column.about.unit else ""
        yield Place(f"{column.about.label}{unit}", column.metric, column)


def _own_entry(variant: Variant, steps: Mapping[str, int | None]) -> Entry:
    """Of a variant in some suites, by suite/variant with the steps that it takes there."""
    one = {*steps.values()}.pop() if len({*steps.values()}) == 1 else None
    label, nowhere = variant.label, Source("")
    return Entry(nowhere, "", label, label, "", None, one, "", "", branch=False, ours=(*steps,), numbers={})


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
    for entry in sheet.entries:
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
    for i, entry in enumerate(sheet.entries):
        if i == len(sheet.table.rows):
            out.append(r"\midrule")
        elif "resolution" in shown and i and entry.resolution != sheet.entries[i - 1].resolution:
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
    """One line per row and column of the paper, and per suite of ours that has it; values unrounded, in its unit. Then
    those of the row's columns that are ours alone."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*_PUBLISHED, *_OURS), lineterminator="\n", restval="")
    writer.writeheader()
    for i, entry in enumerate(sheet.entries, 1):
        row = {"table": sheet.table.table, "row": i, "method": entry.method}
        for metric in sheet.metrics:
            number = entry.numbers.get(metric)
            theirs = row | {"column": sheet.heads[metric], "metric": metric}
            if entry.numbers:
                theirs |= {
                    "published": number.value if number else None,
                    "printed": sheet.printed(entry, metric)[0],
                    "sure": number.sure if number else None,
                    "published_protocol": sheet.table.protocols[metric],
                    "source": str(entry.source),
                }
            found = [theirs | beside for place, beside in _beside(sheet, entry, False) if place.metric == metric]
            writer.writerows(found or ([theirs] if entry.numbers else []))
        for place, beside in _beside(sheet, entry, True):
            writer.writerow(row | {"column": place.head, "metric": place.metric} | beside)
    return out.getvalue()


def _beside(sheet: Sheet, entry: Entry, controlled: bool) -> Iterator[tuple[Place, dict[str, object]]]:
    for block in (block for block in sheet.blocks if block.controlled is controlled):
        for place in block.places:
            cell, line = sheet.ours(block, place, entry), block.line(entry)
            if cell is None or line is None or block.summary is None:
                continue
            value = cell.value
            found = {"suite": block.suite, "variant": line.variant.name, "ours": value.value, "n": value.n}
            if place.column:
                found |= {"low": value.low, "high": value.high, "interval_over": cell.over}
                found |= {"protocol": place.column.protocol, "protocol_sha": place.column.protocol_sha}
                found["setting"] = ", ".join(filter(None, place.column.setting))
            yield place, found


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

    rows, notes, known = records.read(args.records), read_notes(args.variants), read_variants(args.variants)
    sheet = Sheet(published.table(args.table), rows, notes, known)
    outs = ((args.out_md, markdown), (args.out_csv, csv_text), (args.out_tex, latex))
    for path, write in outs:
        if path:
            files.write_text(path, write(sheet))
            print(path)
    if not any(path for path, _ in outs):
        print(markdown(sheet), end="")


if __name__ == "__main__":
    command(main)
