"""Variants, suites and the paper's models, resolved: parents, overrides, plans for the workflow.

python -m ablations.registry list
python -m ablations.registry show demo no_attention
python -m ablations.registry cost photos
python -m ablations.registry params
python -m ablations.registry memory
python -m ablations.registry steps --out results/records/steps.json
python -m ablations.registry overrides laion_64 no_attention
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ablations import audit, cluster
from ablations.cost import cost
from ablations.plan import FILTERS, Plan, check, code, dry_run
from ablations.pretrained import describe, pretrained
from ablations.recipes import (
    ancestry,
    difference,
    model,
    models,
    recipe,
    suite,
    suites,
    variants,
    varied,
)
from ablations.sizes import RATES
from gigagan.config import parse_overrides
from gigagan.errors import command
from gigagan.files import write_text

__all__ = ["FILTERS", "Plan", "check", "code", "dry_run"]  # what the Snakefile takes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ablations.registry", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every variant, suite and model")
    show = commands.add_parser("show", help="what a variant changes, and its overrides in a suite")
    show.add_argument("suite")
    show.add_argument("variant")
    costs = commands.add_parser("cost", help="time, memory and disk of a suite, before anything starts")
    costs.add_argument("suite")
    costs.add_argument("--device", choices=list(RATES), default="cpu")
    costs.add_argument("--variants", default="", help="others than the suite's, separated by commas")
    costs.add_argument("--seeds", default="", help="others than the suite's, as 0-7")
    params = commands.add_parser("params", help="parameters of every model of the paper, ours beside the paper's")
    params.add_argument("--out", type=Path, help="write them there instead of printing them")
    memory = commands.add_parser("memory", help="GPU memory that a training step of the paper's models takes, counted")
    memory.add_argument("--out", type=Path, help="write it there instead of printing it")
    steps = commands.add_parser("steps", help="operations and memory of a step of suites at the paper's size, counted")
    steps.add_argument("--out", type=Path, help="write them there instead of printing them")
    words = commands.add_parser("overrides", help="a model's, or its variant's, for python -m gigagan.train")
    words.add_argument("model")
    words.add_argument("variant", nargs="?", default="gigagan")
    args = parser.parse_args()

    printers: dict[str, Callable[[], str]] = {
        "list": _list,
        "show": lambda: _show(args.suite, args.variant),
        "cost": lambda: cost(args.suite, args.device, args.variants, args.seeds),
        "params": audit.table,
        "memory": audit.memory_table,
        "steps": cluster.steps_json,
        "overrides": lambda: " ".join(varied(model(args.model), args.variant)),
    }
    text = printers[args.command]()
    if getattr(args, "out", None):
        write_text(args.out, text)
    else:
        print(text)


def _list() -> str:
    lines = ["variants"]
    lines += [
        f"  {v.name:30} {' '.join(v.overrides) or ('(matched)' if v.match else '(the full model)')}"
        for v in variants().values()
    ]
    lines += ["suites"] + [f"  {s.name:30} {s.about}" for s in suites().values()]
    lines += ["models of the paper"] + [f"  {m.name:30} {m.label} ({m.source})" for m in models().values()]
    lines += ["pretrained models"] + [f"  {m.name:30} {m.label} ({m.folder})" for m in pretrained().values()]
    return "\n".join(lines)


def _show(suite_name: str, name: str) -> str:
    of = suite(suite_name)
    if name in of.pretrained:
        return "\n".join([*([" ".join(of.data.split())] if of.data else []), describe(name)])
    strings = recipe(of, name)
    parent = None if name in (*of.models, of.upsampler) else ancestry(name)[-1].parent
    lines = [*([" ".join(of.data.split())] if of.data else []), " ".join(strings)]
    if parent:
        lines += [f"differs from {parent} in:"]
        lines += [f"  {d}" for d in difference(parse_overrides(recipe(of, parent)), parse_overrides(strings))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command(main))
