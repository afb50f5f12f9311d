"""Result rows: one flat JSON object per run and metric, with where it came from. This file is their only schema.

    python -m evaluation.records collect --suite demo --out results/demo/metrics.jsonl FILES...
    python -m evaluation.records add results/demo/metrics.jsonl
    python -m evaluation.records check
    python -m evaluation.records digest
    python -m evaluation.records reproduce ID

``collect`` joins the rows of a suite's runs, ``add`` takes them into results/records/<suite>.jsonl, which is committed,
``check`` (evaluation/check.py) validates all that is committed, ``digest`` (evaluation/digest.py) gives one hash of a
result set, ``reproduce`` (evaluation/reproduce.py) prints how to remake a row.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.declared import METRICS
from gigagan import files
from gigagan.errors import UserError, command, nearest

SCHEMA = 1
REAL, UNTRAINED = "real", "untrained"
FILTERS = ("bicubic", "lanczos")
RUNLESS = (REAL, *FILTERS)
"""Rows that no run made: held-out images, and for upsamplers what plain filters make of the small ones."""
REFERENCES = (*RUNLESS, UNTRAINED)
"""The floor and the ceiling of every table: held-out images, and the generator before its first step."""

FOLDER = "results/records"
"""Where the committed rows are."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Field:
    type: type
    required: bool = True
    nullable: bool = False


FIELDS: dict[str, Field] = {
    "id": Field(str, required=False),  # hash of the row's content; set when the row is taken into results/records
    "schema": Field(int),
    "suite": Field(str),
    "variant": Field(str),
    "family": Field(str),
    "seed": Field(int, nullable=True),  # the training seed; real images have none
    "dataset": Field(str),
    "metric": Field(str),
    "value": Field(float),  # NaN is a result too: a diverged run, which the gate fails
    "low": Field(float, nullable=True),  # 95 % interval within this one run (over what its metric declares, not seeds)
    "high": Field(float, nullable=True),
    "higher_is_better": Field(bool, nullable=True),
    "n_images": Field(int, nullable=True),
    "protocol": Field(str),
    "protocol_sha": Field(str),
    "recipe_sha": Field(str, nullable=True),
    "kimg": Field(float, nullable=True),  # thousands of training images seen
    "params_m": Field(float, nullable=True),  # millions, generator at inference
    "seconds": Field(float, nullable=True),  # of training
    "device": Field(str),
    "dtype": Field(str, nullable=True),
    "threads": Field(int, nullable=True),
    "git_sha": Field(str, nullable=True),
    "git_dirty": Field(bool, nullable=True),
    "torch": Field(str),
    "started": Field(str),  # ISO 8601
    "train_tflop": Field(float, required=False),  # 1e12 operations of training, of what the run starts from, too
    "steps": Field(int, required=False),  # of sampling
    "n_seeds": Field(int, required=False, nullable=True),
    "batch": Field(int, required=False, nullable=True),
    "resolution": Field(int, required=False, nullable=True),
    "nfe": Field(int, required=False, nullable=True),  # network evaluations one after the other, per image
    "compile": Field(str, required=False, nullable=True),  # a mode of torch.compile, or none
    "p90": Field(float, required=False, nullable=True),
    "p99": Field(float, required=False, nullable=True),
    "flops_g": Field(float, required=False, nullable=True),  # 1e9 operations of one picture, a multiply-add is two
    "judge_trained": Field(bool, required=False, nullable=True),  # the network that scores has trained the run, too
    "layout": Field(str, required=False),  # of the weights in memory, where it is not torch's usual one
    "peak_tflops": Field(float, required=False),  # the device's measured matrix rate in this dtype
    "peak_share": Field(float, required=False),  # operations a second by that
    "best": Field(bool, required=False),  # throughput: no other batch of the sweep gives more
    "n_constant": Field(int, required=False),  # of n_images, those of one colour; scores: where any are
    "n_non_finite": Field(int, required=False),  # ... and those that held NaN or infinity
}
KEY = (
    *("suite", "variant", "seed", "metric", "protocol"),
    *("device", "batch", "resolution", "threads", "dtype", "compile", "layout"),
)
"""Two rows with the same key are two measurements of the same thing; the newer replaces the older."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # suites and variants become file names


def key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEY)


def _order(row: Row) -> tuple[Any, ...]:
    return tuple((value is not None, 0 if value is None else value) for value in key(row))


def validate(row: Row) -> Row:
    """The row itself, if it fits the schema.

    Raises:
        UserError: an unknown or missing field, a wrong type, an unknown metric, or a direction that is not its own.
    """
    if not isinstance(row, dict):
        raise UserError(f"a record must be a JSON object, not {type(row).__name__}")
    for name in row:
        if name not in FIELDS:
            raise UserError(f"unknown field {name!r}{nearest(name, FIELDS)}")
    for name, field in FIELDS.items():
        if name not in row:
            if field.required:
                raise UserError(f"field {name!r} is missing")
        elif not _fits(row[name], field):
            raise UserError(f"field {name!r} must be {field.type.__name__}, not {row[name]!r}")
    if row["schema"] != SCHEMA:
        raise UserError(f"schema {row['schema']} is not {SCHEMA}: score the run again with this version")
    for name in ("suite", "variant"):
        if not _NAME.fullmatch(row[name]):
            raise UserError(f"{name} {row[name]!r} is not a plain name")
    if row["metric"] not in METRICS:
        raise UserError(f"unknown metric {row['metric']!r}{nearest(row['metric'], METRICS)}")
    direction = METRICS[row["metric"]].higher_is_better
    if direction is not None and row["higher_is_better"] is not direction:
        raise UserError(f"{row['metric']} is better when {'higher' if direction else 'lower'}, the row says otherwise")
    if row["low"] is not None and row["high"] is not None and row["low"] > row["high"]:
        raise UserError(f"interval [{row['low']}, {row['high']}] of {row['metric']} is upside down")
    return row


def _fits(value: Any, field: Field) -> bool:
    if value is None:
        return field.nullable
    if isinstance(value, bool):
        return field.type is bool
    return isinstance(value, (int, float) if field.type is float else field.type)


def read(paths: Iterable[str | Path]) -> list[Row]:
    """All rows of some JSON-lines files, validated, in the order given.

    Raises:
        UserError: a file that is missing or a line that is no valid row, named as ``file:line``.
    """
    rows = []
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, IsADirectoryError):
            raise UserError(f"no such file: {path}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a text file") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(validate(json.loads(line)))
            except json.JSONDecodeError as e:
                raise UserError(f"{path}:{number}: not JSON ({e.msg}): score the run again") from None
            except UserError as e:
                raise UserError(f"{path}:{number}: {e.message}") from None
    return rows


def content(row: Row) -> bytes:
    """All that a row says but its ``id``, the same bytes in whatever order its fields stand."""
    return json.dumps({name: value for name, value in row.items() if name != "id"}, sort_keys=True).encode()


def identity(row: Row) -> str:
    """12 hex digits of the SHA-256 of the row's content."""
    return hashlib.sha256(content(row)).hexdigest()[:12]


def describe(row: Row) -> str:
    seed = "" if row["seed"] is None else f" seed {row['seed']}"
    return f"{row['suite']}/{row['variant']}{seed} {row['metric']} ({row['protocol']})"


def write(path: str | Path, rows: Iterable[Row]) -> None:
    """Rows sorted by their key, fields in the schema's order: the same rows give the same bytes."""
    files.write_jsonl(path, [{f: row[f] for f in FIELDS if f in row} for row in sorted(rows, key=_order)])


def collect(suite: str, out: str | Path, paths: list[str]) -> list[Row]:
    """Concatenate the rows of a suite's runs into one file.

    Raises:
        UserError: a row of another suite, or two rows with one key.
    """
    seen: dict[tuple[Any, ...], Row] = {}
    for row in read(paths):
        if row["suite"] != suite:
            raise UserError(f"{describe(row)} is not of suite {suite!r}: leave its file out")
        if key(row) in seen:
            raise UserError(f"two rows for {describe(row)}: leave one of their files out")
        seen[key(row)] = row
    write(out, seen.values())
    return list(seen.values())


def add(paths: list[str], folder: str | Path) -> dict[Path, int]:
    """Take generated rows into ``folder/<suite>.jsonl``, replacing older rows with the same key.

    Older rows of a run go, too, once there is a row of the same run by another recipe: they are of another model. So do
    all rows of a protocol once there is one by its next version.

    Returns how many rows each file was given.

    Raises:
        UserError: a row from a tree with uncommitted changes, or without a finite value. Nothing is written then.
    """
    fresh = read(paths)
    for row in fresh:
        _committable(row)
    given: dict[Path, int] = {}
    for suite in sorted({row["suite"] for row in fresh}):
        path = Path(folder) / f"{suite}.jsonl"
        ours = [row for row in fresh if row["suite"] == suite]
        recipes = {(row["variant"], row["seed"]): row["recipe_sha"] for row in ours}
        versions = dict(sorted(_version(row["protocol"]) for row in ours))
        old = read([path]) if path.exists() else []
        rows = {
            key(r): r
            for r in old
            if recipes.get((r["variant"], r["seed"]), r["recipe_sha"]) == r["recipe_sha"]
            and _version(r["protocol"])[1] >= versions.get(_version(r["protocol"])[0], 0)
        }
        rows |= {key(row): row | {"id": identity(row)} for row in ours}
        write(path, rows.values())
        given[path] = len(ours)
    return given


def _version(protocol: str) -> tuple[str, int]:
    name, _, version = protocol.rpartition("@")
    return (name, int(version)) if version.isdigit() else (protocol, 0)


def _committable(row: Row) -> None:
    if row["git_dirty"] is not False:
        raise UserError(
            f"{describe(row)} is not known to be from a tree without uncommitted changes: "
            "commit them, run the suite again, then add its rows"
        )
    if not math.isfinite(row["value"]):
        raise UserError(f"{describe(row)} has the value {row['value']}: only finite values are recorded")


def committed(folder: str | Path = FOLDER) -> list[Path]:
    """The files of committed rows; folders beside them are others'. Raises UserError where there are none."""
    found = sorted(path for path in Path(folder).glob("*.jsonl") if path.is_file())
    if not found:
        raise UserError(f"no rows (*.jsonl) in {folder}: run this in the project's folder, or say where with --folder")
    return found


def check(folder: str | Path) -> dict[Path, int]:
    """Validate every file of committed rows by itself; return how many rows each has. evaluation.check does the rest.

    Raises:
        UserError: the first row that should not be there, with its file.
    """
    counts = {}
    for path in committed(folder):
        rows = read([path])
        for row in rows:
            where = f"{path}: {describe(row)}"
            if row["suite"] != path.stem:
                raise UserError(f"{where} is in the file of another suite")
            if row.get("id") != identity(row):
                raise UserError(f"{where} was edited by hand: its id is {row.get('id')}, its content {identity(row)}")
            try:
                _committable(row)
            except UserError as e:
                raise UserError(f"{path}: {e.message}") from None
        if [key(row) for row in rows] != [key(row) for row in sorted({key(r): r for r in rows}.values(), key=_order)]:
            raise UserError(f"{path} is not sorted or has two rows with one key: make it with `records add`")
        counts[path] = len(rows)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.records", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="concatenate the rows of a suite's runs")
    collecting.add_argument("--suite", required=True)
    collecting.add_argument("--out", required=True)
    collecting.add_argument("files", nargs="+")
    adding = commands.add_parser("add", help="take generated rows into results/records")
    adding.add_argument("files", nargs="+")
    adding.add_argument("--to", default=FOLDER, metavar="FOLDER")
    checking = commands.add_parser("check", help="validate all that is committed")
    checking.add_argument("--folder", default=FOLDER, help="the committed rows")
    digesting = commands.add_parser("digest", help="one hash of a result set")
    digesting.add_argument("files", nargs="*", help="rows; without any, all committed ones")
    digesting.add_argument("--suite", default="", help="only the rows of this suite")
    digesting.add_argument("--folder", default=FOLDER, help="the committed rows")
    reproducing = commands.add_parser("reproduce", help="the checkout and the commands that remake a row")
    reproducing.add_argument("id", help="the row's, or as many of its first digits as no other begins with")
    reproducing.add_argument("--check", metavar="FILE", help="compare this remade metrics.jsonl with the row instead")
    reproducing.add_argument("--folder", default=FOLDER, help="the committed rows")
    args = parser.parse_args()

    if args.command == "reproduce":
        from evaluation import reproduce

        reproduce.main(args.id, args.folder, args.check)
        return
    if args.command == "digest":
        from evaluation import digest

        print(digest.report(args.files or committed(args.folder), args.suite))
        return
    if args.command == "check":
        from evaluation import check as checks

        for line in checks.everything(args.folder):
            print(line, flush=True)
        return
    if args.command == "collect":
        counts = {Path(args.out): len(collect(args.suite, args.out, args.files))}
    else:
        counts = add(args.files, args.to)
    for path, n in counts.items():
        print(f"{path}: {n} rows")
    if not counts:
        print("no file: no rows")


if __name__ == "__main__":
    command(main)
