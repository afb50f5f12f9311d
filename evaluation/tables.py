"""The ablation table of a suite, as Markdown, LaTeX and CSV.

    python -m evaluation.tables --suite demo --records results/demo/metrics.jsonl \\
        --variants ablations/variants.yaml --out results/demo/tables

Each cell: the value with its interval and, below it, the difference to the full model, bold only where significant.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from evaluation import records, stats
from evaluation.markup import TEX_FIT, md, md_row, tex, tex_row
from evaluation.records import Row
from evaluation.summary import (
    BEST,
    COSTS,
    FULL,
    Cell,
    Column,
    Line,
    Summary,
    machine,
    read_notes,
    read_variants,
    summarise,
)
from gigagan import files
from gigagan.errors import command

Text = tuple[str, str, bool]
"""What a cell says: value with interval, difference to the full model, and whether that difference is significant."""


def value_text(cell: Cell, show: Callable[[float], str]) -> str:
    """A cell's value with its interval: half its width over seeds, both ends within one run."""
    value, low, high = cell.value.value, cell.value.low, cell.value.high
    text = show(value) if math.isfinite(value) else "not finite"
    if low is None or high is None:
        return text
    return f"{text} ± {show((high - low) / 2)}" if cell.over == "seeds" else f"{text} [{show(low)}, {show(high)}]"


def cell_text(line: Line, column: Column) -> Text:
    cell = line.cells.get(column)
    if cell is None:
        return "–", "", False
    value = value_text(cell, column.show)
    if not line.is_reference and cell.value.n != line.n:
        value += f" (n={cell.value.n})"
    if cell.marked:
        value += " †"
    if cell.batch is not None:
        value += f" at {cell.batch}"
    if cell.p90 is not None:
        value += f", p90 {column.show(cell.p90)}"
    difference = cell.difference
    if difference is None or not math.isfinite(difference.value):
        return value, "", False
    text = column.show(difference.value, sign=True)
    if difference.low is not None and difference.high is not None:
        text += f" ± {column.show((difference.high - difference.low) / 2)}"
    if cell.value.n != difference.n:
        text += f" (n={difference.n})"
    return value, text, cell.significant


def heading(column: Column, columns: list[Column]) -> tuple[str, str]:
    """A column's name with its arrow, and below it the protocol (or the setting, for speed) that sets it apart."""
    alike = [c for c in columns if c.metric == column.metric]
    if column.about.kind == "speed":
        differing = [part for i, part in enumerate(column.setting) if part and len({c.setting[i] for c in alike}) > 1]
        batch = [part for part in column.setting if part.startswith("batch ") or part == BEST]
        below = ", ".join(dict.fromkeys(differing + batch))
    else:
        below = column.protocol
    if sum(c.protocol == column.protocol and c.setting == column.setting for c in alike) > 1:
        below = f"{below} {column.protocol_sha[:6]}".strip()
    unit = f", {column.about.unit}" if column.about.unit else ""
    arrow = f"\u00a0{column.arrow}" if column.arrow else ""  # never on a line of its own
    return f"{column.about.label}{unit}{arrow}", below


def finding(summary: Summary, line: Line) -> str:
    """In words: which of a variant's differences in quality are more than chance."""
    if line.is_reference or summary.full is None or line is summary.full:
        return ""
    compared = {c: cell for c, cell in line.cells.items() if cell.difference and c.about.kind == "quality"}
    if not compared:
        return "no seed in common with the full model"
    n = max(cell.difference.n for cell in compared.values() if cell.difference)
    if n == 1:
        return "not separable at n=1"
    parts = []
    for word, wanted in (("better", True), ("worse", False)):
        names = [_name(c, summary) for c, cell in compared.items() if cell.significant and cell.better(c) is wanted]
        parts += [f"{word}: {', '.join(names)}"] if names else []
    rest = [_name(c, summary) for c, cell in compared.items() if not cell.significant]
    if not parts:
        return f"not separable at n={n}"
    return "; ".join(parts + ([f"not separable at n={n}: {', '.join(rest)}"] if rest else []))


def _name(column: Column, summary: Summary) -> str:
    label = column.about.label
    return f"{label} ({heading(column, summary.columns)[1]})" if len(summary.find(column.metric)) > 1 else label


def caption(summary: Summary, compared: bool = True) -> list[str]:
    """Everything a reader needs to judge the numbers, as sentences; ``compared``: differences are shown, too."""
    rows = summary.rows
    quality = [row for row in rows if records.METRICS[row["metric"]].kind in ("quality", "control")]
    speed = [row for row in rows if records.METRICS[row["metric"]].kind == "speed"]
    seeds = _distinct(row["seed"] for row in rows if row["variant"] not in records.REFERENCES)
    images = _distinct(row["n_images"] for row in quality)[-1:]  # an attribute's rows count the captions that state it
    lines = [
        f"Suite {summary.suite} on {_words(row['dataset'] for row in rows if row['dataset'])}"
        f"{''.join(f', {n:,} images per run' for n in images)}. Training seeds: {_range(seeds)}.",
        summary.note,
    ]
    protocols = {(row["protocol"], row["protocol_sha"]) for row in rows}
    lines.append("Protocols: " + ", ".join(f"{name} ({sha})" for name, sha in sorted(protocols)) + ".")
    models = [row for row in quality if row["variant"] not in records.RUNLESS] or quality  # no model made the others
    lines.append(f"Scored on {_words(_machine(row) for row in models)}." if models else "")
    lines.append(f"Speed on {_words(_machine(row) for row in speed)}." if speed else "")
    lines += _degenerate(rows) + _intervals(summary) + (_comparison(summary) if compared else [])
    dates = sorted({row["started"][:10] for row in rows})
    dirty = ", with uncommitted changes" if any(row["git_dirty"] is not False for row in rows) else ""
    shas = _words((row["git_sha"] or "unknown")[:10] for row in rows)
    lines.append(f"Run {' to '.join(dict.fromkeys((dates[0], dates[-1])))} at commit {shas}{dirty}.")
    return [line for line in lines if line]


def _intervals(summary: Summary) -> list[str]:
    cells = [(line, column, cell) for line in summary.lines for column, cell in line.cells.items()]
    lines = []
    if any(cell.over == "seeds" for _, _, cell in cells):
        lines.append("± is half the 95 % t-interval over training seeds (n of them).")
    for over in ("captions", "images"):
        of_run = {(line.variant.name, column.metric) for line, column, cell in cells if cell.over == over}
        if of_run:
            n = _distinct(row["n_images"] for row in summary.rows if (row["variant"], row["metric"]) in of_run)
            number = " to ".join(f"{ends:,}" for ends in dict.fromkeys(n[:1] + n[-1:]))
            of = ", ".join(dict.fromkeys(records.METRICS[metric].label for _, metric in sorted(of_run)))
            of = f" of {of}" if over == "images" else ""
            lines.append(f"[low, high]{of} is a 95 % interval over {number} {over} of one run, not over seeds.")
    if any(cell.over == "repetitions" for _, _, cell in cells):
        lines.append("[low, high] of a speed is an interval over repeated measurements of one run, not over seeds.")
    if any(cell.marked for _, _, cell in cells):
        lines.append("† The network that scores has also trained the run, as in the paper: read the score beside it.")
    return lines


def _comparison(summary: Summary) -> list[str]:
    lines = []
    differences = [cell.difference for line in summary.lines for cell in line.cells.values() if cell.difference]
    if summary.full is None:
        lines.append(f"Without rows of the full model ({FULL}), nothing is compared.")
    elif differences:
        lines.append(
            f"The second figure is the difference to {summary.full.variant.label}, paired by seed; bold only where "
            f"p < {stats.ALPHA:g} in a two-sided sign-flip test, Holm-corrected over the variants of a column."
        )
        variants, most = len(summary.compared), max(difference.n for difference in differences)
        if most < (needed := stats.seeds_needed(variants)):
            of = "one variant needs" if variants == 1 else f"{variants} variants need"
            lines.append(
                f"With n={most} no difference can be told from chance, however large: {of} at least {needed} "
                "seeds each."
            )
    return lines


def _machine(row: Row) -> str:
    return ", ".join(filter(None, machine(row)))


def _degenerate(rows: list[Row]) -> list[str]:
    """Which of the pictures behind the rows are none, by run."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.get("n_constant") or row.get("n_non_finite"):
            timed = ", while timed" if records.METRICS[row["metric"]].kind == "speed" else ""
            seed = "" if row["seed"] is None else f" seed {row['seed']}"
            name = f"{row['variant']}{seed}{timed}"
            found[name] = max(found.get(name, row), row, key=lambda each: each["n_images"])
    if not found:
        return []
    each = [
        f"{name}: of {row['n_images']:,} {row.get('n_constant', 0):,} of one colour throughout and "
        f"{row.get('n_non_finite', 0):,} that held NaN or infinity"
        for name, row in found.items()
    ]
    return [f"Pictures that are none, and are counted all the same ({'; '.join(each)})."]


def _distinct(values: Iterable[int | None]) -> list[int]:
    return sorted({v for v in values if v is not None})


def _range(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds)) or "none"


def _words(values: Iterable[str]) -> str:
    return " and ".join(sorted(set(values)))


# ---------------------------------------------------------------------------------------------------------- Markdown


def _md_cell(text: Text) -> str:
    value, difference, bold = text
    return md(value) + (f"<br>{f'**{md(difference)}**' if bold else md(difference)}" if difference else "")


def markdown(summary: Summary) -> str:
    names = [heading(column, summary.columns) for column in summary.columns]
    head = ["variant", "n", *(md(name) + (f"<br>{md(below)}" if below else "") for name, below in names)]
    head += [COSTS[name][0] for name in summary.costs]
    out = [md_row(head), md_row([":--", *["--:"] * (len(head) - 1)])]
    for line in summary.lines:
        cells = [_md_cell(cell_text(line, column)) for column in summary.columns]
        cells += [line.costs[name] for name in summary.costs]
        out.append(md_row([md(line.variant.label), str(line.n or "–"), *cells]))
    out += ["", " ".join(md(sentence) for sentence in caption(summary))]
    compared = [line for line in summary.awaited if summary.full]
    if compared:
        out += ["", "**What the paper would expect, and what is seen here**", ""]
        out += [md_row(["variant", "the paper would expect", "seen here"]), md_row([":--"] * 3)]
        out += [
            md_row([md(line.variant.label), md(line.variant.expect) or "–", md(finding(summary, line))])
            for line in compared
        ]
    return "\n".join(out) + "\n"


# ------------------------------------------------------------------------------------------------------------- LaTeX

_TEX_COLUMNS = 7
_TEX_LINES = 14  # variants, two lines each, that a page has room for beside a caption


def latex(summary: Summary) -> str:
    r"""``table*`` to ``\input``, in even blocks of columns so that it stays legible; needs booktabs and graphicx.

    What one page has no room for goes on in a further ``table*``, and a block that is higher than a page is shrunk.
    """
    n, lines = len(summary.columns), len(summary.lines)
    several = math.ceil((n + len(summary.costs)) / _TEX_COLUMNS)  # the last block also holds the costs
    each = max(math.ceil(n / several), 1)
    blocks = [summary.columns[i : i + each] for i in range(0, n, each)]
    tabulars = [_tabular(summary, block, last=block is blocks[-1]) for block in blocks]
    if lines > _TEX_LINES:
        tabulars = [f"\\scalebox{{{_TEX_LINES / lines:.2f}}}{{%\n{tabular}}}" for tabular in tabulars]
    on_page = max(_TEX_LINES // lines, 1)
    pages = [tabulars[i : i + on_page] for i in range(0, len(tabulars), on_page)]
    out = [r"% needs \usepackage{booktabs,graphicx}"]
    for i, page in enumerate(pages, 1):
        words = " ".join(tex(sentence) for sentence in caption(summary))
        out += [
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{words if i == 1 else f'Suite {tex(summary.suite)}, further columns.'}}}",
            rf"\label{{tab:{summary.suite}{f'-{i}' if i > 1 else ''}}}",
            *(f"\\par\\medskip\n{tabular}" for tabular in page),
            r"\end{table*}",
        ]
    return "\n".join([*out, ""])


def _tabular(summary: Summary, columns: list[Column], last: bool) -> str:
    """Two lines per variant, its values and below them the differences; shrunk only if wider than the text."""
    names = [("variant", ""), ("$n$", ""), *(tuple(map(tex, heading(c, summary.columns))) for c in columns)]
    costs = summary.costs if last else []
    names += [(COSTS[name][0], "") for name in costs]
    out = [
        TEX_FIT,
        rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}",
        r"\toprule",
        tex_row([above for above, _ in names]),
        tex_row([rf"\footnotesize {protocol}" if protocol else "" for _, protocol in names]),
        r"\midrule",
    ]
    for line in summary.lines:
        texts = [cell_text(line, column) for column in columns]
        values = [tex(value) for value, _, _ in texts]
        below = [_tex_below(difference, bold) for _, difference, bold in texts]
        end = [tex(line.costs[name]) for name in costs]
        out.append(tex_row([tex(line.variant.label), str(line.n or "--"), *values, *end]))
        if any(below):
            out.append(tex_row(["", "", *below, *[""] * len(end)]))
        out.append(r"\addlinespace")
    return "\n".join([*out[:-1], r"\bottomrule", r"\end{tabular}}"])


def _tex_below(difference: str, bold: bool) -> str:
    text = rf"\textbf{{{tex(difference)}}}" if bold else tex(difference)
    return rf"\footnotesize {text}" if text else ""


# --------------------------------------------------------------------------------------------------------------- CSV

_MEAN = ("value", "low", "high", "n")
_CSV = (
    *("suite", "variant", "label", "metric", "protocol", "protocol_sha", "setting", *COSTS),
    *_MEAN,
    "p90",
    "batch",
    "judge_trained",
    "interval_over",
    *(f"difference_{name}" for name in _MEAN),
    *("p", "p_holm", "significant"),
)


def csv_text(summary: Summary) -> str:
    """One line per variant and column, values unrounded: for plotting and further statistics."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV, lineterminator="\n", restval="")
    writer.writeheader()
    for line in summary.lines:
        for column, cell in line.cells.items():
            entry = {
                "suite": summary.suite,
                "variant": line.variant.name,
                "label": line.variant.label,
                "metric": column.metric,
                "protocol": column.protocol,
                "protocol_sha": column.protocol_sha,
                "setting": ", ".join(filter(None, column.setting)),
                **line.costs,
                "p90": cell.p90,
                "batch": cell.batch,
                "judge_trained": cell.marked or None,
                "interval_over": cell.over,
                **{name: getattr(cell.value, name) for name in _MEAN},
            }
            if cell.difference:
                entry |= {f"difference_{name}": getattr(cell.difference, name) for name in _MEAN}
                entry |= {"p": cell.difference.p, "p_holm": cell.p, "significant": cell.significant}
            writer.writerow(entry)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", required=True)
    parser.add_argument("--records", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml: labels and order")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    args = parser.parse_args()

    note = read_notes(args.variants).get(args.suite, "")
    summary = summarise(records.read(args.records), args.suite, read_variants(args.variants), note)
    for suffix, text in (("md", markdown(summary)), ("csv", csv_text(summary)), ("tex", latex(summary))):
        path = Path(args.out) / f"ablation.{suffix}"
        files.write_text(path, text)
        print(path)


if __name__ == "__main__":
    command(main)
