"""Suites on photographs, as a user runs them: the paper's as a dry run, the same rules on a fixture to their end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ablations import plan, recipes
from evaluation import fixture
from evaluation.image_sets import ImageSet
from gigagan.config import DataConfig
from gigagan.data import open_dataset
from gigagan.errors import UserError
from gigagan.pretrained import KNOWN
from tests.projects import ROOT, copy_project, counts, snakemake

FID = re.compile(r"(?<![a-z])fid(?![a-z])", re.I)


@pytest.fixture(scope="module")
def brought(tmp_path_factory) -> dict[str, Path]:
    """What a user of the paper's suite brings, as far as a dry run looks at it: empty folders, and files of weights
    that are as large as the real ones and take no room."""
    folder = tmp_path_factory.mktemp("brought")
    places = {name: folder / name for name in ("shards", "images", "weights")}
    for place in places.values():
        place.mkdir()
    (folder / "captions_val2014.json").write_text("{}")
    for name in ("inception", "clip-vit-b-32", "clip-vit-l-14", "vgg16"):
        with (places["weights"] / KNOWN[name].file).open("wb") as file:
            file.truncate(KNOWN[name].size)
    return {**places, "annotations": folder / "captions_val2014.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The fixture, with the keys of the workflow's config."""
    folder = tmp_path_factory.mktemp("fixture") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["fixture", "--out", str(folder)])
        fixture.main()
    return {
        "shards": folder / "shards",
        "images": folder / "val2014",
        "annotations": folder / "annotations" / "captions_val2014.json",
        "weights": folder / "weights",
    }


def config(suite: str, places: dict[str, Path], *more: str) -> list[str]:
    return ["--config", f"suite={suite}", *(f"{key}={place}" for key, place in places.items()), *more]


def test_folders_that_cannot_be_what_is_meant_are_noticed_before_any_work(made, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(made["images"].iterdir())[:54]:
        (few / file.name).symlink_to(file)
    given = {"suite": "paper_fixture", **{key: str(place) for key, place in made.items()}}
    plan.Plan(given)
    with pytest.raises(UserError, match="has 54 pictures, fixture-random-weights-enlarged@1 wants 64"):
        plan.Plan(given | {"images": str(few)})
    with pytest.raises(UserError, match=r"shards=.*: has no train-\*\.tar"):
        plan.Plan(given | {"shards": str(made["images"])})


@pytest.mark.parametrize(
    ("words", "dry"),
    [
        (["-n"], True), (["--dry-run"], True), (["--dryrun"], True), (["-np"], True), (["-Fn", "all"], True),
        (["--cores", "all", "--config", "suite=-n"], False), (["--printshellcmds"], False), (["-c", "2"], False),
    ],
)  # fmt: skip
def test_a_dry_run_is_known_by_its_words(words, dry):
    assert plan.dry_run(["snakemake", *words]) is dry


def test_a_dry_run_wants_nothing_brought_and_a_run_all_of_it():
    nothing = ["--config", "suite=paper", "device=cpu"]
    done = snakemake(ROOT, "--dry-run", *nothing)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    lacking = [line for line in said.splitlines() if line.startswith("dry run without all that a run wants: ")]
    assert [word for word in ("shards", "images", "annotations") if any(f"needs {word}:" in x for x in lacking)] == [
        "shards", "images", "annotations",
    ]  # fmt: skip
    assert "laion_64, seed 0: FID and CLIP score by gigagan-coco30k@1" in said
    wrong = snakemake(ROOT, "--dry-run", *nothing, "shards=/nowhere")
    assert wrong.returncode == 1
    assert "shards=/nowhere: no such folder" in wrong.stdout + wrong.stderr
    real = snakemake(ROOT, *nothing)
    assert real.returncode == 1
    assert "error: suite paper: " in real.stdout + real.stderr
    assert "is not on this machine: fetch it from" in real.stdout + real.stderr


def test_a_dry_run_of_paper_names_every_score_of_every_run(brought):
    gpus = ["--resources", "gpu=8"]
    done = snakemake(ROOT, "--dry-run", "--forceall", *gpus, *config("paper", brought, "device=cuda", "gpus=8"))
    found = counts(done)
    said = done.stdout + done.stderr
    paper = recipes.suite("paper")
    for run in paper.runs:
        scores = re.findall(rf"^Job \d+: {run}, seed 0: (.*)$", said, re.M)
        assert sorted(scores) == [
            "FID and CLIP score by gigagan-64@1 (FID-10k at 64 px, as Table 1)",
            "FID and CLIP score by gigagan-coco30k@1 (GigaGAN's FID-30k on COCO 2014, CLIP ViT-B/32)",
        ]
    timed = f"latency and throughput of {', '.join(paper.runs)}, alone and with laion_64_512 behind"
    assert re.search(rf"^Job \d+: {timed}$", said, re.M)
    n = len(paper.runs)
    assert found["train"] == n + 1  # and the one upsampler that all share
    assert found["enlarge"] == n + 1  # and of the untrained generator
    assert found["statistics"] == found["prompts"] == 2  # each once, whoever is scored
    assert said.count("enlarged by runs/paper/laion_64_512/seed0") == n + 1
    assert re.search(r"^    resources: .*gpu=8", said, re.M)


@pytest.mark.parametrize(
    ("suite", "change", "words"),
    [
        ("paper", {"shards": ""}, "suite paper needs shards"),
        ("paper", {"images": ""}, "suite paper needs images"),
        ("paper", {"annotations": ""}, r"suite paper needs annotations: .* annotations=FILE"),
        ("paper", {"images": "nowhere"}, "suite paper: images=nowhere: no such folder"),
        ("paper", {"annotations": "nowhere"}, "suite paper: annotations=nowhere: no such file"),
        ("paper", {"weights": "nowhere"}, "suite paper: weights=nowhere: no such folder"),
        (
            "paper",
            {"weights": "{images}"},
            r"suite paper: \S+ \(.*, .* MB, sha256 .* is not on this machine: .* put it",
        ),
        ("coco64", {"images": ""}, "suite coco64 needs images"),
    ],
)
def test_what_is_missing_is_one_line_before_any_work(brought, monkeypatch, tmp_path, suite, change, words):
    from ablations.plan import Plan

    monkeypatch.setenv("HF_HOME", str(tmp_path))  # no library's cache
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    given = {key: str(place) for key, place in brought.items()}
    changed = {key: value.format(**given) for key, value in change.items()}
    with pytest.raises(UserError, match=words) as error:
        Plan({"suite": suite, **given, **changed})
    assert "\n" not in error.value.message


def test_gpus_share_a_batch_evenly(brought):
    from ablations.plan import Plan

    given = {key: str(place) for key, place in brought.items()}
    plan = Plan({"suite": "paper", **given, "device": "cuda", "gpus": 8}, dry=True)
    assert plan.launch == "torchrun --standalone --nproc-per-node 8 -m"
    assert (plan.gpu, plan.gpus, plan.cpus) == (1, 8, 72)
    assert Plan({"suite": "paper", **given, "device": "cpu", "gpus": 8}, dry=True).launch == "python -m"
    for gpus, words in ((3, "gigagan trains batches of 256"), ("x", "write how many"), (0, "write how many")):
        with pytest.raises(UserError, match=f"gpus={gpus}: {words}"):
            Plan({"suite": "paper", **given, "device": "cuda", "gpus": gpus}, dry=True)


def test_long_runs_write_their_checkpoints_by_shares(brought):
    from types import SimpleNamespace

    from ablations.plan import Plan

    plan = Plan({"suite": "paper", **{key: str(place) for key, place in brought.items()}}, dry=True)
    assert plan.rhythm(SimpleNamespace(variant="gigagan"))[:4] == ["--tick", "25.6", "--checkpoint", "25.6"]
    assert Plan({"suite": "demo"}).rhythm(SimpleNamespace(variant="gigagan")) == []


def test_the_fixture_is_always_the_same_and_in_coco_s_format(made, tmp_path, monkeypatch):
    shown = ImageSet(made["images"], made["annotations"])
    assert len(shown) == 64
    assert {shown.decode(k).shape for k in (0, 1)} == {(64, 48, 3), (48, 64, 3)}
    for name, path in (("coco", made["images"]), ("shards", made["shards"])):
        data = DataConfig(name=name, path=str(path), resolution=16)
        assert "0 skipped" in open_dataset(data, "train").describe()
    monkeypatch.setattr("sys.argv", ["fixture", "--out", str(tmp_path / "again")])
    fixture.main()
    again = {path.relative_to(tmp_path / "again"): path for path in (tmp_path / "again").rglob("*") if path.is_file()}
    for name, path in again.items():
        assert path.read_bytes() == (made["shards"].parent / name).read_bytes(), name
    with pytest.raises(UserError, match="is not empty"):
        fixture.main()


def test_coco64_plans_on_the_fixture_s_folders(made):
    assert counts(snakemake(ROOT, "--dry-run", "--forceall", *config("coco_fixture", made)))["train"] == 1


def test_the_papers_rules_run_on_a_fixture_whose_names_nobody_takes_for_fid(made, tmp_path):
    copy_project(tmp_path)
    done = snakemake(tmp_path, "--cores", "2", *config("paper_fixture", made, "variants=stylegan2"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = tmp_path / "results/paper_fixture"
    rows = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    quality = [row for row in rows if not row["protocol"].startswith("speed")]
    scored = {(row["variant"], row["protocol"], row["metric"]) for row in quality}
    small, large = "fixture-random-weights@1", "fixture-random-weights-enlarged@1"
    own = {("real", small), *((who, name) for who in ("untrained", "stylegan2") for name in (small, large))}
    assert scored == {(*who, metric) for who in own for metric in ("fd", "clip_score")}
    assert {row["resolution"] for row in rows if row["metric"] == "latency_ms"} == {16, 32}
    assert not [row for row in rows if FID.search(" ".join(str(value) for value in row.values()))]
    made_files = [path.relative_to(tmp_path) for top in ("runs", "results") for path in (tmp_path / top).rglob("*")]
    assert not [path for path in made_files if FID.search(str(path).replace("fixture", ""))]
    assert not [path for path in made_files if "enlarged.zip" in path.name]  # deleted once they are scored
    for suffix in ("md", "csv", "tex"):
        table = (results / f"tables/ablation.{suffix}").read_text()
        assert not FID.search(table.replace("fixture", ""))
        assert "fixture-random-weights" in table.replace("\\", "")
    for page in (results / "tables/ablation.md", results / "tables/ablation.tex", results / "report.html"):
        assert "A FIXTURE, not a result" in page.read_text()
    again = snakemake(tmp_path, "--dry-run", *config("paper_fixture", made, "variants=stylegan2"))
    assert "Nothing to be done" in again.stdout + again.stderr
