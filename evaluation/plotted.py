"""What figures need beside rows: learning curves, points over truncation, and the pictures of the grid.

    python -m evaluation.plotted add demo

takes them from the runs of a suite whose rows are committed (runs/<suite>) into results/records, where they are
committed, too: ``curves/<suite>.jsonl``, ``truncation/<suite>.jsonl`` (where ``snakemake edits`` was run) and
``pictures/<suite>.zip``, an image set. Each says which run it is of; what is of another run than the committed rows is
refused, when it is taken in and whenever it is read.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation import records, suites
from evaluation.records import FILTERS, METRICS, REAL, REFERENCES, Row
from evaluation.summary import FULL, of_suite
from gigagan import files
from gigagan.archive import read_about, read_batches, read_images, read_prompts, write_images
from gigagan.errors import UserError, command

CAPTIONS = 8
"""Rows of a committed grid: the first held-out captions."""

IDENTITY = ("recipe_sha", "git_sha", "started")
"""What tells a run from another of the same variant and seed."""

WHERE = ("suite", "variant", "seed", *IDENTITY)
CURVE = ("kimg", "fd", "clip_score")
TRUNCATION = ("towards", "psi", "fd", "clip_score", "n_images")
SAME = 0.01
"""How far, as a share, a run's own FD may be from a point of it that was scored anew: by batches of another size or on
another machine."""

Point = dict[str, Any]
Progress = dict[str, dict[int, list[Point]]]
"""``{variant: {seed: [{"kimg": thousands of training images, "fd": ..., "clip_score": ...}, ...]}}``, in order."""


class Pictures(NamedTuple):
    """Of a grid: captions, uint8 [captions, H, W, 3] of real images, filters and variants, and the training seed."""

    captions: list[str]
    images: dict[str, np.ndarray]
    seed: int


def trained(rows: list[Row]) -> list[tuple[str, int]]:
    """The runs that the rows are of; a folder of runs may hold others, of other variants and seeds."""
    return sorted({(row["variant"], row["seed"]) for row in rows if row["variant"] not in REFERENCES})


def learning(rows: list[Row]) -> list[tuple[str, int]]:
    """Of the runs that the rows are of, those with a curve: what starts from another run has none of its own."""
    rivals = suites.entries(suites.FOLDER / "rivals.yaml")
    return [(variant, seed) for variant, seed in trained(rows) if not rivals.get(variant, {}).get("start")]


# ---------------------------------------------------------------------------------------------------------- from runs


def read_progress(runs: Path, rows: list[Row]) -> Progress:
    """The scored snapshots of the runs that the rows are of.

    Raises:
        UserError: none of them has a progress.jsonl, or a line of one is broken.
    """
    progress: Progress = defaultdict(dict)
    for variant, seed in trained(rows):
        path = runs / variant / f"seed{seed}" / "progress.jsonl"
        if path.exists() and (points := _points(path, CURVE)):
            progress[variant][seed] = sorted(points, key=lambda point: point["kimg"])
    if not progress:
        raise UserError(f"no scored snapshots: no run under {runs} has a progress.jsonl")
    return dict(progress)


def _points(path: Path, fields: Iterable[str]) -> list[Point]:
    """A file's lines. Raises UserError where a line lacks a field, or has one that is no number (``towards`` is)."""
    try:
        return [
            {name: line[name] if name == "towards" else float(line[name]) for name in fields}
            for line in files.read_jsonl(path)
        ]
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: a line is broken ({e!r}): score this run's snapshots again") from None


def grid_paths(runs: Path, rows: list[Row]) -> tuple[int, dict[str, Path]]:
    """The lowest training seed that all variants with rows have, and the image set of each column of a grid.

    Raises UserError where no seed is common to all.
    """
    seeds: dict[str, set[int]] = defaultdict(set)
    for name, seed in trained(rows):
        seeds[name].add(seed)
    shared = set.intersection(*seeds.values()) if seeds else set()
    if not shared:
        raise UserError("no training seed is common to all variants: a grid compares pictures of one seed")
    seed = min(shared)
    filters = {name: runs / name / "samples.zip" for name in FILTERS if any(row["variant"] == name for row in rows)}
    drawn = {name: runs / name / f"seed{seed}" / "samples.zip" for name in sorted(seeds)}
    return seed, {REAL: runs / "real.zip"} | filters | drawn


def read_grid(runs: Path, rows: list[Row], n: int) -> Pictures:
    """The first ``n`` captions and their pictures.

    Raises:
        UserError: an image set is missing, or two of them differ in captions or noise.
    """
    seed, paths = grid_paths(runs, rows)
    prompts = {name: read_prompts(path)[:n] for name, path in paths.items()}
    captions = [prompt["caption"] for prompt in prompts[REAL]]
    noise = None
    for name in (name for name in paths if name not in REFERENCES):
        if [prompt["caption"] for prompt in prompts[name]] != captions:
            raise UserError(f"{paths[name]} has other captions than {paths[REAL]}: sample {name} again")
        noise = noise or (name, [prompt["seed"] for prompt in prompts[name]])
        if [prompt["seed"] for prompt in prompts[name]] != noise[1]:
            raise UserError(f"{paths[name]} was sampled with other seeds than {noise[0]}: sample one of them again")
    return Pictures(captions, {name: next(read_batches(path, len(captions)))[0] for name, path in paths.items()}, seed)


# ------------------------------------------------------------------------------------------------- committed, checked


def read_curves(folder: Path, suite: str, rows: list[Row]) -> Progress | None:
    """The committed learning curves of a suite, one of every run that has rows and learnt from nothing; None where none
    were taken in.

    Raises:
        UserError: a line is broken, a run is not the one of the rows, or one of those has no curve.
    """
    path = folder / "curves" / f"{suite}.jsonl"
    if not path.is_file():
        return None
    progress: Progress = defaultdict(lambda: defaultdict(list))
    for line in _lines(path, (*WHERE, *CURVE)):
        _belongs(line, suite, rows, path)
        progress[line["variant"]][line["seed"]].append({name: line[name] for name in CURVE})
    for variant, seed in learning(rows):
        if not progress[variant][seed]:
            raise UserError(f"{path} has no curve of {variant} seed {seed}: {_again(suite)}")
        _agrees(progress[variant][seed][-1], _of_run(rows, variant, seed), path)
    return {variant: dict(of_seeds) for variant, of_seeds in progress.items()}


def read_truncation(folder: Path, suite: str, rows: list[Row]) -> list[Point] | None:
    """The committed points over truncation of a suite; None where none were taken in.

    Raises:
        UserError: a line is broken, or of another run than the rows.
    """
    path = folder / "truncation" / f"{suite}.jsonl"
    if not path.is_file():
        return None
    lines = _lines(path, (*WHERE, *TRUNCATION))
    for line in lines:
        _belongs(line, suite, rows, path)
        _untruncated(line, rows, path)
    return [{name: line[name] for name in TRUNCATION} for line in lines]


def read_pictures(folder: Path, suite: str, rows: list[Row]) -> Pictures | None:
    """The committed pictures of a suite's grid, of every variant that has rows; None where none were taken in.

    Raises:
        UserError: the set is broken, of another run than the rows, or lacks a variant.
    """
    path = folder / "pictures" / f"{suite}.zip"
    if not path.is_file():
        return None
    columns = read_about(path).get("columns")
    if not isinstance(columns, list) or not all(isinstance(c, dict) and {*WHERE} <= c.keys() for c in columns):
        raise UserError(f"{path} does not say which runs it is of: {_again(suite)}")
    images, captions = read_images(path)
    n = len(captions) // max(len(columns), 1)
    if captions != captions[:n] * len(columns):
        raise UserError(f"{path}: its columns differ in captions: {_again(suite)}")
    for column in columns:
        if column["variant"] not in (REAL, *FILTERS):
            _belongs(column, suite, rows, path)
    seed, paths = grid_paths(folder, rows)
    found = {column["variant"]: images[i * n : (i + 1) * n] for i, column in enumerate(columns)}
    if found.keys() != paths.keys() or {c["seed"] for c in columns} != {None, seed}:
        raise UserError(f"{path} has other variants or another seed than the rows: {_again(suite)}")
    return Pictures(captions[:n], found, seed)


def _again(suite: str) -> str:
    return f"take it in with `python -m evaluation.plotted add {suite}`, where the runs of its rows are"


def _lines(path: Path, fields: tuple[str, ...]) -> list[Point]:
    """Lines with these fields and no others. Raises UserError for the first that is not so."""
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            texts = [name for name in ("suite", "variant", *IDENTITY, "towards") if name in fields]
            whole = line.keys() == {*fields} and all(isinstance(line[name], str) for name in texts)
            numbers = [line[name] for name in fields if name not in texts] if whole else []
        except (ValueError, AttributeError):
            whole, numbers = False, []
        if not whole or not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise UserError(f"{path}:{number}: must have {', '.join(fields)}, and numbers that are finite")
        lines.append(line)
    if not lines:
        raise UserError(f"{path} is empty: {_again(path.stem)}")
    return lines


def _of_run(rows: list[Row], variant: str, seed: int) -> list[Row]:
    """A run's rows of quality: those of speed say when it was timed."""
    mine = [row for row in rows if (row["variant"], row["seed"]) == (variant, seed)]
    return [row for row in mine if METRICS[row["metric"]].kind in ("quality", "control")]


def _belongs(of: Mapping[str, Any], suite: str, rows: list[Row], path: Path) -> None:
    """Raises UserError where the run that ``path`` is of is not the one of the rows."""
    which = f"{path}: {of['variant']} seed {of['seed']}"
    if of["suite"] != suite:
        raise UserError(f"{which} is of suite {of['suite']}")
    mine = _of_run(rows, of["variant"], of["seed"])
    if not mine:
        raise UserError(f"{which} has no row in {suite}.jsonl: add its rows first, or {_again(suite)}")
    for name in IDENTITY:
        if of[name] not in {row[name] for row in mine}:
            theirs = " or ".join(sorted({str(row[name]) for row in mine}))
            raise UserError(f"{which} is of another run ({name} {of[name]}) than its rows ({theirs}): {_again(suite)}")


def _agrees(point: Point, mine: list[Row], path: Path) -> None:
    """Raises UserError where the end of a run's curve is not what its rows say of it, under any protocol."""
    ends = [row["value"] for row in mine if row["metric"] == "fd" and row["kimg"] == point["kimg"]]
    if ends and not any(math.isclose(point["fd"], value, rel_tol=SAME) for value in ends):
        run = f"{mine[0]['variant']} seed {mine[0]['seed']}"
        raise UserError(
            f"{path}: {run} ends at FD {point['fd']:.4g}, its rows say {' or '.join(f'{v:.4g}' for v in ends)}: "
            "score its snapshots again"
        )


def _untruncated(line: Point, rows: list[Row], path: Path) -> None:
    """Where as many images were scored as for the rows, the point without truncation is what the rows say."""
    mine = _of_run(rows, line["variant"], line["seed"])
    if line["psi"] == 1 and line["n_images"] in {row["n_images"] for row in mine if row["metric"] == "fd"}:
        _agrees(line | {"kimg": mine[0]["kimg"]}, mine, path)


# ------------------------------------------------------------------------------------------------------------ take in


def add(suite: str, runs: Path, folder: Path) -> list[Path]:
    """Take what figures need from ``runs``, a suite's, into ``folder``; return what was written.

    Curves of runs that are not there stay, as do pictures where not all of theirs are: they may have been trained on
    another machine.

    Raises:
        UserError: no committed rows, a run that is not the one of the rows, or one without a curve or pictures.
    """
    rows = of_suite(records.read([folder / f"{suite}.jsonl"]), suite)
    for variant, seed in trained(rows):
        if (run := runs / variant / f"seed{seed}").is_dir():
            _belongs(_where(run, suite, variant, seed), suite, rows, run)
    written = [_add_curves(suite, runs, folder, rows)]
    if (points := runs / "truncation.jsonl").is_file():
        written.append(_add_truncation(suite, runs, points, folder, rows))
    _, paths = grid_paths(runs, rows)
    missing = [path for path in paths.values() if not path.is_file()]
    if not missing or read_pictures(folder, suite, rows) is None:
        written.append(_add_pictures(suite, runs, folder, rows))
    return written


def _where(run: Path, suite: str, variant: str, seed: int) -> dict[str, Any]:
    try:
        about = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {"suite": suite, "variant": variant, "seed": seed, **{name: about[name] for name in IDENTITY}}
    except FileNotFoundError:
        raise UserError(f"no {run / 'run.json'}: train the run to its end first") from None
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{run}: run.json is damaged ({e!r}): train the run again") from None


def _add_curves(suite: str, runs: Path, folder: Path, rows: list[Row]) -> Path:
    out = folder / "curves" / f"{suite}.jsonl"
    before: dict[tuple[str, int], list[Point]] = defaultdict(list)
    for line in _lines(out, (*WHERE, *CURVE)) if out.is_file() else ():
        before[line["variant"], line["seed"]].append(line)
    lines = []
    for variant, seed in learning(rows):
        run = runs / variant / f"seed{seed}"
        mine = before[variant, seed]
        if (path := run / "progress.jsonl").is_file():
            where = _where(run, suite, variant, seed)
            mine = [where | point for point in sorted(_points(path, CURVE), key=lambda point: point["kimg"])]
        if not mine:
            raise UserError(f"{path}: no scored snapshots there: run the suite's figures first")
        _belongs(mine[0], suite, rows, out)
        _agrees(mine[-1], _of_run(rows, variant, seed), path)
        lines += mine
    files.write_jsonl(out, lines)
    return out


def _add_truncation(suite: str, runs: Path, path: Path, folder: Path, rows: list[Row]) -> Path:
    """Points of ``snakemake edits``, which are of the full model at its first seed, or the first variant's."""
    every = trained(rows)
    variant, seed = next((run for run in every if run[0] == FULL), every[0])
    where = _where(runs / variant / f"seed{seed}", suite, variant, seed)
    lines = [where | point | {"n_images": int(point["n_images"])} for point in _points(path, TRUNCATION)]
    for line in lines:
        _untruncated(line, rows, path)
    out = folder / "truncation" / f"{suite}.jsonl"
    files.write_jsonl(out, lines)
    return out


def _add_pictures(suite: str, runs: Path, folder: Path, rows: list[Row]) -> Path:
    pictures = read_grid(runs, rows, CAPTIONS)
    _, paths = grid_paths(runs, rows)
    seeds = [prompt["seed"] for path in paths.values() for prompt in read_prompts(path)[: len(pictures.captions)]]
    nothing = {"suite": suite, "seed": None, **dict.fromkeys(IDENTITY)}
    columns = [
        nothing | {"variant": name}
        if name in (REAL, *FILTERS)
        else _where(path.parent, suite, name, pictures.seed)
        for name, path in paths.items()
    ]  # fmt: skip
    sides = {images.shape for images in pictures.images.values()}
    if len(sides) > 1:
        raise UserError(f"{runs}: pictures of several sizes ({sides}): one grid has one")
    out = folder / "pictures" / f"{suite}.zip"
    images = np.concatenate([pictures.images[name] for name in paths])
    write_images(out, images, pictures.captions * len(paths), seeds, {"columns": columns})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.plotted", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="take what the figures of suites need into results/records")
    adding.add_argument("suites", nargs="+", metavar="SUITE")
    adding.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    adding.add_argument("--to", type=Path, default=Path("results/records"), metavar="FOLDER")
    args = parser.parse_args()

    for suite in args.suites:
        for path in add(suite, args.runs / suite, args.to):
            print(path)


if __name__ == "__main__":
    command(main)
