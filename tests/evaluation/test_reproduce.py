from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import records, reproduce, suites
from evaluation.records import Row
from gigagan import files
from gigagan.errors import UserError

ROOT = Path(__file__).parents[2]
TRAINED, SCORED, HERE = "1" * 12, "2" * 12, "3" * 40
RUNLESS = {"seed": None, "recipe_sha": None, "params_m": None, "kimg": None, "seconds": None, "threads": None}


def full(name: str) -> str | None:
    """A clone that has every commit."""
    return HERE if name == "HEAD" else (name + "0" * 40)[:40]


@pytest.fixture
def rows(make_row) -> list[Row]:
    """Of the suite demo: a run that was scored by a later commit than it was trained by, references, speeds."""
    early, late = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    trained = {"git_sha": TRAINED, "started": early}
    there = {"git_sha": SCORED, "started": late}
    speed = {"protocol": "speed@1", "protocol_sha": "b" * 12, "n_images": None, "batch": 1, **there}
    return [
        make_row(**trained, low=38.0, high=42.0),
        make_row(**trained, variant="no_ms_io", recipe_sha="d" * 12),
        make_row(**trained, variant="untrained", kimg=0.0, seconds=None),
        make_row(**there, variant="real", **RUNLESS),
        make_row(**speed, metric="latency_ms"),
        make_row(**speed, metric="latency_ms", variant="no_ms_io", recipe_sha="d" * 12),
        make_row(**speed, metric="params_m", variant="no_ms_io", recipe_sha="d" * 12),
        make_row(**speed | {"started": early}, metric="latency_ms", variant="no_attention", recipe_sha="e" * 12),
    ]


def commands(row: Row, rows: list[Row], commit=full) -> list[str]:
    text = reproduce.script(row, rows, suites.suite(row["suite"]), commit)
    return [line for line in text.splitlines() if line and not line.startswith(("#", "set "))]


def test_a_run_is_trained_by_the_commit_it_names_and_scored_by_the_one_of_the_held_out_images(rows) -> None:
    setup = ["make setup", "source .venv/bin/activate"]
    config = "--config suite=demo variants=gigagan seeds=0 device=cpu"
    assert commands(rows[0], rows) == [
        f"git checkout {full(TRAINED)}",
        *setup,
        f"snakemake --cores all runs/demo/gigagan/seed0/weights.safetensors {config}",
        f"git checkout {full(SCORED)}",
        *setup,
        f"snakemake --cores all runs/demo/gigagan/seed0/metrics.jsonl {config}",
        'grep -F \'"variant": "gigagan"\' runs/demo/gigagan/seed0/metrics.jsonl | grep -F \'"metric": "fd"\' '
        '| grep -F \'"protocol": "scenes@2"\'',
        f"git checkout {HERE}",
        f"python -m evaluation.records reproduce {records.identity(rows[0])} "
        "--check runs/demo/gigagan/seed0/metrics.jsonl",
    ]


def test_one_commit_is_enough_where_nothing_later_scored(rows, make_row) -> None:
    """Held-out images that were scored earlier, or under another hash, do not tell."""
    run = rows[0]
    for other in ({"started": "2025-01-01T00:00:00+00:00"}, {"protocol_sha": "f" * 12}, {"protocol": "scenes-blind@1"}):
        real = rows[3] | other
        said = commands(run, [run, real])
        assert said[0] == f"git checkout {full(TRAINED)}"
        assert said[3].split()[3] == "runs/demo/gigagan/seed0/metrics.jsonl"
        assert sum(line.startswith("git checkout") for line in said) == 2


@pytest.mark.parametrize(
    ("which", "targets", "config"),
    [
        (1, ["no_ms_io/seed0/weights.safetensors", "no_ms_io/seed0/metrics.jsonl"], "variants=no_ms_io seeds=0 "),
        (2, ["gigagan/seed0/weights.safetensors", "untrained/metrics.jsonl"], "variants=gigagan seeds=0 "),
        (3, ["real.jsonl"], ""),
        (4, ["speed.jsonl"], "variants=gigagan,no_ms_io seeds=0 "),  # all that were measured in that process
        (6, ["speed.jsonl"], "variants=no_ms_io seeds=0 "),  # counted, alone
        (7, ["speed.jsonl"], "variants=no_attention seeds=0 "),  # measured at another time
    ],
)
def test_each_kind_of_row_has_its_targets(rows, which: int, targets: list[str], config: str) -> None:
    made = [line for line in commands(rows[which], rows) if line.startswith("snakemake")]
    assert made == [
        f"snakemake --cores all runs/demo/{target} --config suite=demo {config}device=cpu" for target in targets
    ]


def test_the_untrained_generator_is_that_of_the_run_with_its_recipe(rows) -> None:
    other = rows[2] | {"recipe_sha": "d" * 12}
    assert reproduce.variants(other, [*rows, other], suites.suite("demo")) == ["no_ms_io"]
    lonely = rows[2] | {"recipe_sha": "0" * 12}
    assert reproduce.variants(lonely, [*rows, lonely], suites.suite("demo")) == ["gigagan"]


def test_the_comments_say_what_the_row_is_and_what_may_differ(rows) -> None:
    def comments(row: Row, suite: str = "demo", **change: object) -> str:
        row = row | {"suite": suite} | change
        text = reproduce.script(row, [row], suites.suite(suite), full)
        return "\n".join(line for line in text.splitlines() if line.startswith("#"))

    said = comments(rows[0])
    for words in (
        "demo/gigagan seed 0 fd (scenes@2) = 40.0 [38.0, 42.0]",
        "hash aaaaaaaaaaaa",
        "recipe    cccccccccccc",
        "Some CPU, 1 thread, fp32, torch 2.11.0",
        f"{TRAINED}: the commit that trained the run",
        "5 minutes of training",
        "On another processor",
        "clone without runs/demo",
    ):
        assert words in said
    assert "a GPU does not add in the same order" in comments(rows[0], device="NVIDIA H200")
    assert "the commit that measured it" in comments(rows[4])
    assert "Speeds are of that machine" in comments(rows[4])
    assert "Nothing: parameters are counted" in comments(rows[6])
    assert "round otherwise" in comments(rows[3])
    photos = comments(rows[0], "photos", dataset="shards", protocol="photos@1")
    assert "then the protocol hash and the recipe hash differ" in photos
    assert "The data (shards) are not here" in photos
    blind = comments(rows[3], "photos", dataset="shards", protocol="photos-blind@1")
    assert "trains its own CLIPs" not in blind


def test_folders_that_must_be_brought_are_asked_for(rows) -> None:
    row = rows[3] | {"suite": "photos", "dataset": "shards", "protocol": "photos@1"}
    said = commands(row, [row])
    assert said[0].startswith(': "${SHARDS:?set it to the folder of captioned shards')
    assert [line for line in said if line.startswith("snakemake")] == [
        'snakemake --cores all runs/photos/real.jsonl --config suite=photos device=cpu shards="$SHARDS"'
    ]


@pytest.mark.parametrize(
    ("device", "runs_on"),
    [("NVIDIA H200", "cuda"), ("Tesla T4", "cuda"), ("AMD Instinct MI300X", "cuda"), ("AMD EPYC 9654", "cpu"),
     ("AMD Ryzen 7 5800H with Radeon Graphics", "cpu"), ("Apple M2", "cpu")],
)  # fmt: skip
def test_the_device_is_that_of_the_row_and_of_rows_without_a_run_that_of_the_runs(rows, device, runs_on) -> None:
    run, real = rows[0] | {"device": device}, rows[3]
    for row in (run, real):
        assert commands(row, [run, real])[3].endswith(f"device={runs_on}")


def test_a_row_is_found_by_as_many_digits_as_no_other_begins_with(rows) -> None:
    ids = [records.identity(row) for row in rows]
    assert all(reproduce.find(name, rows) is row for name, row in zip(ids, rows, strict=True))
    assert reproduce.find(ids[0][:8].upper(), rows) is rows[0]
    twins = [rows[0] | {"value": float(value)} for value in range(40)]  # more than there are first digits
    first = [records.identity(row)[0] for row in twins]
    common = max(first, key=first.count)
    with pytest.raises(UserError, match=rf"rows have an id that begins with '{common}': {common}.*give more digits"):
        reproduce.find(common, twins)
    wrong = ids[3][:11] + "x"
    with pytest.raises(UserError, match=rf"no row has the id '{wrong}' \(nearest: {ids[3]} demo/real fd"):
        reproduce.find(wrong, rows)
    with pytest.raises(UserError, match="no row has the id ''"):
        reproduce.find("", rows)


def test_what_cannot_be_checked_out_is_said(rows) -> None:
    def shallow(name: str) -> str | None:
        return HERE if name == "HEAD" else None

    text = reproduce.script(rows[3], rows, suites.suite("demo"), shallow)
    assert f"# This clone has no commit {SCORED}" in text
    assert f"\ngit checkout {SCORED}\n" in text  # as recorded
    with pytest.raises(UserError, match="no git repository"):
        reproduce.script(rows[3], rows, suites.suite("demo"), lambda name: None)
    for name in (None, "unknown"):
        row = rows[3] | {"git_sha": name}
        with pytest.raises(UserError, match=r"demo/real fd .* names no commit"):
            reproduce.script(row, [row], suites.suite("demo"), shallow)


def test_no_text_of_a_row_becomes_a_command(rows) -> None:
    row = rows[3] | {"device": "CPU\ntouch made", "torch": "2\u2028touch made", "started": "now\r\ntouch made"}
    text = reproduce.script(row, [row], suites.suite("demo"), full)
    assert not [line for line in text.splitlines() if line.startswith("touch")]


def test_an_equal_row_is_equal_wherever_it_was_made(tmp_path: Path, rows, make_row) -> None:
    path = tmp_path / "metrics.jsonl"
    elsewhere = {"device": "Other CPU", "threads": 2, "git_sha": "9" * 12, "seconds": 1.0, "torch": "3", "started": "x"}
    files.write_jsonl(path, [rows[0] | elsewhere, rows[1], make_row(metric="clip_score", value=0.1)])
    equal, text = reproduce.compare(rows[0] | {"id": "0" * 12}, path)
    assert equal
    assert text.startswith("equal: demo/gigagan seed 0 fd (scenes@2)\n  value: 40.0 in both\n")
    assert f"committed: {TRAINED} on Some CPU, 1 thread, fp32, torch 2.11.0, 2026" in text
    assert "remade:    999999999999 on Other CPU, 2 threads, fp32, torch 3, x" in text
    assert "nothing was remade" not in text
    assert "nothing was remade" in reproduce.compare(rows[1], path)[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": 40.4}, ["value: 40.0 -> 40.4 (+0.4, +0.01 of it)", "within the committed interval: yes"]),
        ({"value": 50.0}, ["value: 40.0 -> 50.0 (+10, +0.25 of it)", "within the committed interval: no"]),
        ({"value": 40.00000000000001}, ["value: 40.0 -> 40.00000000000001 (+7.11e-15, "]),
        ({"low": None}, ["low: 38.0 -> None", "value: 40.0 in both"]),
        ({"n_images": 999}, ["n_images: 1000 -> 999 (-1, -0.001 of it)"]),
        ({"protocol_sha": "f" * 12}, ["protocol_sha: aaaaaaaaaaaa -> ffffffffffff"]),
        ({"recipe_sha": "f" * 12}, ["recipe_sha: cccccccccccc -> ffffffffffff"]),
    ],
)
def test_it_is_said_by_how_much_a_remade_row_differs(tmp_path: Path, rows, change: dict, words: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    files.write_jsonl(path, [rows[0] | change])
    equal, text = reproduce.compare(rows[0], path)
    assert not equal
    assert text.startswith("differs: demo/gigagan seed 0 fd (scenes@2)\n")
    for line in words:
        assert f"\n  {line}" in text


def test_a_file_without_the_row_or_with_two_is_refused(tmp_path: Path, rows, make_row) -> None:
    path = tmp_path / "metrics.jsonl"
    files.write_jsonl(path, [rows[1]])
    with pytest.raises(UserError, match="no row for demo/gigagan seed 0 fd"):
        reproduce.compare(rows[0], path)
    files.write_jsonl(path, [rows[0], rows[0] | {"device": "Other CPU"}])
    with pytest.raises(UserError, match="2 rows for demo/gigagan seed 0 fd"):
        reproduce.compare(rows[0], path)
    files.write_jsonl(path, [])
    with pytest.raises(UserError, match="it is empty"):
        reproduce.compare(rows[0], path)


def test_the_command(tmp_path: Path, rows) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "evaluation.records", "reproduce", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    folder = str(tmp_path / "records")
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    records.add([str(tmp_path / "rows.jsonl")], folder)
    name = records.identity(rows[0])
    done = run(name[:10], "--folder", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"#!/usr/bin/env bash\n# Remakes row {name}: demo/gigagan seed 0 fd (scenes@2) = 40.0"
    )
    assert "torch" not in done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    remade = tmp_path / "remade.jsonl"
    for value, status, word in ((40.0, 0, "equal"), (41.0, 1, "differs")):
        files.write_jsonl(remade, [rows[0] | {"value": value, "started": "later"}])
        done = run(name, "--folder", folder, "--check", str(remade))
        assert (done.returncode, done.stdout.split(":")[0]) == (status, word)
    failed = run("nothing", "--folder", folder)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: no row has the id 'nothing' (nearest: ")


def test_every_committed_row_can_be_remade() -> None:
    for path in records.committed(ROOT / records.FOLDER):
        rows, suite = records.read([path]), suites.suite(path.stem)
        for row in rows:
            text = reproduce.script(row, rows, suite, full)
            assert f"git checkout {full(row['git_sha'])}\n" in text
            assert text.endswith(f"\npython -m evaluation.records reproduce {row['id']} --check {text.split()[-1]}")
            assert reproduce.find(row["id"], rows) is row


KINDS = [
    ("demo", "gigagan", "fd"),
    ("demo", "untrained", "fd"),
    ("demo", "real", "clip_score"),
    ("demo", "no_ms_io", "latency_ms"),
    ("upsample", "bicubic", "psnr"),
    ("upsample", "gigagan", "params_m"),
    ("photos", "no_attention", "fd"),
]


@pytest.mark.parametrize(("suite", "variant", "metric"), KINDS)
def test_the_workflow_has_every_target_that_is_named(tmp_path: Path, suite: str, variant: str, metric: str) -> None:
    rows = records.read([ROOT / records.FOLDER / f"{suite}.jsonl"])
    row = next(row for row in rows if (row["variant"], row["metric"]) == (variant, metric))
    text = reproduce.script(row, rows, suites.suite(suite), full)
    lines = [line for line in text.splitlines() if line.startswith("snakemake ")]
    assert lines
    for line in lines:
        target = re.match(r"snakemake --cores all (\S+) --config ", line)[1]
        dry = line.replace("snakemake ", f"{sys.executable} -m snakemake --dry-run --forceall ", 1)
        done = subprocess.run(
            ["bash", "-euc", dry], cwd=ROOT, env=os.environ | {"SHARDS": str(tmp_path)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert target in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("fields", "targets"),
    [
        ({}, ["runs/paper/stylegan2/seed0/gigagan-coco30k@1.jsonl"]),
        ({"variant": "real", "seed": None, "recipe_sha": None}, ["runs/paper/real/gigagan-coco30k@1.jsonl"]),
        ({"metric": "latency_ms", "protocol": "speed@1"}, ["runs/paper/speed.jsonl"]),
    ],
)
def test_rows_of_suites_on_photographs_are_remade_from_the_protocol_s_own_file(make_row, fields, targets):
    paper = suites.suite("paper")
    row = make_row(
        **{"suite": "paper", "variant": "stylegan2", "metric": "fid", "protocol": "gigagan-coco30k@1"} | fields
    )
    assert [step.target for step in reproduce.steps(row, [row], paper)] == targets
    assert paper.brought == ["shards", "images", "annotations"]
