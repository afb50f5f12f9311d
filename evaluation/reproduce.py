"""How to remake a committed row, as a shell script; and whether a remade one is equal.

    python -m evaluation.records reproduce eced5b > remake.sh
    python -m evaluation.records reproduce eced5b --check runs/demo/gigagan/seed0/metrics.jsonl

What a row's ``git_sha`` names (see evaluation/runs.py): of a run's scores, and of those of the untrained generator, the
commit that trained the run; of a speed the one that measured it; of held-out images and of filters the one that scored
them. Which commit scored a run stands in no row of it. The row of held-out images under the same protocol tells: both
are collected together and scored by the same code, or the workflow would have scored one of them again. So it is the
later of the two.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation import protocols, records, suites
from evaluation.records import FILTERS, METRICS, REAL, REFERENCES, RUNLESS, UNTRAINED, Row, describe, identity
from evaluation.rivals.pretrained.settings import FAMILY
from evaluation.suites import Suite, elsewhere
from gigagan import provenance
from gigagan.errors import UserError, nearest

GPUS = re.compile(r"NVIDIA|Tesla|GeForce|Quadro|TITAN|AMD Instinct|AMD Radeon")
"""What the names of accelerators begin with. AMD's processors, too, may have Radeon in theirs, further on."""
MACHINE = ("id", "device", "dtype", "threads", "git_sha", "git_dirty", "torch", "started", "seconds")
"""Fields that say where and when: a remade row may have others and still be equal."""
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")  # a row's text must not end the comment that it stands in
FOLDERS = {
    "shards": "the folder of captioned shards, train-*.tar and test-*.tar",
    "images": "the folder of captioned images",
    "annotations": "the COCO captions_*.json",
    "weights": "the folder of pretrained weights",
    "models": "the folder of pretrained models",
}


@dataclass(frozen=True)
class Step:
    """One checkout and the file that is made there."""

    why: str
    commit: str
    target: str


def find(prefix: str, rows: Sequence[Row]) -> Row:
    """The row whose id begins so. Raises UserError where none does, with the nearest, or several do."""
    by_id = {identity(row): row for row in rows}
    found = [name for name in by_id if prefix and name.startswith(prefix.lower())]
    if len(found) == 1:
        return by_id[found[0]]
    shown = found[:3] or difflib.get_close_matches(prefix.lower(), by_id, n=1, cutoff=0.0)
    named = ", ".join(f"{name} {describe(by_id[name])}" for name in shown)
    if found:
        raise UserError(f"{len(found)} rows have an id that begins with {prefix!r}: {named}, ...: give more digits")
    raise UserError(f"no row has the id {prefix!r} (nearest: {named}): ids are those of results/records/*.jsonl")


def is_speed(row: Row) -> bool:
    return METRICS[row["metric"]].kind in ("speed", "size")


def steps(row: Row, rows: Iterable[Row], suite: Suite) -> list[Step]:
    """What to make at which commit, in order."""
    folder, named = f"runs/{suite.name}", row["git_sha"]
    if is_speed(row):
        return [Step("Train the runs of that process and measure their speed", named, f"{folder}/speed.jsonl")]
    scored_as = f"{row['protocol']}.jsonl" if suite.on_photographs else "metrics.jsonl"
    if row["variant"] == REAL and suite.on_photographs:
        return [Step("Score the photographs of the prompts", named, f"{folder}/{REAL}/{scored_as}")]
    if row["variant"] == REAL:
        return [Step("Score the held-out images", named, f"{folder}/real.jsonl")]
    if row["variant"] in FILTERS:
        return [Step("Enlarge the small pictures and score them", named, f"{folder}/{row['variant']}/metrics.jsonl")]
    run = f"{folder}/{variants(row, rows, suite)[0]}/seed{row['seed']}"
    scores = f"{folder}/{UNTRAINED}" if row["variant"] == UNTRAINED else run
    scored = _scored(row, rows)
    if row["variant"] in suite.pretrained:
        return [Step("Draw with the pretrained model and score it", scored, f"{scores}/{scored_as}")]
    if scored == named:
        return [Step("Train and score the run", named, f"{scores}/{scored_as}")]
    return [
        Step("Train the run", named, f"{run}/weights.safetensors"),
        Step("Score it", scored, f"{scores}/{scored_as}"),
    ]


def variants(row: Row, rows: Iterable[Row], suite: Suite) -> list[str]:
    """The variants that the workflow is told of: the row's own; of a speed all that were measured in one process; of
    the untrained generator the one that it is the beginning of. None where no run takes part."""
    if METRICS[row["metric"]].kind == "speed":
        together = {r["variant"] for r in rows if is_speed(r) and _of(row, r, "suite", "protocol", "seed", "started")}
        place = {name: i for i, name in enumerate(suite.variants)}
        return sorted(together, key=lambda name: (place.get(name, len(place)), name))
    if row["variant"] in RUNLESS:
        return []
    if row["variant"] != UNTRAINED:
        return [row["variant"]]
    same = {r["variant"] for r in rows if _of(row, r, "suite", "seed", "recipe_sha")} - set(REFERENCES)
    return [next((name for name in suite.variants if name in same), min(same, default=suite.variants[0]))]


def _of(row: Row, other: Row, *names: str) -> bool:
    return all(row[name] == other[name] for name in names)


def _scored(row: Row, rows: Iterable[Row]) -> str:
    """The commit that scored a run; see the module's docstring."""
    real = [r for r in rows if r["variant"] == REAL and _of(row, r, "suite", "protocol", "protocol_sha")]
    return max([row, *real], key=lambda r: r["started"])["git_sha"]


def on_gpu(row: Row, rows: Iterable[Row]) -> bool:
    """Whether a row was made on an accelerator. Rows without a run name the processor in any case: as the runs of their
    suite under the same protocol."""
    runs = [r for r in rows if r["seed"] is not None and _of(row, r, "suite", "protocol")]
    made = [row] if row["seed"] is not None or not runs else runs
    return all(GPUS.match(r["device"]) for r in made)


def script(row: Row, rows: Sequence[Row], suite: Suite, commit: Callable[[str], str | None]) -> str:
    """A shell script that remakes a row, shows it and compares it.

    Args:
        rows: all committed ones.
        commit: the full hash of a commit, None where there is no such (``provenance.commit``).

    Raises:
        UserError: the row names no commit, or this is no clone to check one out in.
    """
    here = commit("HEAD")
    if here is None:
        raise UserError("this folder is no git repository, so there is nothing to check out: run it in a clone")
    to_do = steps(row, rows, suite)
    brought = [*suite.brought]
    if any(elsewhere(protocols.load(name)) for name in suite.protocols) and "weights" not in brought:
        brought.append("weights")
    made = to_do[-1].target
    config = [f"suite={suite.name}"]
    if named := variants(row, rows, suite):
        config.append(f"variants={','.join(named)}")
    if row["seed"] is not None:
        config.append(f"seeds={row['seed']}")
    config.append(f"device={'cuda' if on_gpu(row, rows) else 'cpu'}")
    config += [f'{key}="${key.upper()}"' for key in brought]

    lines = ["#!/usr/bin/env bash", *_about(row, rows, suite, to_do, commit), "set -euo pipefail"]
    lines += [f': "${{{key.upper()}:?set it to {FOLDERS[key]}}}"' for key in brought]
    for step in to_do:
        full = _full(row, step.commit, commit)
        lines += ["", f"# {step.why}"]
        lines += [f"git checkout {full}", "make setup", "source .venv/bin/activate"]
        lines.append(f"snakemake --cores all {step.target} --config {' '.join(config)}")
    shown = [f'"{name}": "{row[name]}"' for name in ("variant", "metric", "protocol")]
    lines += ["", "# Show the remade row, and compare it with the committed one"]
    lines.append(f"grep -F {shlex.quote(shown[0])} {made}" + "".join(f" | grep -F {shlex.quote(s)}" for s in shown[1:]))
    lines.append(f"git checkout {here}")
    lines.append(f"python -m evaluation.records reproduce {identity(row)} --check {made}")
    return "\n".join(lines)


def _full(row: Row, name: str | None, commit: Callable[[str], str | None]) -> str:
    """The full hash of the commit that a row names, or as it is recorded where this clone has not got it."""
    if name is None or not re.fullmatch(r"[0-9a-f]{7,40}", name):
        raise UserError(f"{describe(row)} names no commit ({name!r}): what made it is not known")
    return commit(name) or name


def _about(
    row: Row, rows: Sequence[Row], suite: Suite, to_do: list[Step], commit: Callable[[str], str | None]
) -> list[str]:
    """The script's comments: what the row is, and what cannot be had again exactly."""
    protocol = protocols.load_speed(row["protocol"]) if is_speed(row) else protocols.load(row["protocol"])
    interval = "" if row["low"] is None or row["high"] is None else f" [{row['low']}, {row['high']}]"
    lines = [
        f"Remakes row {identity(row)}: {describe(row)} = {row['value']}{interval}",
        "",
        f"protocol  {row['protocol']} ({protocol.title}), hash {row['protocol_sha']}",
        f"recipe    {row['recipe_sha'] or 'none: no run made it'}",
        f"made on   {_machine(row)}",
        f"git_sha   {row['git_sha']}: the commit that {_did(row)}",
    ]
    if len(to_do) > 1:
        lines.append(
            f"scored by {to_do[-1].commit}: the commit that the row of held-out images under this protocol names; a "
            "run's rows name the one that trained it"
        )
    if row["seconds"] and not is_speed(row):
        lines.append(f"took      {row['seconds'] / 60:.3g} minutes of training")
    lines += ["", "What may come out otherwise:"]
    lines += [f"- {text}" for text in _inexact(row, rows, suite)]
    missing = sorted({step.commit for step in to_do if step.commit and commit(step.commit) is None})
    if missing:
        lines += ["", f"This clone has no commit {' and '.join(missing)}: `git fetch --unshallow`, or clone it whole."]
    lines += ["", f"Run it in a clone without runs/{suite.name}: what lies there already is not made again."]
    return [f"# {re.sub(_BREAKS, ' ', line)}".rstrip() for line in lines]


def _did(row: Row) -> str:
    if is_speed(row):
        return "measured it"
    if row["variant"] in RUNLESS:
        return "scored it"
    return "looked at the pretrained model" if row["family"] == FAMILY else "trained the run"


def _inexact(row: Row, rows: Iterable[Row], suite: Suite) -> list[str]:
    """What cannot be had again exactly, and why."""
    texts = []
    if row["metric"] == "params_m":
        texts.append("Nothing: parameters are counted.")
    elif is_speed(row):
        texts.append("Speeds are of that machine and of what else ran on it: run nothing beside, expect another value.")
    elif row["variant"] in RUNLESS:
        texts.append("The last digits: another processor, or other versions of libraries, round otherwise.")
    elif on_gpu(row, rows):
        texts.append("All of it: a GPU does not add in the same order twice. Expect what a further seed would give.")
    elif row["variant"] == UNTRAINED or row["variant"] in suite.pretrained:
        texts.append("The last digits: another processor, or other versions of libraries, round otherwise.")
    else:
        texts.append(
            "On another processor, with other threads or other versions of libraries, rounding differs and training "
            "makes it grow: expect what a further seed would give. On the same ones the bits are the same."
        )
    if is_speed(row):
        return texts + ([f"The data ({row['dataset']}) are not here: bring them."] if suite.brought else [])
    protocol = protocols.load(row["protocol"])
    judged = any((name or "").startswith("judge") for name in (protocol.extractor, protocol.clip))
    covered = [f"{what} hash" for what, covers in (("protocol", judged), ("recipe", row["recipe_sha"])) if covers]
    if suite.trains_clips and covered:
        texts.append(
            "The suite trains its own CLIPs first, and on another processor others come out: then the "
            f"{' and the '.join(covered)} differ{'s' * (len(covered) == 1)}, covering them, and values do not compare."
        )
    if suite.brought:
        texts.append(
            f"The data ({row['dataset']}) are not here: bring them. The protocol hash covers the contents of the "
            "held-out pictures, so other pictures have another."
        )
    if networks := elsewhere(protocol):
        texts.append(f"The weights behind {', '.join(networks)} are not here: bring them.")
    return texts


# ---------------------------------------------------------------------------------------------------- the comparison


def compare(row: Row, path: str | Path) -> tuple[bool, str]:
    """Whether the file's row of the same measurement is equal to the committed one, and in words by how much not.

    Raises:
        UserError: the file has no such row, or several.
    """
    names = ("suite", "variant", "seed", "metric", "protocol")
    rows = records.read([path])
    found = [r for r in rows if _of(row, r, *names) and r.get("batch") == row.get("batch")]
    if not found:
        wanted = {describe(r) for r in rows}
        hint = nearest(describe(row), wanted) if wanted else ": it is empty"
        raise UserError(f"{path}: no row for {describe(row)}{hint}")
    if len(found) > 1:
        raise UserError(f"{path}: {len(found)} rows for {describe(row)}: give the file of one run")
    (other,) = found
    fields = [name for name in records.FIELDS if name not in MACHINE and row.get(name) != other.get(name)]
    lines = [f"{'differs' if fields else 'equal'}: {describe(row)}"]
    lines += [f"  {name}: {_change(row.get(name), other.get(name))}" for name in fields]
    if "value" not in fields:
        lines.append(f"  value: {row['value']} in both")
    elif row["low"] is not None and row["high"] is not None:
        inside = row["low"] <= other["value"] <= row["high"]
        lines.append(f"  within the committed interval: {'yes' if inside else 'no'}")
    lines += [f"  {word} {r['git_sha']} on {_machine(r)}" for word, r in (("committed:", row), ("remade:   ", other))]
    if _of(row, other, "started", "git_sha", "device"):
        lines.append("  The file holds the committed measurement itself: nothing was remade.")
    return not fields, "\n".join(lines)


def _change(old: object, new: object) -> str:
    """``old -> new``, with the difference of numbers."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
    if not numbers:
        return f"{old} -> {new}"
    relative = f", {(new - old) / abs(old):+.2g} of it" if old else ""
    return f"{old} -> {new} ({new - old:+.3g}{relative})"


def _machine(row: Row) -> str:
    threads = row["threads"] and f"{row['threads']} thread{'s' * (row['threads'] != 1)}"
    return ", ".join(filter(None, (row["device"], threads, row["dtype"], f"torch {row['torch']}", row["started"])))


def main(prefix: str, folder: str | Path, check: str | None) -> None:
    """The command: print the script, or compare and exit 1 where the rows differ."""
    rows = records.read(records.committed(folder))
    row = find(prefix, rows)
    if check is not None:
        equal, text = compare(row, check)
        print(text)
        sys.exit(0 if equal else 1)
    print(script(row, rows, suites.suite(row["suite"]), provenance.commit))
