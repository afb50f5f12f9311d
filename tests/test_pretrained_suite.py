"""Pretrained models in suites: what is planned of them, what is refused before any work, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations import recipes, registry
from ablations.contents import fingerprint
from ablations.cost import cost
from ablations.plan import Plan
from ablations.pretrained import PretrainedRuns, describe, pretrained
from evaluation import check, protocols, reproduce, suites
from gigagan.errors import UserError
from tests.projects import ROOT, counts, snakemake

TINY = ("tiny_ddim_2", "tiny_lcm_1", "tiny_pictures")


def wildcards(variant: str) -> SimpleNamespace:
    return SimpleNamespace(variant=variant, seed=0, who=f"{variant}/seed0", protocol="fixture-random-weights@1")


@pytest.fixture
def brought(tmp_path: Path) -> dict[str, str]:
    """What a user brings to the fixture's suite, as far as a plan looks at it."""
    for name in ("models/tiny-sd/unet", "models/tiny-pictures", "images", "weights"):
        (tmp_path / name).mkdir(parents=True)
    for k in range(48):
        (tmp_path / f"images/{k}.jpg").touch()
    (tmp_path / "captions.json").write_text("{}")
    given = {key: str(tmp_path / key) for key in ("models", "images", "weights")}
    return {"suite": "pretrained_fixture", **given, "annotations": str(tmp_path / "captions.json")}


@pytest.fixture
def mixed(monkeypatch) -> None:
    """A suite ``mine`` of a variant and of pretrained models."""
    of = replace(recipes.suites()["coco_fixture"], name="mine", pretrained=TINY, seeds=(0, 1))
    monkeypatch.setattr(recipes, "suites", lambda: {"mine": of})


def test_labels_tell_all_runs_apart():
    labels = [entry.label for found in (recipes.rivals(), pretrained()) for entry in found.values()]
    assert len(set(labels)) == len(labels)


def test_names_are_nobody_else_s():
    """One word of --config means one thing."""
    assert not {*pretrained()} & {*recipes.variants(), *recipes.models(), *recipes.rivals()}


@pytest.mark.parametrize(("name", "protocol"), [("pretrained", "30k"), ("pretrained_coco2017", "5k")])
def test_the_real_models_stand_beside_tables_2_and_3(name, protocol):
    of = recipes.suite(name)
    assert {*of.pretrained} == {*pretrained()} - {*TINY}
    assert of.protocols == (f"gigagan-coco{protocol}@1",)
    assert "never released" in of.data


def test_a_suite_of_pretrained_models_alone_trains_nothing_and_has_no_untrained_row(brought):
    plan = Plan(brought)
    assert (plan.trained, plan.full, plan.figures) == ([], "", ["bars"])
    assert plan.all_drawn_by == [f"runs/pretrained_fixture/{name}/seed0/run.json" for name in TINY]
    shown = ["real", *(f"{name}/seed0" for name in TINY)]
    assert plan.rows == [f"runs/pretrained_fixture/{who}/fixture-random-weights@1.jsonl" for who in shown]
    assert plan.photos.drawer(wildcards("tiny_lcm_1")) == "evaluation.rivals.sample"
    assert plan.photos.drawn_by(wildcards("tiny_lcm_1")) == plan.all_drawn_by[1]
    with pytest.raises(UserError, match="edits are of generators that are trained here"):
        plan.edited_weights(None)


def test_beside_variants_they_have_one_seed_and_are_neither_trained_nor_enlarged(mixed, brought):
    plan = Plan(brought | {"suite": "mine", "device": "cpu"}, dry=True)
    assert plan.trained == ["gigagan"]
    assert plan.of_runs("x") == [
        *(f"runs/mine/gigagan/seed{seed}/x" for seed in (0, 1)), *(f"runs/mine/{name}/seed0/x" for name in TINY)
    ]  # fmt: skip
    assert plan.first == "runs/mine/gigagan/seed0"
    assert any("untrained" in row for row in plan.rows)
    assert plan.photos.drawer(wildcards("gigagan")) == plan.photos.drawer(wildcards("untrained")) == "gigagan.sample"
    assert plan.photos.drawn_by(wildcards("gigagan")) == "runs/mine/gigagan/seed0/weights.safetensors"
    plan.photos.resolution = 8  # less than the protocol's side
    assert plan.photos.shown(wildcards("gigagan")).endswith("@1.enlarged.zip")
    assert plan.photos.shown(wildcards("tiny_lcm_1")).endswith("@1.zip")


def test_on_a_suite_s_own_data_they_are_drawn_by_the_same_rule_and_learn_no_curve(monkeypatch, brought):
    smoke = recipes.suites()["smoke"]
    of = replace(smoke, name="mine", pretrained=("tiny_lcm_1",), overrides=(*smoke.overrides, "data.resolution=64"))
    monkeypatch.setattr(recipes, "suites", lambda: {"mine": of})
    plan = Plan({"suite": "mine", "device": "cpu", "models": brought["models"]})
    assert plan.draw(wildcards("tiny_lcm_1")) == "evaluation.rivals.sample --prompts"
    assert plan.drawn_by(wildcards("tiny_lcm_1")) == "runs/mine/tiny_lcm_1/seed0/run.json"
    assert plan.drawn_by(wildcards("gigagan")) == "runs/mine/gigagan/seed0/weights.safetensors"
    assert not [path for path in plan.pictured if "tiny_lcm_1" in path and "progress" in path]
    assert "runs/mine/tiny_lcm_1/seed0/samples.zip" in plan.pictured


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ""}, "suite pretrained_fixture needs models: say where it is with --config .* models=FOLDER"),
        ({"models": "nowhere"}, "suite pretrained_fixture: models=nowhere: no such folder"),
        (
            {"models": "{images}"},
            "lacks .*images/tiny-sd, .*images/tiny-pictures: put there what ablations/pretrained.yaml says",
        ),
        ({"seeds": "0-3"}, "pretrained models are not trained: they have seed 0 alone"),
        ({"variants": "tiny_lcm_2"}, r"unknown pretrained model 'tiny_lcm_2' \(did you mean 'tiny_lcm_1'"),
        ({"variants": "gigagan"}, "unknown pretrained model 'gigagan'"),
    ],
)
def test_what_lacks_is_one_line_before_any_work(brought, change, said):
    changed = {key: value.format(**brought) for key, value in change.items()}
    with pytest.raises(UserError, match=said) as error:
        Plan(brought | changed)
    assert "\n" not in error.value.message


def test_what_lacks_may_be_left_out(brought):
    Path(brought["models"], "tiny-pictures").rmdir()
    with pytest.raises(UserError, match=r"tiny-pictures: .*or leave them out with variants=tiny_ddim_2,tiny_lcm_1$"):
        Plan(brought)
    assert Plan(brought | {"variants": "tiny_ddim_2,tiny_lcm_1"}).variants == ["tiny_ddim_2", "tiny_lcm_1"]


def test_a_run_is_bound_again_for_other_files_or_settings(brought, monkeypatch):
    runs = PretrainedRuns(recipes.suite("pretrained_fixture"), brought["models"])
    one, other = wildcards("tiny_lcm_1"), wildcards("tiny_ddim_2")
    assert runs.recipe(one) != runs.recipe(other)
    assert runs.fingerprint(one) == runs.fingerprint(other)  # one folder
    before = runs.fingerprint(one)
    Path(brought["models"], "tiny-sd/unet/model.safetensors").write_bytes(b"x")
    assert runs.fingerprint(one) not in (before, runs.fingerprint(wildcards("tiny_pictures")))


def test_a_fingerprint_is_of_names_and_sizes_and_of_what_is_not_there(tmp_path):
    file = tmp_path / "a" / "x"
    found = [fingerprint(tmp_path / "a")]
    file.parent.mkdir()
    found.append(fingerprint(tmp_path / "a"))
    for content in (b"1", b"12"):
        file.write_bytes(content)
        found += [fingerprint(tmp_path / "a"), fingerprint(file)]
    assert len({*found}) == 6
    file.write_bytes(b"21")
    assert fingerprint(file) == found[-1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pretrained": ("sd15_5",)}, r"pretrained: unknown pretrained model 'sd15_5' \(did you mean 'sd15_50'"),
        ({"pretrained": ("tiny_lcm_1",) * 2}, "tiny_lcm_1 is a run twice"),
        ({"pretrained": ()}, "there is nothing to run: name variants, models, rivals or pretrained models"),
        ({"protocols": ("gigagan-coco30k@1",)}, "tiny_ddim_2 draws 64 px, gigagan-coco30k@1 scores pictures of 256 px"),
        ({"own": {"tiny_lcm_1": ("train.kimg=1",)}}, "own: 'tiny_lcm_1' is no run of this suite"),
        (
            {"protocols": ("scenes@2",), "samples": 1000, "reference": 4000, "overrides": ("data.resolution=16",)},
            "tiny_ddim_2 draws 64 px, its data set scores pictures of 16 px",
        ),
    ],
)
def test_a_suite_s_mistake_is_one_line_before_any_work(monkeypatch, fields, said):
    wrong = replace(recipes.suites()["pretrained_fixture"], name="mine", **fields)
    monkeypatch.setattr(recipes, "suites", lambda: {"mine": wrong})
    with pytest.raises(UserError, match=f"suites.yaml: mine: .*{said}"):
        recipes.suite("mine")


def test_what_is_said_of_them_before_anything_starts(capsys, monkeypatch):
    assert "3 pretrained models, which are not trained, draw 16 pictures for fixture-random" in cost(
        "pretrained_fixture", "cpu"
    )
    shown = describe("lcm_lora_4")
    assert shown.startswith("LCM-LoRA, 4 steps, in the place of SD-distilled of Table 3")
    assert "\n  lora: lcm-lora-sdv1-5/pytorch_lora_weights.safetensors" in shown
    for words, said in ((["show", "pretrained", "sana_sprint_2"], "guidance: 4.5"), (["list"], "sdxl_lightning_4")):
        monkeypatch.setattr("sys.argv", ["registry", *words])
        registry.main()
        assert said in capsys.readouterr().out


def test_their_rows_are_remade_from_the_user_s_models():
    suite = suites.suite("pretrained_fixture")
    assert suite.brought == ["images", "annotations", "weights", "models"]
    row = {"suite": suite.name, "variant": "tiny_lcm_1", "seed": 0, "metric": "fd", "git_sha": "ab", "started": "2026"}
    row |= {"protocol": "fixture-random-weights@1", "protocol_sha": "cd"}
    (step,) = reproduce.steps(row, [row], suite)
    assert step.target == "runs/pretrained_fixture/tiny_lcm_1/seed0/fixture-random-weights@1.jsonl"
    assert {*reproduce.FOLDERS} == {*suites.BROUGHT}


def test_committed_rows_of_them_name_no_data_that_they_learned_from():
    known = {name: (protocols.load_speed if "speed" in name else protocols.load)(name) for name in protocols.names()}
    seen = check._Seen(ROOT, known)
    row = {"suite": "pretrained", "variant": "sd_turbo_1", "resolution": 512, "protocol": "speed-gpu@1"}
    assert seen._of(row) == ("", 512)
    assert seen._of(row | {"protocol": "gigagan-coco30k@1"}) == ("COCO 2014 validation, all images", 256)
    assert {*recipes.suite("pretrained").pretrained} <= seen.variants


def test_a_dry_run_with_nothing_brought_says_what_a_run_would_lack():
    done = snakemake(ROOT, "--dry-run", "--forceall", "--config", "suite=pretrained", "device=cpu")
    found, said = counts(done), done.stdout + done.stderr
    assert (found["bind"], found["draw"], found["score_photographs"], found["speed"]) == (14, 14, 14, 1)
    assert not {"train", "train_rival", "untrained", "enlarge"} & found.keys()
    for key in ("images", "annotations", "models"):
        assert f"dry run without all that a run wants: suite pretrained needs {key}" in said
