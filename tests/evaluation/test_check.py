"""What is committed is right as it stands; on a copy of it every kind of mistake is found, and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluation import check, protocols, records, suites
from evaluation.records import Row
from gigagan import files
from gigagan.errors import UserError

ROOT = Path(__file__).parents[2]
COPIED = (
    "ablations/variants.yaml",
    "ablations/suites.yaml",
    "ablations/models.yaml",
    "ablations/rivals.yaml",
    "ablations/pretrained.yaml",
    "evaluation/protocols.yaml",
    "evaluation/published.yaml",
    "evaluation/expected/smoke.json",
)
JUDGE = "evaluation/weights/scenes-judge"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what is checked."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / JUDGE, tmp_path / JUDGE)
    shutil.copytree(ROOT / records.FOLDER, tmp_path / records.FOLDER)
    monkeypatch.setattr(protocols, "FILE", tmp_path / "evaluation/protocols.yaml")
    protocols._entries.cache_clear()
    yield tmp_path
    protocols._entries.cache_clear()


def wrong(root: Path) -> str:
    """The one line with which the check of a copy ends."""
    protocols._entries.cache_clear()
    with pytest.raises(UserError) as caught:
        list(check.everything(root / records.FOLDER, root))
    assert "\n" not in caught.value.message
    return caught.value.message


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def change(root: Path, of_suite: str, which: Callable[[Row], bool], **fields: object) -> None:
    """Give rows of a suite other fields, with ids that are right again."""
    path = root / records.FOLDER / f"{of_suite}.jsonl"
    rows = files.read_jsonl(path)
    changed = [row for row in rows if which(row)]
    assert changed
    for row in changed:
        row |= fields
        row["id"] = records.identity(row)
    records.write(path, rows)


def test_what_is_committed_is_valid() -> None:
    command = [sys.executable, "-m", "evaluation.records", "check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    rows = {str(path.relative_to(ROOT)) for path in records.committed(ROOT / records.FOLDER)}
    assert lines.keys() == {*COPIED, *rows}
    n = len(files.read_jsonl(ROOT / records.FOLDER / "demo.jsonl"))
    assert lines["results/records/demo.jsonl"] == f"{n} rows, {n} protocol hashes computed again"
    assert lines["ablations/variants.yaml"] == f"{len(suites.entries(ROOT / 'ablations/variants.yaml'))} variants"


def test_the_command_ends_with_one_line(tmp_path: Path, make_row) -> None:
    row = make_row(resolution=16)
    files.write_jsonl(tmp_path / "demo.jsonl", [row | {"id": records.identity(row)}])
    command = [sys.executable, "-m", "evaluation.records", "check", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: {tmp_path}/demo.jsonl: demo/gigagan seed 0 fd (scenes@2): its protocol hash is "
    )
    assert done.stderr.count("\n") == 1


def test_a_copy_is_valid_and_folders_beside_the_rows_take_no_part(root: Path) -> None:
    (root / records.FOLDER / "curves").mkdir(exist_ok=True)
    (root / records.FOLDER / "curves" / "demo.jsonl").write_text("nonsense")
    lines = list(check.everything(root / records.FOLDER, root))
    assert len(lines) == len(COPIED) + len(records.committed(ROOT / records.FOLDER))


def test_no_folder_of_rows_is_not_a_valid_one(root: Path) -> None:
    shutil.rmtree(root / records.FOLDER)
    assert wrong(root).startswith("no rows (*.jsonl) in ")


def test_rows_that_were_edited_or_moved(root: Path) -> None:
    path = root / records.FOLDER / "upsample.jsonl"
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    first = json.loads(lines[0])
    for text, words in (
        (good.replace(f'"value": {first["value"]}', '"value": 1.5', 1), "was edited by hand"),
        (good.replace(first["id"], "0" * 12, 1), "was edited by hand: its id is 000000000000"),
        ("".join([lines[1], lines[0], *lines[2:]]), "is not sorted"),
        (good + lines[-1], "has two rows with one key"),
        (good.replace('"git_dirty": false', '"git_dirty": true', 1), "was edited by hand"),
        (good + "{}\n", "field 'schema' is missing"),
    ):
        assert text != good
        path.write_text(text)
        assert words in wrong(root)
    path.write_text(good)
    list(check.everything(root / records.FOLDER, root))


def of(**fields: object) -> Callable[[Row], bool]:
    return lambda row: fields.items() <= row.items()


@pytest.mark.parametrize(
    ("suite", "which", "fields", "words"),
    [
        (
            "demo",
            of(variant="real", metric="fd", protocol="scenes@2"),
            {"protocol": "scenes@1"},
            "demo/real fd (scenes@1): no such protocol in protocols.yaml (did you mean 'scenes@2'?)",
        ),
        (
            "demo",
            of(variant="no_ms_io"),
            {"variant": "no_msio"},
            "no variant 'no_msio' in variants.yaml, models.yaml, rivals.yaml",
        ),
        ("demo", of(protocol="scenes@2"), {"protocol_sha": "0" * 12}, "its protocol hash is 000000000000, but "),
        ("demo", of(protocol="speed@1"), {"protocol_sha": "0" * 12}, "(speed@1): its protocol hash is 000000000000"),
        (
            "photos",
            of(protocol="speed@1"),
            {"resolution": 64},
            "(speed@1): is of shards at 64 px, but its suite is of shards at 32 px",
        ),
        (
            "photos",
            of(variant="real", protocol="photos@1"),
            {"protocol_sha": "0" * 12},
            "its protocol_sha is 000000000000, but ",
        ),
        (
            "photos",
            of(variant="no_attention", metric="clip_score"),
            {"resolution": 64},
            "of shards at 64 px, but its suite",
        ),
        (
            "photos",
            of(variant="untrained", metric="clip_score"),
            {"dataset": "coco"},
            "(photos@1): is of coco at 32 px, but its suite",
        ),
        ("demo", of(variant="gigagan", metric="latency_ms"), {"recipe_sha": "0" * 12}, "its recipe_sha is 0000000000"),
        (
            "demo",
            of(variant="gigagan", metric="shape_accuracy"),
            {"metric": "kid", "higher_is_better": False},
            "demo/gigagan seed 0 kid (scenes@2): that protocol does not have this metric (it has: fd, clip_score, ",
        ),
        (
            "demo",
            of(variant="gigagan", metric="fd", protocol="scenes@2"),
            {"protocol": "speed@1"},
            "demo/gigagan seed 0 fd (speed@1): that protocol does not have this metric (it has: latency_ms, ",
        ),
        (
            "upsample",
            of(variant="real", metric="clip_score"),
            {"metric": "psnr"},
            "upsample/real psnr (upsampled-scenes@1)",
        ),
        (
            "demo",
            of(variant="gigagan", seed=0),
            {"seed": None},
            "demo/gigagan background_color_accuracy (scenes@2): seed None",
        ),
        (
            "demo",
            of(variant="real"),
            {"seed": 0},
            "demo/real seed 0 background_color_accuracy (scenes@2): seed 0 and rec",
        ),
        ("demo", of(variant="real"), {"recipe_sha": "0" * 12}, "seed None and recipe 000000000000"),
        ("demo", of(variant="real", metric="clip_score"), {"git_dirty": True}, "uncommitted changes"),
        ("demo", of(variant="real", metric="clip_score"), {"value": float("nan")}, "only finite values"),
        ("demo", of(variant="real", metric="clip_score"), {"low": 2.0}, "is upside down"),
    ],
)
def test_rows_that_do_not_belong(root: Path, suite: str, which, fields: dict, words: str) -> None:
    change(root, suite, which, **fields)
    said = wrong(root)
    assert said.startswith(f"{root / records.FOLDER / suite}.jsonl")
    assert words in said


def test_rows_of_a_suite_that_is_none(root: Path) -> None:
    change(root, "demo_long", lambda row: True, suite="demo_longer")
    folder = root / records.FOLDER
    (folder / "demo_long.jsonl").rename(folder / "demo_longer.jsonl")
    assert "no suite 'demo_longer' in suites.yaml (did you mean 'demo_long'?)" in wrong(root)


def test_hashes_of_photographs_cannot_be_computed_again_but_must_agree(root: Path) -> None:
    change(root, "photos", of(protocol="photos@1"), protocol_sha="0" * 12)
    list(check.everything(root / records.FOLDER, root))


def test_another_judge_is_another_hash(root: Path) -> None:
    with (root / JUDGE / "open_clip_model.safetensors").open("ab") as f:
        f.write(b"\0")
    said = wrong(root)
    assert "demo.jsonl: demo/" in said
    assert "(scenes@2): its protocol hash is " in said


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("protocols", "    images: 1000\n", "", "protocols.yaml: scenes@2: missing or unknown fields: images"),
        (
            "protocols",
            "    images: 1000\n",
            "    images: many\n",
            "images: must be a positive whole number, not 'many'",
        ),
        ("protocols", "metrics: [fd, clip_score,", "metrics: [fdd, clip_score,", "is called 'fdd'"),
        ("protocols", "  photos-blind@1:", "  photos@1:", "'photos@1' stands twice"),
        ("protocols", "  speed@1:", "  speed:", "'speed' is no name of a protocol: call it name@1"),
        ("protocols", "\nspeed:", "\nspeed: []\n.old:", "must have the sections images, lists, speed"),
        ("protocols", "  scenes-blind@1:", "  none@1: null\n  scenes-blind@1:", "none@1: must have fields"),
        ("protocols", "\nspeed:", "\nspeeds:", "must have the sections images, lists, speed"),
        ("protocols", "  speed@1:", "  photos@1:", "photos@1 stands in both sections"),
        (
            "protocols",
            "    seeds: index\n",
            "    seeds: place\n",
            ": its protocol hash is ",
        ),
        ("variants", "parent: gigagan", "parent: gigan", "variants.yaml: no_adaptive_kernels: unknown parent"),
        ("variants", "overrides: [generator.kernels=1]", "overrides: [kernels]", "'kernels' is no override"),
        ("variants", "no_attention:\n", "no_adaptive_kernels:\n", "'no_adaptive_kernels' stands twice"),
        ("variants", "no_matching_loss:\n", "no_loss:\n", "suites.yaml: demo: no variant 'no_matching_loss'"),
        ("models", "\n  parent: ", "\n  parent: x", "models.yaml: "),
        ("suites", "data.objects=0.85,0.15,0", "data.objects=0.8,0.2,0", "its protocol hash is "),
        ("suites", "data.objects=0.85,0.15,0", "data.objects=much", "suites.yaml: smoke: data.objects"),
        ("suites", "protocols: [photos@1,", "protocols: [photos@9,", "photos: unknown protocol 'photos@9'"),
        ("suites", "no_attention, no_ms_io", "no_attention, no_ms_oi", "no variant 'no_ms_oi' (did you mean"),
        ("suites", "  judge: runs/photos/clip/judge\n", "", "suites.yaml: photos: judge: must be"),
        ("published", "\nsets:", "\nset:", "published.yaml: "),
        ("expected", '"suite": "smoke"', '"suite": "demo"', "holds seeds of suite 'demo'"),
        ("expected", '"protocol": "scenes@2"', '"protocol": "scenes@1"', "no such protocol"),
        ("expected", '"protocol_sha": "', '"protocol_sha": "0', "its protocol hash is 0"),
        ("expected", '"metric": "clip_score"', '"metric": "kid"', "does not have this metric"),
        ("expected", '"variant": "gigagan"', '"variant": "gigan"', "no variant 'gigan'"),
        ("expected", '"variant": "gigagan"', '"variant": "real"', "only metrics of trained variants"),
        ("expected", '"100": ', '"200": ', "its provenance is of other seeds"),
        ("expected", '"100": ', '"100": NaN, "1000": ', "needs finite values"),
        ("expected", '"relative": 0.15', '"relative": -1', "is no file of stored seeds"),
        ("expected", '"effects": {', '"effects": {"psnr": {"absolute": 1},', "effects of psnr, of which"),
        ("expected", '"family_alpha": 0', '"family_alpha": 7', "family_alpha must lie between"),
        ("expected", '"seeds": [', '"seed": [', "its provenance is of other seeds"),
    ],
)
def test_other_files_that_are_wrong(root: Path, name: str, old: str, new: str, words: str) -> None:
    (path,) = (path for path in COPIED if name in path)
    edit(root / path, old, new)
    assert words in wrong(root)


def test_an_effect_that_is_not_stated_and_a_metric_that_stands_twice(root: Path) -> None:
    path = root / "evaluation/expected/smoke.json"
    good = json.loads(path.read_text())
    files.write_json(path, good | {"effects": {k: v for k, v in good["effects"].items() if k != "clip_score"}})
    assert "gigagan clip_score (scenes@2): 'effects' states none for it" in wrong(root)
    files.write_json(path, good | {"stored": [*good["stored"], good["stored"][0]]})
    assert "stands twice" in wrong(root)


def test_suites_are_what_the_registry_reads() -> None:
    """Both read the same files; what evaluation sees of them is what will be run."""
    from ablations import plan, pretrained, recipes
    from gigagan.config import parse_overrides

    seen = suites.read()
    assert seen.keys() == recipes.suites().keys()
    for name, suite in recipes.suites().items():
        of_ours = seen[name]
        assert (of_ours.variants, of_ours.protocols, of_ours.overrides) == (
            suite.runs, suite.protocols, suite.overrides
        )  # fmt: skip
        assert (of_ours.judge, of_ours.trains_clips) == (suite.judge, bool(suite.pretrain))
        assert of_ours.data == parse_overrides(list(suite.overrides)).data
    assert suites.entries(suites.FOLDER / "variants.yaml").keys() == recipes.variants().keys()
    assert suites.entries(suites.FOLDER / "models.yaml").keys() == recipes.models().keys()
    assert suites.entries(suites.FOLDER / "rivals.yaml").keys() == recipes.rivals().keys()
    assert suites.entries(suites.FOLDER / "pretrained.yaml").keys() == pretrained.pretrained().keys()
    assert set(suites.BROUGHT) <= files.read_yaml(plan.SCHEMA)["properties"].keys()


def test_what_a_protocol_wants_from_elsewhere() -> None:
    wanted = {name: suites.elsewhere(protocols.load(name)) for name in ("scenes@2", "upsampled-scenes@1",
              "photos-blind@1", "photos-inception@1", "upsampled-photos-lpips@1")}  # fmt: skip
    assert wanted == {
        "scenes@2": [],
        "upsampled-scenes@1": [],
        "photos-blind@1": [],
        "photos-inception@1": ["inception"],
        "upsampled-photos-lpips@1": ["lpips"],
    }
    with pytest.raises(UserError, match=r"no suite 'dmeo' in suites.yaml \(did you mean 'demo'"):
        suites.suite("dmeo")
