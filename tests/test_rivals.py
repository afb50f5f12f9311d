"""Rivals in suites: what they share with a suite, what they inherit from their teachers, what the rules take."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ablations import recipes
from ablations.counting import step
from ablations.plan import Plan
from ablations.recipes import chosen, configured, family, lineage, on_gpu, recipe, rivals, started, suite, suites
from evaluation.rivals import config as configs
from gigagan.config import parse_overrides
from gigagan.errors import UserError


def wildcards(variant: str, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(variant=variant, seed=seed)


def test_every_rival_of_a_suite_has_the_suite_s_data_text_and_device():
    listed = [(of, run) for of in suites().values() for run in (*of.rivals, *started(of))]
    assert len(listed) > 10
    for of, run in listed:
        full = parse_overrides(recipe(of, of.variants[0]))
        config = configured(of, run)
        assert config.data == full.data
        assert config.text.clip == full.text.clip
        assert config.train.threads == full.train.threads


def test_stylegan2_is_the_full_model_of_the_suite_without_its_parts():
    of = suite("demo")
    full, rival = parse_overrides(recipe(of, "gigagan")), configured(of, "stylegan2")
    assert rival.generator.channel_base == full.generator.channel_base
    assert (rival.attention.kinds, rival.generator.kernels, rival.loss.matching) == ("none", (1,), "none")
    assert (rival.loss.clip_weight, rival.vision.weight, rival.discriminator.multi_scale) == (0, 0, "none")
    assert set(rivals()["stylegan2"].overrides) <= set(recipes.models()["stylegan2"].overrides)  # the paper's own


def test_a_student_inherits_its_teacher_s_network_but_not_its_budget():
    of = replace(suite("demo"), own={"diffusion_teacher": ("unet.layers=2", "train.kimg=7", "train.lr_generator=0.5")})
    teacher, student = configured(of, "diffusion_teacher"), configured(of, "diffusion_distilled_4")
    assert teacher.unet.layers == student.unet.layers == 2
    assert (teacher.train.kimg, teacher.train.lr_generator) == (7, 0.5)
    assert student.train.kimg == parse_overrides(recipe(of, "gigagan")).train.kimg
    assert student.train.lr_generator != 0.5


def test_what_others_start_from_is_trained_though_nobody_compares_it():
    of = suite("demo")
    assert [entry.name for entry in lineage("diffusion_distilled_4")] == [
        "diffusion_teacher", "diffusion_guided", "diffusion_distilled_16", "diffusion_distilled_8",
        "diffusion_distilled_4",
    ]  # fmt: skip
    wanted = {"diffusion_guided", "diffusion_distilled_16", "diffusion_distilled_8", "diffusion_distilled_2"}
    assert set(started(of)) == wanted
    assert not wanted & set(of.runs)


def test_halvings_lead_from_twice_the_steps_to_half():
    for name, entry in rivals().items():
        if "halving" in "".join(entry.overrides):
            steps = int(name.rpartition("_")[2])
            assert f"sampling.steps={steps}" in entry.overrides
            assert f"sampling.steps={2 * steps}" in rivals()[entry.start].overrides


def test_labels_tell_rivals_apart():
    labels = [entry.label for entry in rivals().values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", rivals())
def test_every_rival_has_a_configuration_of_its_family(name):
    entry = rivals()[name]
    base = [o for o in suite("demo").overrides if not o.startswith("data.path=")] if entry.family == "stylegan2" else []
    made = configs.parse_overrides(entry.family, [*base, *entry.overrides])
    assert isinstance(made, configs.FAMILIES[entry.family])


def test_a_subset_of_runs_keeps_rivals_apart_from_variants():
    of = chosen(suite("demo"), "gigagan,stylegan_t,diffusion_distilled_4", "3")
    assert (of.variants, of.rivals, of.seeds) == (("gigagan",), ("stylegan_t", "diffusion_distilled_4"), (3,))
    assert family(of, "stylegan_t") == "stylegan_t"
    with pytest.raises(UserError, match="unknown variant 'stylegan_t'"):
        chosen(suite("demo_long"), "stylegan_t", "")


def test_the_plan_trains_a_student_from_its_teacher_s_weights_at_the_same_seed():
    plan = Plan({"suite": "demo", "device": "cpu"})
    assert plan.rivals.start(wildcards("diffusion_distilled_4", 5)) == [
        "runs/demo/diffusion_distilled_8/seed5/weights.safetensors"
    ]
    assert plan.rivals.start_option(wildcards("diffusion_distilled_4", 5)) == [
        "--start", "runs/demo/diffusion_distilled_8/seed5"
    ]  # fmt: skip
    assert plan.rivals.start(wildcards("diffusion_teacher")) == []
    assert plan.draw(wildcards("stylegan2")).startswith("evaluation.rivals.sample")
    assert plan.draw(wildcards("no_attention")).startswith("gigagan.sample")
    assert "stylegan2" in plan.rivals.names.split("|")
    assert "stylegan2" not in plan.own.split("|")
    assert plan.identity(wildcards("stylegan_t")) != plan.identity(wildcards("gigagan"))
    curves = [path for path in plan.pictured if path.endswith("progress.jsonl")]
    assert "runs/demo/stylegan_t/seed0/progress.jsonl" in curves
    assert not [path for path in curves if "diffusion" in path]


def test_a_gpu_takes_the_suite_s_larger_pictures():
    sides = {d: Plan({"suite": "rivals", "device": d}).base.data.resolution for d in ("cpu", "cuda")}
    assert sides == {"cpu": 16, "cuda": 32}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rivals", ("stylegan_x",), "rivals: unknown rival 'stylegan_x'"),
        ("own", {"diffusion_techer": ()}, "own: 'diffusion_techer' is no run of this suite"),
        ("own", {"diffusion_teacher": ("unet.chanels=8",)}, "diffusion_teacher: unknown override 'unet.chanels'"),
        ("own", {"diffusion_distilled_4": ("sampling.steps=3",)}, "diffusion_distilled_4: sampling.steps=3"),
    ],
)
def test_a_wrong_rival_is_one_line_before_any_work(monkeypatch, field, value, words):
    wrong = replace(suites()["demo"], name="mine", **{field: value})
    monkeypatch.setattr(recipes, "suites", lambda: {"mine": wrong})
    with pytest.raises(UserError, match=words):
        recipes.suite("mine")


@pytest.mark.parametrize(("name", "device"), [("demo", "cpu"), ("rivals", "cpu"), ("rivals", "gpu"), ("photos", "cpu")])
def test_a_teacher_with_all_that_leads_to_a_student_takes_no_more_operations_than_gigagan(name, device):
    of = on_gpu(suite(name)) if device == "gpu" else suite(name)

    def tflop(run: str) -> float:
        return step(of, run).gflop * configured(of, run).train.kimg

    budget = tflop("gigagan")
    for student in ("diffusion_distilled_1", "diffusion_consistency_4"):
        if student in of.rivals:
            spent = sum(tflop(entry.name) for entry in lineage(student))
            assert 0.95 * budget < spent <= 1.005 * budget, student
