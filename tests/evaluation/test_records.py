from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import records
from gigagan import files
from gigagan.errors import UserError


def test_a_good_row_passes_unchanged(make_row) -> None:
    row = make_row()
    assert records.validate(row) is row
    records.validate(make_row(seed=None, params_m=None, value=3, batch=1))
    records.validate(make_row(value=float("nan")))  # a diverged run is a result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vaule": 1.0}, "did you mean 'value'"),
        ({"value": "40"}, "'value' must be float"),
        ({"value": True}, "'value' must be float"),
        ({"value": None}, "'value' must be float"),
        ({"seed": 0.5}, "'seed' must be int"),
        ({"git_dirty": 0}, "'git_dirty' must be bool"),
        ({"schema": 2}, "score the run again"),
        ({"metric": "clip_socre"}, "did you mean 'clip_score'"),
        ({"higher_is_better": True}, "better when lower"),
        ({"suite": "../../etc"}, "not a plain name"),
        ({"variant": ""}, "not a plain name"),
        ({"low": 2.0, "high": 1.0}, "upside down"),
    ],
)
def test_bad_rows(make_row, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        records.validate(make_row(**change))


def test_every_required_field_is_missed(make_row) -> None:
    for name, field in records.FIELDS.items():
        row = make_row()
        if row.pop(name, None) is not None and field.required:
            with pytest.raises(UserError, match=f"'{name}' is missing"):
                records.validate(row)


@pytest.mark.parametrize("line", ['{"schema": 1', "[1, 2]", "\x00"])
def test_a_broken_line_is_named(tmp_path: Path, make_row, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(make_row()) + "\n\n" + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:3: "):
        records.read([path])
    with pytest.raises(UserError, match="no such file"):
        records.read([tmp_path / "absent.jsonl"])


def test_collect_gives_the_same_bytes_for_any_order(tmp_path: Path, make_suite) -> None:
    rows = make_suite(seeds=2)
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    files.write_jsonl(a, rows[::2])
    files.write_jsonl(b, [dict(reversed(row.items())) for row in rows[1::2]])
    for name, order in (("x", [a, b]), ("y", [b, a])):
        records.collect("demo", tmp_path / name, [str(p) for p in order])
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert len(records.read([tmp_path / "x"])) == len(rows)


def test_collect_refuses_another_suite_and_a_file_given_twice(tmp_path: Path, make_row) -> None:
    path = tmp_path / "a.jsonl"
    files.write_jsonl(path, [make_row()])
    with pytest.raises(UserError, match="two rows for demo/gigagan seed 0 fd"):
        records.collect("demo", tmp_path / "out", [str(path), str(path)])
    with pytest.raises(UserError, match="not of suite 'smoke'"):
        records.collect("smoke", tmp_path / "out", [str(path)])
    assert not (tmp_path / "out").exists()


def test_add_replaces_by_key_and_gives_ids(tmp_path: Path, make_row) -> None:
    source, folder = tmp_path / "metrics.jsonl", tmp_path / "records"
    files.write_jsonl(source, [make_row(seed=1), make_row(seed=0), make_row(suite="smoke")])
    records.add([str(source)], folder)
    files.write_jsonl(source, [make_row(seed=1, value=39.0), make_row(seed=1, value=41.0, device="a GPU")])
    assert records.add([str(source)], folder) == {folder / "demo.jsonl": 2}
    rows = records.read([folder / "demo.jsonl"])
    assert [(row["seed"], row["device"], row["value"]) for row in rows] == [
        (0, "Some CPU", 40.0), (1, "Some CPU", 39.0), (1, "a GPU", 41.0)
    ]  # fmt: skip
    assert len({row["id"] for row in rows}) == 3
    assert all(row["id"] == records.identity(row) for row in rows)
    assert records.check(folder) == {folder / "demo.jsonl": 3, folder / "smoke.jsonl": 1}


def test_add_drops_what_an_older_version_of_a_protocol_left(tmp_path: Path, make_row) -> None:
    source, folder = tmp_path / "fresh.jsonl", tmp_path / "records"
    real = {"variant": "real", "seed": None, "recipe_sha": None}
    files.write_jsonl(source, [make_row(**real, protocol=f"{name}@9") for name in ("scenes", "scenes-blind")])
    records.add([source], folder)
    files.write_jsonl(source, [make_row(**real, protocol="scenes@10")])
    records.add([source], folder)
    assert {row["protocol"] for row in records.read([folder / "demo.jsonl"])} == {"scenes@10", "scenes-blind@9"}


def test_add_drops_what_another_recipe_left_of_the_same_run(tmp_path: Path, make_row) -> None:
    source, folder = tmp_path / "metrics.jsonl", tmp_path / "records"
    old = {"metric": "latency_ms", "recipe_sha": "0ld"}
    files.write_jsonl(source, [make_row(seed=0, **old), make_row(seed=1, **old), make_row(seed=None, recipe_sha=None)])
    records.add([str(source)], folder)
    files.write_jsonl(source, [make_row(seed=0, recipe_sha="new")])
    records.add([str(source)], folder)
    rows = records.read([folder / "demo.jsonl"])
    assert [(row["seed"], row["recipe_sha"]) for row in rows] == [(None, None), (0, "new"), (1, "0ld")]


def test_records_taken_in_again_keep_their_id(tmp_path: Path, make_row) -> None:
    source, folder = tmp_path / "metrics.jsonl", tmp_path / "records"
    files.write_jsonl(source, [make_row()])
    records.add([str(source)], folder)
    before = (folder / "demo.jsonl").read_bytes()
    records.add([str(folder / "demo.jsonl")], folder)
    assert (folder / "demo.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"git_dirty": True}, "no_attention seed 3 fd .*uncommitted changes"),
        ({"git_dirty": None}, "uncommitted changes"),
        ({"value": float("nan")}, "only finite values"),
        ({"value": float("inf")}, "only finite values"),
    ],
)
def test_add_refuses_a_row_and_writes_nothing(tmp_path: Path, make_row, change: dict, words: str) -> None:
    source = tmp_path / "metrics.jsonl"
    files.write_jsonl(source, [make_row(), make_row(variant="no_attention", seed=3, **change)])
    with pytest.raises(UserError, match=words):
        records.add([str(source)], tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_check_finds_what_was_not_added_by_add(tmp_path: Path, make_row) -> None:
    source, folder = tmp_path / "metrics.jsonl", tmp_path / "records"
    files.write_jsonl(source, [make_row(seed=0), make_row(seed=1)])
    records.add([str(source)], folder)
    path = folder / "demo.jsonl"
    good = path.read_text()
    path.write_text(good.replace("40.0", "20.0", 1))
    with pytest.raises(UserError, match="edited by hand"):
        records.check(folder)
    path.write_text("".join(reversed(good.splitlines(keepends=True))))
    with pytest.raises(UserError, match="not sorted"):
        records.check(folder)
    path.write_text(good + good.splitlines(keepends=True)[-1])
    with pytest.raises(UserError, match="two rows"):
        records.check(folder)
    path.rename(folder / "smoke.jsonl")
    with pytest.raises(UserError, match="another suite"):
        records.check(folder)


def test_commands(tmp_path: Path, make_row) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "evaluation.records", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])

    source, out, folder = (str(tmp_path / name) for name in ("seed0.jsonl", "metrics.jsonl", "records"))
    files.write_jsonl(source, [make_row()])
    for arguments in (["collect", "--suite", "demo", "--out", out, source], ["add", out, "--to", folder]):
        done = run(*arguments)
        assert done.returncode == 0
        assert done.stdout.endswith(": 1 rows\n")
        assert "torch" not in done.stderr
        assert "matplotlib" not in done.stderr
    failed = run("add", str(tmp_path / "absent"))
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_the_committed_records_are_valid() -> None:
    records.check(Path(__file__).parents[2] / "results" / "records")
