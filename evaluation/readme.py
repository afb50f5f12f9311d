"""Write what the repository shows of its committed records: the table in README.md, results/README.md and its figures.

    python -m evaluation.readme

All tables and plots come from ``results/records`` and nothing else, byte for byte. Only pictures of ``snakemake edits``
are drawn from weights: they stand in ``results/gallery``, where ``--pictures SUITE`` copies those of a suite that was
just run, after it has taken in what the suite's plots need (evaluation.plotted). README.md shows the suite ``SHOWN``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from evaluation import paper_figures, paper_tables, plots, plotted, published, records
from evaluation.digest import digest
from evaluation.looks import save
from evaluation.records import Row
from evaluation.summary import Variant, brief, read_notes, read_variants, summarise
from evaluation.tables import markdown
from evaluation.tradeoffs import truncation_curve
from gigagan import files
from gigagan.errors import UserError, command

SHOWN = "demo"
BEGIN = "<!-- demo: made by `python -m evaluation.readme` from results/records; do not edit -->"
END = "<!-- /demo -->"
MORE = "With intervals and speeds, and for the other suites: [results/README.md](results/README.md)."
CURVE = "truncation_curve"
EDITS = (
    "truncation",
    "truncation_overall",
    CURVE,
    "interpolate",
    "prompts",
    "styles",
    "mix",
    "arithmetic",
)
"""Pictures of edits, and among them the curve over truncation, which is a plot."""


def table(folder: Path, suite: str, variants: str, short: bool = False) -> str:
    """The ablation table of a suite's committed rows, as Markdown; ``short`` is for the front page."""
    rows, note = records.read([folder / f"{suite}.jsonl"]), read_notes(variants).get(suite, "")
    summary = summarise(rows, suite, read_variants(variants), note)
    return markdown(brief(summary) if short else summary)


def figures(folder: Path, suite: str, known: Mapping[str, Variant]) -> dict[str, Figure]:
    """Every plot of a suite's committed records, by name.

    Raises:
        UserError: points or pictures that are not of the runs that the rows are of.
    """
    rows = records.read([folder / f"{suite}.jsonl"])
    progress = plotted.read_curves(folder, suite, rows)
    pictures = plotted.read_pictures(folder, suite, rows)
    drawn = plots.draw(summarise(rows, suite, known), known, progress, pictures)
    points = plotted.read_truncation(folder, suite, rows)
    drawn |= {CURVE: truncation_curve(points) if points else None}
    return {name: figure for name, figure in drawn.items() if figure}


def pictures(suite: str, base: str, names: list[str]) -> str:
    """Markdown that shows pictures of a suite; ``base`` is the gallery's path from the page."""
    return "\n".join(f"![{suite}: {name.replace('_', ' ')}]({base}/{suite}_{name}.png)\n" for name in names)


def section(folder: Path, gallery: Path, suite: str, variants: str) -> str:
    """A suite's part of the page; its plots are drawn into the gallery."""
    drawn = figures(folder, suite, read_variants(variants))
    for name in (*plots.NAMES, CURVE):
        if name in drawn:
            save(drawn[name], gallery, f"{suite}_{name}", ("png",))
        else:
            (gallery / f"{suite}_{name}.png").unlink(missing_ok=True)
    parts = [f"## {suite}\n\n{table(folder, suite, variants)}\n"]
    parts.append(pictures(suite, "gallery", [name for name in plots.NAMES if name in drawn]))
    if lacking := [name for name in ("grid", "training_curves") if name not in drawn]:
        words = " and ".join(name.replace("_", " ") for name in lacking)
        parts.append(f"\nNot kept of its runs: {words}.\n")
    edits = [name for name in EDITS if name in drawn or (name != CURVE and (gallery / f"{suite}_{name}.png").is_file())]
    if edits:
        head = f"**Edits of its latents** (`snakemake --cores all edits --config suite={suite}`)"
        parts.append(f"\n{head}\n\n{pictures(suite, 'gallery', edits)}")
    return "".join(parts)


def paper(rows: list[Row], gallery: Path, variants: str) -> str:
    """The part of the page that shows what the paper prints, with the rows of ours that may stand beside it."""
    known, notes = read_variants(variants), read_notes(variants)
    drawn = paper_figures.draw(rows, known)
    for name, figure in drawn.items():
        save(figure, gallery, f"paper_{name}", ("png",))
    parts = ["## What the paper prints\n", pictures("paper", "gallery", [*drawn])]
    for name in published.printable():
        of = published.table(name)
        parts.append(
            f"### {of.table}: {of.title}\n\n{paper_tables.markdown(paper_tables.Sheet(of, rows, notes, known))}"
        )
    return "\n".join(parts)


def front(page: str, block: str) -> str:
    """README.md with what stands between its two marks replaced. Raises UserError where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"README.md: the marks {BEGIN!r} and {END!r} must stand in it, in this order")
    return f"{before}{BEGIN}\n\n{block.strip()}\n\n{END}{after}"


def copy_edits(folder: Path, gallery: Path, suite: str) -> None:
    """Raises UserError where a picture is missing."""
    for name in (name for name in EDITS if name != CURVE):
        source = folder / f"{name}.png"
        if not source.is_file():
            raise UserError(f"{source} is missing: run the suite first")
        with files.written_whole(gallery / f"{suite}_{name}.png") as temporary:
            shutil.copyfile(source, temporary)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.readme", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=Path, default=Path("results/records"))
    parser.add_argument("--gallery", type=Path, default=Path("results/gallery"))
    parser.add_argument("--variants", default="ablations/variants.yaml")
    parser.add_argument(
        "--pictures",
        nargs="*",
        default=[],
        metavar="SUITE",
        help="take in what the plots of these suites need, and copy pictures of edits",
    )
    args = parser.parse_args()

    for suite in args.pictures:
        plotted.add(suite, Path("runs", suite), args.records)
        if (edits := Path("results", suite, "edits")).is_dir():
            copy_edits(edits, args.gallery, suite)
    suites = sorted(path.stem for path in args.records.glob("*.jsonl"))
    if SHOWN not in suites:
        raise UserError(f"{args.records}: no {SHOWN}.jsonl there; take its rows in with evaluation.records add")
    rows = records.read(args.records / f"{suite}.jsonl" for suite in suites)
    sections = [section(args.records, args.gallery, suite, args.variants) for suite in suites]
    parts = [
        "# Results\n\nMade by `python -m evaluation.readme` (or `snakemake --cores 1 page`) from `records/`, what is "
        "committed of the runs; do not edit. What the scores mean, and which of them must not rank models: "
        f"[How it is scored](../README.md#how-it-is-scored).\n\nDigest of the {len(rows)} rows below "
        f"(`python -m evaluation.records digest`): `{digest(rows)}`\n",
        *sections,
        paper(rows, args.gallery, args.variants),
    ]
    shown = pictures(SHOWN, "results/gallery", ["grid"])
    block = f"{shown}\n{table(args.records, SHOWN, args.variants, short=True)}\n{MORE}"
    files.write_text("README.md", front(Path("README.md").read_text(encoding="utf-8"), block))
    files.write_text("results/README.md", "\n".join(parts))


if __name__ == "__main__":
    command(main)
