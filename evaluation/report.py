"""The report of a suite: one HTML file with its table, figures, gate verdict, protocols and provenance.

    python -m evaluation.report --suite demo --records results/demo/metrics.jsonl --figures results/demo/figures \\
        --variants ablations/variants.yaml --gate results/demo/gate.json --out results/demo/report.html

It opens from disk and loads nothing: images are data URIs. All text from outside, captions above all, is escaped.
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from evaluation import records, regression
from evaluation.records import Row
from evaluation.summary import COSTS, Line, Summary, read_notes, read_variants, summarise
from evaluation.tables import caption, cell_text, csv_text, finding, heading
from gigagan import files
from gigagan.errors import UserError, command

FIGURES = {
    "grid.png": ("Pictures", "The same captions and the same noise for all variants, beside the real image."),
    "bars.svg": ("Metrics", "Each variant's score under each metric."),
    "leave_one_out.svg": ("Leave one out", "What changes when a part is taken out of the full model."),
    "training_curves.svg": (
        "Training curves",
        "FD and CLIP score of snapshots, by training images seen.",
    ),
    "fd_vs_clip.svg": ("FD against CLIP score", "Fidelity against agreement with the caption: up and left is better."),
    "quality_vs_latency.svg": ("Quality against latency", "What quality a latency buys, on one device and setting."),
    "quality_vs_steps.svg": (
        "Quality against steps",
        "Few steps of diffusion, distilled or not, beside what takes one.",
    ),
}

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1c1d1f; --soft: #5d6167; --rule: #dcdcd6; --band: #f3f3ee;
  --link: #0060a8; --good: #00704d; --bad: #b3370a; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e6e6e3; --soft: #a3a8ae; --rule: #383c42;
  --band: #1f2226; --link: #7cc0f5; --good: #4cc79c; --bad: #ff8a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 3rem clamp(1rem, 4vw, 3rem) 5rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 3rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; } .soft, figcaption, small { color: var(--soft); }
a { color: var(--link); } nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1.2rem 0 0; }
.notes { font-size: .85rem; color: var(--soft); max-width: 60rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; border-block: 1px solid var(--rule); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .5rem .6rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
thead th { vertical-align: bottom; white-space: normal; font-weight: 600; border-bottom: 1px solid var(--rule); }
tbody th { font-weight: 500; } tbody tr + tr > * { border-top: 1px solid var(--rule); }
tr.reference > * { color: var(--soft); font-style: italic; } tr.full > * { background: var(--band); }
th small, td small { display: block; font-weight: 400; } td strong { color: var(--ink); }
.words td, .words th { text-align: left; white-space: normal; min-width: 9rem; }
figure { margin: 1.5rem 0 2.5rem; } figcaption { font-size: .875rem; margin-top: .5rem; }
figure img { display: block; max-width: min(100%, 64rem); height: auto; padding: .5rem; background: #fff;
  border: 1px solid var(--rule); border-radius: 6px; }
pre { overflow-x: auto; background: var(--band); border-radius: 6px; padding: 1rem; font: .8rem/1.5 ui-monospace,
  "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; color: var(--link); }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; } }
"""


def page(summary: Summary, figures: str, gate: str, protocols: str) -> str:
    """The whole document. ``figures``, ``gate`` and ``protocols`` are its sections as HTML, or empty."""
    title = f"Ablations: {summary.suite}"
    sections = {
        "results": ("Results", _results(summary)),
        "expected": ("Expected and seen", _expected(summary)),
        "figures": ("Figures", figures),
        "gate": ("Regression gate", gate),
        "protocols": ("Protocols", protocols),
        "provenance": ("Provenance", _provenance(summary.rows)),
    }
    given = {anchor: section for anchor, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, (name, _) in given.items())
    body = "".join(f'<section id="{a}"><h2>{escape(name)}</h2>{text}</section>' for a, (name, text) in given.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{escape(_lead(summary))}</p><nav>{links}</nav></header>
{body}
</body>
</html>
"""


def _lead(summary: Summary) -> str:
    trained = [line for line in summary.lines if not line.is_reference]
    runs = {(row["variant"], row["seed"]): row["seconds"] or 0.0 for row in summary.rows if row["kimg"]}
    hours, minutes = divmod(round(sum(runs.values()) / 60), 60)
    spent = f"{hours}\u00a0h {minutes}\u00a0min" if hours else f"{minutes}\u00a0min"
    datasets = " and ".join(sorted({row["dataset"] for row in summary.rows} - {""}))
    if not runs:
        return f"{_many(len(trained), 'pretrained model')} on {datasets}, not trained here, on held-out captions."
    return (
        f"{_many(len(trained), 'variant')} on {datasets}, trained from scratch in {_many(len(runs), 'run')} "
        f"({spent} of training in all) "
        "and scored on held-out captions."
    )


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _results(summary: Summary) -> str:
    head = "".join(_head(*heading(column, summary.columns)) for column in summary.columns)
    body = "".join(_result(summary, line) for line in summary.lines)
    head = f"{_head('variant')}{_head('n')}{head}{''.join(_head(COSTS[name][0]) for name in summary.costs)}"
    table = f"<thead><tr>{head}</tr></thead>"
    data = _data_uri("text/csv", csv_text(summary).encode())
    return (
        f'<div class="scroll"><table>{table}<tbody>{body}</tbody></table></div>'
        f'<p class="notes">{escape(" ".join(caption(summary)))}</p>'
        f'<p><a download="{escape(summary.suite)}.csv" href="{data}">The same unrounded, as CSV</a></p>'
    )


def _head(name: str, below: str = "") -> str:
    return f'<th scope="col">{escape(name)}<small>{escape(below)}</small></th>'


def _result(summary: Summary, line: Line) -> str:
    kind = "reference" if line.is_reference else "full" if line is summary.full else "variant"
    cells = f"<td>{line.n or '–'}</td>"
    for column in summary.columns:
        value, difference, significant = cell_text(line, column)
        below = f"<strong>{escape(difference)}</strong>" if significant else escape(difference)
        cells += f"<td>{escape(value)}<small>{below}</small></td>"
    cells += "".join(f"<td>{escape(line.costs[name])}</td>" for name in summary.costs)
    return f'<tr class="{kind}"><th scope="row">{escape(line.variant.label)}</th>{cells}</tr>'


def _expected(summary: Summary) -> str:
    if summary.full is None or not summary.awaited:
        return ""
    rows = [(line.variant.label, line.variant.expect or "–", finding(summary, line)) for line in summary.awaited]
    return _table(("variant", "the paper would expect", "seen here"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of words."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    heads = "".join(_head(name) for name in head)
    return f'<div class="scroll words"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _provenance(rows: list[Row]) -> str:
    """One line per run: what made its numbers."""
    runs = {(row["variant"], row["seed"]): row for row in rows if records.METRICS[row["metric"]].kind == "quality"}
    names = ("variant", "seed", "family", "recipe_sha", "kimg", "seconds", "dtype", "threads", "device", "torch")
    table = []
    for row in runs.values():
        git = f"{(row['git_sha'] or 'unknown')[:10]}{'' if row['git_dirty'] is False else ', uncommitted changes'}"
        values = [f"{row[name]:,.6g}" if isinstance(row[name], float) else row[name] for name in names]
        table.append(["–" if value is None else value for value in [*values, git, row["started"]]])
    listing = _table([*(name.removesuffix("_sha") for name in names), "commit", "started"], table)
    return listing if len(table) <= 12 else f"<details><summary>{len(table)} runs</summary>{listing}</details>"


def read_figures(folder: Path) -> str:
    """All figures found, as HTML. Raises UserError where there are none."""
    found = {name: folder / name for name in FIGURES if (folder / name).is_file()}
    if not found:
        raise UserError(f"no figures in {folder}: make them with evaluation.plots")
    kinds = {".png": "image/png", ".svg": "image/svg+xml"}
    return "".join(
        f'<figure><img alt="{escape(FIGURES[name][0])}" src="{_data_uri(kinds[path.suffix], path.read_bytes())}">'
        f"<figcaption><b>{escape(FIGURES[name][0])}.</b> {escape(FIGURES[name][1])}</figcaption></figure>"
        for name, path in found.items()
    )


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def read_gate(path: Path) -> str:
    """The gate's verdict as HTML; empty if the suite was not put through the gate.

    Raises:
        UserError: the file is not what evaluation.regression writes.
    """
    if not path.is_file():
        return ""
    passed, text = regression.read_verdict(path)
    word = '<p class="good">Passed</p>' if passed else '<p class="bad">Failed</p>'
    return f"{word}<pre>{escape(text)}</pre>"


def read_protocols(path: Path, used: Iterable[str]) -> str:
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    text = escape(path.read_text(encoding="utf-8"))
    names = escape(", ".join(sorted(set(used))))
    return f"<p>Used here: {names}.</p><details><summary>{escape(path.name)}</summary><pre>{text}</pre></details>"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", required=True)
    parser.add_argument("--records", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--figures", required=True, metavar="FOLDER", help="made by evaluation.plots")
    parser.add_argument("--variants", default="", metavar="FILE", help="ablations/variants.yaml: labels and order")
    parser.add_argument("--protocols", default=str(Path(__file__).with_name("protocols.yaml")), metavar="FILE")
    parser.add_argument("--gate", default="", metavar="FILE", help="gate.json, shown if it exists")
    parser.add_argument("--out", required=True, metavar="FILE")
    args = parser.parse_args()

    note = read_notes(args.variants).get(args.suite, "")
    summary = summarise(records.read(args.records), args.suite, read_variants(args.variants), note)
    protocols = read_protocols(Path(args.protocols), (row["protocol"] for row in summary.rows))
    gate = read_gate(Path(args.gate)) if args.gate else ""
    files.write_text(args.out, page(summary, read_figures(Path(args.figures)), gate, protocols))
    print(args.out)


if __name__ == "__main__":
    command(main)
