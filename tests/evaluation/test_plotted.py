"""What figures need beside rows: taken in from runs, read back, and refused where it is of another run."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation import plotted, records
from evaluation.records import Row
from gigagan import files
from gigagan.errors import UserError

RUN = {"recipe_sha": "cccccccccccc", "git_sha": "0123456789abcdef", "started": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def suite(tmp_path: Path, make_suite, made_up_runs) -> Callable[..., tuple[Path, Path, list[Row]]]:
    """Runs of a suite, a folder of records with its rows, and those."""

    def make(seeds: int = 1) -> tuple[Path, Path, list[Row]]:
        runs, rows = made_up_runs(seeds), make_suite(seeds)
        for row in (row for row in rows if row["metric"] == "fd" and row["protocol"] == "scenes@2"):
            if row["variant"] in ("real", "untrained"):
                continue
            run = runs / row["variant"] / f"seed{row['seed']}"
            files.write_json(run / "run.json", RUN)
            lines = files.read_jsonl(run / "progress.jsonl")
            files.write_jsonl(run / "progress.jsonl", [*lines[:-1], lines[-1] | {"fd": row["value"]}])
        records.write(tmp_path / "records" / "demo.jsonl", rows)
        return runs, tmp_path / "records", records.read([tmp_path / "records" / "demo.jsonl"])

    return make


def truncation(runs: Path, rows: list[Row], n_images: int = 1000, off: float = 1.0) -> None:
    own = next(row["value"] for row in rows if row["variant"] == "gigagan" and row["metric"] == "fd")
    points = [(1.0, own * off), (0.5, 2 * own)]
    lines = [{"towards": "prompt", "psi": p, "fd": fd, "clip_score": 0.5, "n_images": n_images} for p, fd in points]
    files.write_jsonl(runs / "truncation.jsonl", lines)


def test_what_was_taken_in_reads_back_as_the_runs_had_it(suite) -> None:
    runs, folder, rows = suite(2)
    truncation(runs, rows)
    written = plotted.add("demo", runs, folder)
    assert [str(path.relative_to(folder)) for path in written] == [
        "curves/demo.jsonl",
        "truncation/demo.jsonl",
        "pictures/demo.zip",
    ]
    assert plotted.read_curves(folder, "demo", rows) == plotted.read_progress(runs, rows)
    assert plotted.read_truncation(folder, "demo", rows) == files.read_jsonl(runs / "truncation.jsonl")
    found, expected = plotted.read_pictures(folder, "demo", rows), plotted.read_grid(runs, rows, plotted.CAPTIONS)
    assert (found.captions, found.seed) == (expected.captions, expected.seed)
    assert found.images.keys() == expected.images.keys()
    assert all((found.images[name] == expected.images[name]).all() for name in expected.images)
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in plotted.add("demo", runs, folder)] == before


def test_what_starts_from_another_run_needs_no_curve_and_all_else_does(suite) -> None:
    runs, folder, rows = suite()
    student, teacher = "diffusion_distilled_4", "diffusion_teacher"
    for name in (student, teacher):
        shutil.copytree(runs / "no_ms_io", runs / name)
        rows += [row | {"variant": name, "family": "diffusion"} for row in rows if row["variant"] == "no_ms_io"]
    (runs / student / "seed0" / "progress.jsonl").unlink()
    records.write(folder / "demo.jsonl", rows)
    plotted.add("demo", runs, folder)
    assert plotted.read_curves(folder, "demo", rows).keys() == {name for name, _ in plotted.trained(rows)} - {student}
    assert student in plotted.read_pictures(folder, "demo", rows).images
    kept = [line for line in files.read_jsonl(folder / "curves/demo.jsonl") if line["variant"] != teacher]
    files.write_jsonl(folder / "curves/demo.jsonl", kept)
    with pytest.raises(UserError, match="no curve of diffusion_teacher seed 0"):
        plotted.read_curves(folder, "demo", rows)


def test_every_line_says_which_run_it_is_of(suite) -> None:
    runs, folder, _ = suite()
    plotted.add("demo", runs, folder)
    for line in files.read_jsonl(folder / "curves" / "demo.jsonl"):
        assert {"suite": "demo", "seed": 0, **RUN}.items() <= line.items()
    with zipfile.ZipFile(folder / "pictures" / "demo.zip") as archive:
        columns = json.loads(archive.read("about.json"))["columns"]
    assert [column["variant"] for column in columns][:2] == ["real", "gigagan"]
    assert RUN.items() <= columns[1].items()


@pytest.mark.parametrize("field", plotted.IDENTITY)
def test_a_run_that_is_not_the_one_of_the_rows_is_not_taken_in(suite, field) -> None:
    runs, folder, _ = suite()
    files.write_json(runs / "no_ms_io" / "seed0" / "run.json", RUN | {field: "another"})
    with pytest.raises(UserError, match=rf"no_ms_io seed 0 is of another run \({field} another\) than its rows"):
        plotted.add("demo", runs, folder)
    assert not (folder / "curves").exists()


@pytest.mark.parametrize("field", plotted.IDENTITY)
def test_what_is_committed_is_refused_once_the_rows_are_of_another_run(suite, field) -> None:
    runs, folder, rows = suite()
    truncation(runs, rows)
    plotted.add("demo", runs, folder)
    newer = [row | {field: "newer"} if row["variant"] == "gigagan" else row for row in rows]
    for read in (plotted.read_curves, plotted.read_truncation, plotted.read_pictures):
        with pytest.raises(UserError, match=rf"gigagan seed 0 is of another run \({field} .*plotted add demo"):
            read(folder, "demo", newer)


def test_a_curve_that_ends_elsewhere_than_its_rows_is_refused(suite) -> None:
    runs, folder, _ = suite()
    path = runs / "gigagan" / "seed0" / "progress.jsonl"
    lines = files.read_jsonl(path)
    files.write_jsonl(path, [*lines[:-1], lines[-1] | {"fd": 1.5 * lines[-1]["fd"]}])
    with pytest.raises(UserError, match=r"progress.jsonl: gigagan seed 0 ends at FD .*, its rows say "):
        plotted.add("demo", runs, folder)


def test_points_over_truncation_begin_where_the_rows_are(suite) -> None:
    runs, folder, rows = suite()
    truncation(runs, rows, off=1.2)
    with pytest.raises(UserError, match=r"truncation.jsonl: gigagan seed 0 ends at FD"):
        plotted.add("demo", runs, folder)
    truncation(runs, rows, n_images=100, off=1.2)  # fewer images: another FD
    plotted.add("demo", runs, folder)
    assert plotted.read_truncation(folder, "demo", rows)[0]["n_images"] == 100


def test_runs_of_another_machine_keep_their_curves_and_pictures(suite) -> None:
    runs, folder, rows = suite(2)
    plotted.add("demo", runs, folder)
    for variant in plotted.read_progress(runs, rows):
        shutil.rmtree(runs / variant / "seed0")
    before = (folder / "curves" / "demo.jsonl").read_bytes()
    assert [path.name for path in plotted.add("demo", runs, folder)] == ["demo.jsonl"]
    assert (folder / "curves" / "demo.jsonl").read_bytes() == before
    assert plotted.read_pictures(folder, "demo", rows).seed == 0


def test_a_variant_without_curve_or_pictures_is_one_clear_line(suite, make_row) -> None:
    runs, folder, rows = suite()
    plotted.add("demo", runs, folder)
    more = [*rows, make_row(variant="no_clip_loss")]
    with pytest.raises(UserError, match="has no curve of no_clip_loss seed 0"):
        plotted.read_curves(folder, "demo", more)
    with pytest.raises(UserError, match="other variants or another seed than the rows"):
        plotted.read_pictures(folder, "demo", more)
    records.write(folder / "demo.jsonl", more)
    with pytest.raises(UserError, match=r"no_clip_loss/seed0/progress.jsonl: no scored snapshots there"):
        plotted.add("demo", runs, folder)


def test_nothing_taken_in_is_none_and_nothing_to_take_is_one_clear_line(suite, tmp_path) -> None:
    runs, folder, rows = suite()
    for read in (plotted.read_curves, plotted.read_truncation, plotted.read_pictures):
        assert read(folder, "demo", rows) is None
    with pytest.raises(UserError, match="no such file"):
        plotted.add("other", runs, folder)
    with pytest.raises(UserError, match=r"progress.jsonl: no scored snapshots there"):
        plotted.add("demo", tmp_path / "nowhere", folder)
    (runs / "no_ms_io" / "seed0" / "samples.zip").unlink()
    with pytest.raises(UserError, match=r"no image set at .*no_ms_io/seed0/samples\.zip"):
        plotted.add("demo", runs, folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("not json\n", ":1: must have suite, variant"),
        ("[]\n", ":1: must have suite, variant"),
        ('{"suite": "demo"}\n', ":1: must have suite, variant"),
        ("{line}\n{nan}\n", ":2: must have"),
        ("{foreign}\n", "is of suite smoke"),
        ("{unknown}\n", "has no row in demo.jsonl"),
    ],
)
def test_a_broken_file_of_curves_is_one_clear_line(suite, text, said) -> None:
    _, folder, rows = suite()
    line = {"suite": "demo", "variant": "gigagan", "seed": 0, **RUN, "kimg": 10.0, "fd": 1.0, "clip_score": 0.5}
    made = {
        "{line}": line,
        "{nan}": line | {"fd": float("nan")},
        "{foreign}": line | {"suite": "smoke"},
        "{unknown}": line | {"variant": "no_clip_loss"},
    }
    for word, value in made.items():
        text = text.replace(word, json.dumps(value))
    files.write_text(folder / "curves" / "demo.jsonl", text)
    with pytest.raises(UserError) as error:
        plotted.read_curves(folder, "demo", rows)
    assert said in error.value.message
    assert "\n" not in error.value.message


def test_pictures_without_provenance_are_refused(suite) -> None:
    runs, folder, rows = suite()
    files.check_writable(folder / "pictures")
    (folder / "pictures").mkdir()
    shutil.copy(runs / "real.zip", folder / "pictures" / "demo.zip")
    with pytest.raises(UserError, match="does not say which runs it is of"):
        plotted.read_pictures(folder, "demo", rows)


def test_the_command_takes_in_suites_by_name(suite, monkeypatch, capsys) -> None:
    runs, folder, rows = suite()
    monkeypatch.setattr("sys.argv", ["plotted", "add", "demo", "--runs", str(runs.parent), "--to", str(folder)])
    plotted.main()
    assert capsys.readouterr().out.splitlines() == [
        str(folder / "curves/demo.jsonl"),
        str(folder / "pictures/demo.zip"),
    ]
    assert np.stack([*plotted.read_pictures(folder, "demo", rows).images.values()]).dtype == np.uint8
