"""The registry: entries of the YAML files, what a plan tells the workflow, and what a suite costs."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ablations import recipes, registry
from ablations.plan import Plan
from ablations.recipes import ancestry, suite, varied
from ablations.sizes import sizes
from gigagan import config as configuration
from gigagan.config import parse_overrides
from gigagan.errors import UserError
from gigagan.training.phases import GigaGAN

CPU = torch.device("cpu")


@pytest.fixture
def yaml_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Other variants.yaml and suites.yaml, for as long as a test takes."""

    committed = recipes.HERE

    def write(**files: str) -> None:
        for name in ("variants", "models", "rivals", "suites"):
            shutil.copy(committed / f"{name}.yaml", tmp_path)
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        monkeypatch.setattr(recipes, "HERE", tmp_path)
        for name in files:
            monkeypatch.setattr(recipes, name, getattr(recipes, name).__wrapped__)

    return write


def entry(parent: str | None = None, overrides: str = "[]") -> str:
    return f"{{label: x, overrides: {overrides}" + (f", parent: {parent}}}" if parent else "}")


def test_parents_come_first_and_the_last_word_is_the_variant_s_own(yaml_files):
    yaml_files(
        variants=f"a: {entry(overrides='[train.batch=2, train.kimg=1]')}\n"
        f"b: {entry('a', '[train.batch=6]')}\nc: {entry('b', '[train.batch=8]')}\n"
    )
    assert [v.name for v in ancestry("c")] == ["a", "b", "c"]
    config = parse_overrides(varied([], "c"))
    assert (config.train.batch, config.train.kimg) == (8, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a: {entry('gigagann')}\ngigagan: {entry()}\n", r"a: unknown parent 'gigagann' \(did you mean 'gigagan'"),
        (f"a: {entry('b')}\nb: {entry('c')}\nc: {entry('a')}\n", "a: its parents form a circle"),
        (f"a: {entry('a')}\n", "a: its parents form a circle"),
        ("a: {overides: [], label: x}\n", r"no field 'overides' \(did you mean 'overrides'"),
        ("a: {label: x}\n", "a: lacks overrides, a list of texts"),
        ("a: [\n", "not valid YAML: line 2"),
        ("", "must map names to entries"),
        ("- a\n", "must map names to entries"),
        ("mine:\n", r"mine: must have fields \(label, overrides.*not nothing"),
        ("mine: [label]\n", "mine: must have fields"),
        ("mine: {label: x, overrides: }\n", "mine: overrides: must be a list of texts, not nothing"),
        ("mine: {label: x, overrides: [generator.kernels: 1]}\n", "mine: overrides: must be a list of texts, not"),
        ("mine: {label: x, overrides: generator.kernels=1}\n", "mine: overrides: must be a list of texts, not 'gen"),
        ("mine: {label: 5, overrides: []}\n", "mine: label: must be text, not 5"),
        ("mine: {label: x, overrides: [], 5: x}\n", "mine: no field 5"),
        (f"5: {entry()}\n", "5: no name"),
        (f"a/b: {entry()}\n", "a/b: no name"),
        (f"gigagan: {entry()}\ngigagan: {entry()}\n", "line 2: 'gigagan' stands twice"),
        ("a: {label: x, label: y, overrides: []}\n", "line 1: 'label' stands twice"),
        ("a: 2026-99-99\n", "not valid YAML"),
    ],
)
def test_wrong_entries_are_one_clear_line(yaml_files, text, words):
    yaml_files(variants=text)
    with pytest.raises(UserError, match=words) as error:
        recipes.variants()
    assert "variants.yaml: " in error.value.message
    assert "\n" not in error.value.message


SUITE = {
    "about": "x",
    "variants": "[gigagan]",
    "seeds": "[0]",
    "overrides": "[]",
    "protocols": "[scenes@2]",
    "judge": "j",
    "samples": "1000",
    "reference": "4000",
}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("seeds", "3", "seeds: must be a list of whole numbers, not 3"),
        ("seeds", "[a]", r"seeds: must be a list of whole numbers, not \['a'\]"),
        ("seeds", "[true]", "seeds: must be a list of whole numbers"),
        ("seeds", "[-1]", r"seeds: must be at least 0, not \[-1\]"),
        ("seeds", "[]", "seeds: is empty"),
        ("variants", "[]", "there is nothing to run: name variants, models, rivals or pretrained models"),
        ("protocols", "[]", "protocols: is empty"),
        ("variants", "gigagan", "variants: must be a list of texts, not 'gigagan'"),
        ("overrides", "generator.kernels=1", "overrides: must be a list of texts, not 'generator.kernels=1'"),
        ("samples", "lots", "samples: must be a whole number, not 'lots'"),
        ("samples", "0", "samples: must be at least 1, not 0"),
        ("samples", "999", "scenes@2 scores 1000 samples against a reference of 4000, not 999 against 4000"),
        ("reference", "400", "scenes@2 scores 1000 samples against a reference of 4000, not 1000 against 400"),
        ("protocols", "[scenes@2, photos-inception@1]", "photos-inception@1 scores 10000 samples"),
        ("device", "gpu", "device: must be auto or cpu or cuda, not 'gpu'"),
        ("gate", "1", "gate: must be true or false, not 1"),
        ("pretrain", "{judge: many}", "pretrain: must be a map from conditioner or judge to whole numbers"),
        ("pretrain", "{jugde: 5}", "pretrain: must be a map from conditioner or judge to whole numbers"),
        ("pretrain", "{judge: 0}", "pretrain: must be at least 1"),
        ("model", "laion_46", r"model: unknown model 'laion_46' \(did you mean 'laion_64'"),
        ("models", "[stylegan]", r"models: unknown model 'stylegan' \(did you mean 'stylegan2'"),
        ("models", "[stylegan2, stylegan2]", "stylegan2 is a run twice"),
        ("upsampler", "bicubic", "upsampler: unknown model 'bicubic'"),
        ("upsampler", "laion_64_512", "upsampler: enlarges for protocols on photographs alone"),
        ("steps", "100", "steps: must be a map from texts to whole numbers, not 100"),
        ("steps", "{each: 0}", "steps: must be at least 1"),
        ("steps", "{gigagann: 5}", r"steps: 'gigagann' is no run of this suite \(did you mean 'gigagan'"),
        ("own", "{gigagan: train.batch=8}", "own: must be a map from texts to lists of texts"),
        ("own", "{stylegan2: [train.batch=8]}", "own: 'stylegan2' is no run of this suite"),
        ("protocols", "[scenes@2, gigagan-64@1]", "scenes@2: a suite is scored on its own data or on"),
        ("protocols", "[gigagan-64@1]", "samples and reference are for the suite's own data"),
        ("protocols", "[clean-fid@1]", "clean-fid@1 does not say how many images it scores"),
    ],
)
def test_a_suite_s_wrong_field_is_one_clear_line_before_any_work(yaml_files, field, value, words):
    text = ", ".join(f"{name}: {of}" for name, of in {**SUITE, field: value}.items())
    yaml_files(suites=f"mine: {{{text}}}\n")
    with pytest.raises(UserError, match=f"suites.yaml: mine: {words}") as error:
        recipes.suite("mine")
    assert "\n" not in error.value.message


ON_PHOTOGRAPHS = {k: v for k, v in SUITE.items() if k not in ("samples", "reference")}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"protocols": "[gigagan-coco30k@1]"}, "gigagan-coco30k@1 scores pictures of 256 px, and the runs draw 64 px"),
        (
            {"protocols": "[gigagan-coco30k@1]", "upsampler": "photos_128_1024"},
            "upsampler photos_128_1024 takes pictures of 128 px, and gigagan draws 64 px",
        ),
        ({"protocols": "[gigagan-coco30k@1]", "upsampler": "laion_64"}, "takes pictures of 0 px"),
        ({"protocols": "[fixture-random-weights@1]", "judge": '""'}, "judge: is empty"),
        (
            {"protocols": "[gigagan-64@1]", "steps": "{each: 5}", "overrides": "[train.kimg=3]"},
            "gigagan: two budgets, 5 steps and train.kimg=3",
        ),
        (
            {"protocols": "[gigagan-64@1]", "own": "{gigagan: [train.bach=3]}"},
            r"gigagan: .*did you mean 'train\.batch'",
        ),
    ],
)
def test_what_does_not_go_together_on_photographs_is_one_clear_line(yaml_files, fields, words):
    text = ", ".join(f"{name}: {of}" for name, of in {**ON_PHOTOGRAPHS, **fields}.items())
    yaml_files(suites=f"mine: {{{text}}}\n")
    with pytest.raises(UserError, match=words) as error:
        recipes.suite("mine")
    assert "\n" not in error.value.message


def test_a_judge_is_asked_for_where_a_protocol_has_one(yaml_files):
    text = ", ".join(f"{name}: {of}" for name, of in ON_PHOTOGRAPHS.items() if name not in ("judge", "protocols"))
    yaml_files(suites=f"mine: {{{text}, protocols: [fixture-random-weights@1]}}\n")
    with pytest.raises(UserError, match="fixture-random-weights@1 is scored by a judge: name a CLIP as judge"):
        recipes.suite("mine")


def test_a_budget_is_steps_times_batch():
    paper = suite("paper")
    kimg = {run: parse_overrides(recipes.recipe(paper, run)).train.kimg for run in (*paper.runs, paper.upsampler)}
    assert kimg.pop("laion_64") == pytest.approx(980_000, rel=0.01)  # 1,350,000 steps, and the paper's 0.98 billion
    assert kimg.pop("laion_64_512") == 915 * 256
    assert set(kimg.values()) == {25_600}


def test_paper_runs_every_rung_of_the_ladder_and_the_leave_one_outs_of_its_last():
    paper = suite("paper")
    assert {name for name, of in recipes.models().items() if of.source.startswith("Table")} >= {*paper.models}
    ladder = [name for name, of in recipes.models().items() if "Table 1" in of.source or of.source == "Tables 1, A2"]
    assert [*paper.models[:-1], paper.model, paper.models[-1]] == ladder  # the one that is not named is `gigagan`
    full = parse_overrides(recipes.recipe(paper, "gigagan"))
    last = parse_overrides([*recipes.model("vision_aided_gan"), *paper.overrides])
    assert full == last
    out = parse_overrides(recipes.recipe(paper, "no_attention"))
    assert recipes.difference(full, out) == ["attention.kinds: self+cross -> none"]
    # One word of --config means one thing.
    assert not {*recipes.variants()} & {*recipes.models(), *recipes.rivals()}


def test_quality_over_steps_is_a_figure_only_of_runs_that_take_several_numbers_of_them():
    for name, variants, there in (
        ("rivals", "", True),
        ("demo", "", True),
        ("demo", "gigagan,no_ms_io,stylegan2,stylegan_t", False),
        ("demo", "gigagan,diffusion_distilled_1", False),
        ("demo", "gigagan,diffusion_distilled_4", True),
        ("smoke", "", False),
        ("upsample", "", False),
    ):
        assert ("quality_vs_steps" in Plan({"suite": name, "variants": variants}).figures) is there, (name, variants)


def test_a_repeated_variant_or_seed_is_run_once_in_the_suite_s_order():
    plan = Plan({"suite": "demo", "variants": "no_ms_io, no_attention,gigagan,no_ms_io", "seeds": "3,0-1,0,3"})
    assert plan.variants == ["gigagan", "no_attention", "no_ms_io"]
    assert plan.seeds == [3, 0, 1]
    files = plan.of_runs("weights.safetensors")
    assert len(files) == len(set(files)) == 9


@pytest.mark.parametrize(
    ("chosen", "full"),
    [
        ("", "gigagan"),
        ("no_attention,gigagan", "gigagan"),
        ("no_ms_io,no_attention", "no_ms_io"),
        ("no_clip_loss,no_attention", "no_clip_loss"),
    ],
)
def test_the_untrained_generator_is_the_full_model_s_if_that_is_there(chosen, full):
    assert Plan({"suite": "demo", "variants": chosen}).first == f"runs/demo/{full}/seed0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"seeds": "7-0"}, "seeds=7-0: no seeds from 7 to 0"),
        ({"seeds": "0,7-0"}, "no seeds from 7 to 0"),
        ({"seeds": ","}, "seeds=,: nothing between the commas"),
        ({"variants": ","}, "variants=,: nothing between the commas"),
    ],
)
def test_a_choice_of_nothing_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        Plan({"suite": "demo", **words})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"siute": "demo"}, r"config: no key 'siute' \(did you mean 'suite'"),
        ({"suite": 5}, "config: suite=5: is int, not text"),
        ({"suite": None}, "config: suite is empty"),
        ({"seeds": 1.5}, "config: seeds=1.5: is float, not text"),
        ({"shards": True}, "config: shards=True: is bool, not text"),
    ],
)
def test_a_wrong_key_or_value_of_the_workflow_s_config_is_one_line(config, said):
    with pytest.raises(UserError, match=said) as error:
        registry.check(config)
    assert "\n" not in error.value.message


def test_an_empty_value_on_the_command_line_is_an_empty_text():
    config = {"suite": "demo", "seeds": 3, "variants": None}
    registry.check(config)
    assert config == {"suite": "demo", "seeds": 3, "variants": ""}


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match=r"unknown variant 'no_atention' \(did you mean 'no_attention'"):
        ancestry("no_atention")
    with pytest.raises(UserError, match=r"unknown suite 'demmo' \(did you mean 'demo'"):
        suite("demmo")


def test_a_mistyped_override_of_any_listed_variant_is_found_before_any_work(yaml_files):
    yaml_files(
        variants=f"gigagan: {entry()}\nb: {entry('gigagan', '[generator.kernel=1]')}\n",
        suites="s: {about: x, variants: [gigagan, b], seeds: [0], overrides: [], protocols: [scenes@2], judge: j, "
        "samples: 1000, reference: 4000}\n",
    )
    with pytest.raises(UserError, match=r"generator\.kernel.*did you mean 'generator\.kernels'"):
        recipes.suite("s")


def test_photographs_need_a_folder_that_exists(tmp_path):
    with pytest.raises(UserError, match="suite photos needs shards"):
        Plan({"suite": "photos"})
    with pytest.raises(UserError, match="no such folder"):
        Plan({"suite": "photos", "shards": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match=r"has no train-\*\.tar"):
        Plan({"suite": "photos", "shards": str(tmp_path)})
    (tmp_path / "train-00000.tar").touch()
    plan = Plan({"suite": "photos", "shards": str(tmp_path)})
    assert f"data.path={tmp_path}" in plan.suite.overrides
    assert plan.pretrain_data == ["--data", "shards", "--path", str(tmp_path), "--resolution", "32"]


def test_training_reruns_for_a_new_version_of_the_code_and_for_a_new_default(monkeypatch):
    """Neither is in a recipe's overrides."""
    wildcards = SimpleNamespace(variant="no_ms_io")
    before = Plan({"suite": "smoke"}).identity(wildcards)
    assert Plan({"suite": "smoke"}).identity(wildcards) == before
    monkeypatch.setattr(configuration, "RECIPE_VERSION", configuration.RECIPE_VERSION + 1)
    after = Plan({"suite": "smoke"}).identity(wildcards)
    assert after != before
    default = configuration.TrainConfig.__dataclass_fields__["beta2"].default
    monkeypatch.setattr(
        configuration.TrainConfig,
        "__init__",
        functools.partialmethod(configuration.TrainConfig.__init__, beta2=default / 2),
    )
    assert Plan({"suite": "smoke"}).identity(wildcards) != after


def test_other_data_in_the_same_folder_are_noticed(tmp_path):
    (tmp_path / "train-0.tar").write_bytes(b"x" * 100)
    wildcards = SimpleNamespace(variant="gigagan")

    def plan() -> Plan:
        return Plan({"suite": "photos", "shards": str(tmp_path)})

    before = plan()
    assert before.fingerprint == plan().fingerprint != ""
    (tmp_path / "train-0.tar").write_bytes(b"y" * 101)
    assert plan().fingerprint != before.fingerprint
    assert plan().identity(wildcards) != before.identity(wildcards)
    assert Plan({"suite": "demo"}).fingerprint == ""


def test_weights_are_looked_for_before_any_work_without_reading_them(yaml_files, tmp_path):
    own = {"overrides": '["text.clip=local-dir:mine", "vision.clip="]'}
    text = ", ".join(
        f"{k}: {v}"
        for k, v in {**SUITE, "protocols": "[photos-inception@1]", "samples": 10000, "reference": 10000, **own}.items()
    )
    yaml_files(suites=f"mine: {{{text}}}\n", variants=f"gigagan: {entry()}\n")
    with pytest.raises(UserError, match=r"suite mine: weights=.*nowhere: no such folder"):
        Plan({"suite": "mine", "weights": str(tmp_path / "nowhere")})
    file = tmp_path / "inception-2015-12-05.pt"
    file.write_bytes(b"cut")
    with pytest.raises(UserError, match=r"suite mine: .*: wrong size \(3 bytes instead of 95,607,719\)"):
        Plan({"suite": "mine", "weights": str(tmp_path)})
    with file.open("r+b") as handle:
        handle.truncate(95_607_719)  # of nothing, and no room on the disk
    plan = Plan({"suite": "mine", "weights": str(tmp_path)})
    assert plan.inception == [str(file)]
    assert plan.inception_option == ["--inception", str(file)]


def test_the_workflow_knows_the_files_of_clips_that_are_shipped_and_of_those_it_trains(tmp_path):
    weights = "open_clip_model.safetensors"
    demo = Plan({"suite": "demo"})
    assert demo.clips("conditioner") == [f"gigagan/weights/scenes-conditioner/{weights}"]
    assert demo.clips("judge") == [f"evaluation/weights/scenes-judge/{weights}"]
    (tmp_path / "train-00000.tar").touch()
    photos = Plan({"suite": "photos", "shards": str(tmp_path)})
    assert photos.clips("judge") == [f"runs/photos/clip/judge/{weights}"]


def test_a_machine_that_only_submits_jobs_can_say_where_they_run():
    assert Plan({"suite": "smoke"}).gpu == 0
    plan = Plan({"suite": "demo", "device": "cuda"})
    assert (plan.device, plan.gpu) == ("cuda", 1)


def test_cost_counts_parameters_and_work(tiny, clips, clip_folder):
    config = tiny(f"text.clip=local-dir:{clip_folder}")
    size = sizes(config)
    model = GigaGAN(config, clips, 0, CPU)
    wanted = [sum(p.numel() for p in n.parameters()) / 1e6 for n in (model.generator, model.discriminator)]
    assert [size.generator + size.generator_t, size.discriminator + size.discriminator_t] == pytest.approx(wanted)
    t = sum(p.numel() for p in model.generator.text.layers.parameters()) / 1e6
    assert size.generator_t == size.discriminator_t == pytest.approx(t)


def test_commands(capsys, monkeypatch):
    for arguments, words in (
        (["list"], ("no_ms_io", "demo_long", "discriminator.multi_scale=none")),
        (["show", "demo", "no_attention"], ("differs from gigagan in", "attention.kinds: self+cross -> none")),
        (["cost", "smoke"], ("gigagan", "cpu-minutes", "GB of disk")),
        (["cost", "demo", "--variants", "no_attention", "--seeds", "0-7"], ("1 runs x 8 seeds", "no_attention")),
        (["cost", "photos"], ("2 CLIPs, first", "140 ", "0.08", "GB of disk")),
    ):
        monkeypatch.setattr("sys.argv", ["registry", *arguments])
        registry.main()
        out = capsys.readouterr().out
        assert all(word in out for word in words), out
