"""Write what the repository shows of its committed rows: the table in README.md, and results/README.md.

    python -m evaluation.readme

Tables come from ``results/records/*.jsonl`` and nothing else; pictures stand in ``results/gallery``, where
``--pictures SUITE`` copies those of a suite that was just run, those of ``snakemake edits`` too where it was. README.md
shows the suite ``SHOWN``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from evaluation import records
from evaluation.summary import brief, read_variants, summarise
from evaluation.tables import markdown
from gigagan import files
from gigagan.errors import UserError, command

SHOWN = "demo"
BEGIN = "<!-- demo: made by `python -m evaluation.readme` from results/records; do not edit -->"
END = "<!-- /demo -->"
MORE = "With intervals and speeds, and for the other suites: [results/README.md](results/README.md)."
PICTURES = ("grid", "bars", "fd_over_training", "fd_vs_clip")
EDITS = (
    "truncation",
    "truncation_overall",
    "truncation_curve",
    "interpolate",
    "prompts",
    "styles",
    "mix",
    "arithmetic",
)


def table(folder: Path, suite: str, variants: str, short: bool = False) -> str:
    """The ablation table of a suite's committed rows, as Markdown; ``short`` is for the front page."""
    summary = summarise(records.read([folder / f"{suite}.jsonl"]), suite, read_variants(variants))
    return markdown(brief(summary) if short else summary)


def pictures(gallery: Path, suite: str, base: str, names: tuple[str, ...] = PICTURES) -> str:
    """Markdown for the pictures of a suite that are there; ``base`` is the gallery's path from the page."""
    there = [name for name in names if (gallery / f"{suite}_{name}.png").is_file()]
    return "\n".join(f"![{suite}: {name.replace('_', ' ')}]({base}/{suite}_{name}.png)\n" for name in there)


def front(page: str, block: str) -> str:
    """README.md with what stands between its two marks replaced. Raises UserError where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"README.md: the marks {BEGIN!r} and {END!r} must stand in it, in this order")
    return f"{before}{BEGIN}\n\n{block.strip()}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.readme", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=Path, default=Path("results/records"))
    parser.add_argument("--gallery", type=Path, default=Path("results/gallery"))
    parser.add_argument("--variants", default="ablations/variants.yaml")
    parser.add_argument("--pictures", nargs="*", default=[], metavar="SUITE", help="copy the figures of these suites")
    args = parser.parse_args()

    for suite in args.pictures:
        sources = [Path("results", suite, "figures", f"{name}.png") for name in PICTURES]
        if (edits := Path("results", suite, "edits")).is_dir():
            sources += [edits / f"{name}.png" for name in EDITS]
        for source in sources:
            if not source.is_file():
                raise UserError(f"{source} is missing: run the suite first")
            with files.written_whole(args.gallery / f"{suite}_{source.name}") as temporary:
                shutil.copyfile(source, temporary)
    suites = sorted(path.stem for path in args.records.glob("*.jsonl"))
    if SHOWN not in suites:
        raise UserError(f"{args.records}: no {SHOWN}.jsonl there; take its rows in with evaluation.records add")
    shown = pictures(args.gallery, SHOWN, "results/gallery", ("grid",))
    block = f"{shown}\n{table(args.records, SHOWN, args.variants, short=True)}\n{MORE}"
    files.write_text("README.md", front(Path("README.md").read_text(encoding="utf-8"), block))
    parts = ["# Results\n\nMade by `python -m evaluation.readme` from `records/`, the committed rows; do not edit.\n"]
    for suite in suites:
        parts.append(
            f"## {suite}\n\n{table(args.records, suite, args.variants)}\n{pictures(args.gallery, suite, 'gallery')}"
        )
        if edits := pictures(args.gallery, suite, "gallery", EDITS):
            parts.append(f"**Edits of its latents** (`snakemake --cores all edits --config suite={suite}`)\n\n{edits}")
    files.write_text("results/README.md", "\n".join(parts))


if __name__ == "__main__":
    command(main)
