"""Variants: each "off" removes its part (parameters, graph, loss terms) and changes nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ablations import registry
from ablations.registry import Plan, ancestry, difference, recipe, suite, suites, variants, varied
from ablations.sizes import forward_gflops, sizes
from evaluation.summary import FULL
from gigagan.config import Config, parse_overrides
from gigagan.data import open_dataset
from gigagan.errors import UserError
from gigagan.networks import attention
from gigagan.networks.discriminator import Discriminator, Predictor
from gigagan.networks.generator import Generator
from gigagan.training.batches import Batches
from gigagan.training.phases import GigaGAN

CPU = torch.device("cpu")
LEVELS = 3  # of the tiny configuration: 16, 8 and 4 px


def late_entry(name: str) -> bool:
    return name.startswith("discriminator.from_rgb.") and not name.startswith("discriminator.from_rgb.0.")


def early_exit(name: str) -> bool:
    return name.startswith("discriminator.predictors.") and not name.startswith(f"discriminator.predictors.{LEVELS}.")


# Variant -> the one setting it changes, and which of the full model's parameters are then no longer there.
OFF: dict[str, tuple[str, Callable[[str], bool]]] = {
    "no_adaptive_kernels": ("generator.kernels", lambda name: ".selection." in name),
    "no_attention": ("attention.kinds", lambda name: ".attention." in name),
    "no_ms_io": ("discriminator.multi_scale", lambda name: late_entry(name) or early_exit(name)),
    "no_matching_loss": ("loss.matching", lambda name: False),
    "no_self_attention": ("attention.kinds", lambda name: ".self_block." in name),
    "no_cross_attention": ("attention.kinds", lambda name: ".cross_block." in name),
    "attention_mlp_only": ("attention.kinds", lambda name: "_block.attention." in name),
    "no_multi_scale_input": ("discriminator.multi_scale", late_entry),
    "no_multi_scale_output": ("discriminator.multi_scale", early_exit),
    "no_clip_loss": ("loss.clip_weight", lambda name: False),
    "no_matching_no_clip_loss": ("loss.matching", lambda name: False),
}


@pytest.fixture
def configured(tiny) -> Callable[[str], Config]:
    return lambda variant: tiny(*(o for v in ancestry(variant) for o in v.overrides))


def parameters(config: Config, clip) -> dict[str, Tensor]:
    model = GigaGAN(config, clip, 0, CPU)
    return {f"{scope}.{name}": p for scope, net in model.networks.items() for name, p in net.named_parameters()}


def test_every_variant_is_covered_here():
    assert variants().keys() == {"gigagan", *OFF, *MATCHED}


MATCHED = ("no_adaptive_kernels_matched", "no_attention_matched", "no_ms_io_matched")


@pytest.mark.parametrize("variant", MATCHED)
@pytest.mark.parametrize("of", ["demo", "photos"])
def test_a_matched_variant_is_its_parent_given_back_as_width(of, variant):
    base = suite(of).overrides
    full, off, again = (
        sizes(parse_overrides(varied(base, v))) for v in ("gigagan", ancestry(variant)[-2].name, variant)
    )
    assert (off.generator, off.discriminator) != (full.generator, full.discriminator)
    assert again.generator == pytest.approx(full.generator, rel=0.01)
    assert again.discriminator == pytest.approx(full.discriminator, rel=0.01)
    changed = difference(
        parse_overrides(varied(base, ancestry(variant)[-2].name)), parse_overrides(varied(base, variant))
    )
    assert changed
    assert all(".channel_" in change for change in changed)


@pytest.mark.parametrize("variant", OFF)
def test_a_variant_differs_from_its_parent_in_one_setting(configured, variant):
    line = ancestry(variant)
    assert len(line[-1].overrides) == 1
    (change,) = difference(configured(line[-2].name), configured(variant))
    assert change.startswith(f"{OFF[variant][0]}: ")


@pytest.mark.parametrize("variant", OFF)
def test_off_removes_its_parameters_and_leaves_all_others_as_they_were(configured, clip, variant):
    full, other = parameters(configured("gigagan"), clip), parameters(configured(variant), clip)
    removed = {name for name in full if OFF[variant][1](name)}
    assert full.keys() - other.keys() == removed
    assert other.keys() <= full.keys()
    reshaped = {name for name in other if other[name].shape != full[name].shape}
    if variant == "no_adaptive_kernels":  # a bank of one kernel each, everywhere
        assert reshaped == {f"{name.removesuffix('.selection.weight')}.bank" for name in removed if "weight" in name}
        assert all(len(other[name]) == 1 and full[name].shape[1:] == other[name].shape[1:] for name in reshaped)
        assert all(len(value) == 1 for name, value in other.items() if name.endswith(".bank"))
    else:
        assert not reshaped
    assert all(torch.equal(other[name], full[name]) for name in other.keys() - reshaped)
    no_parameters = ("no_matching_loss", "no_clip_loss", "no_matching_no_clip_loss")
    assert bool(removed) == (variant not in no_parameters)


@pytest.fixture
def run_once(configured, clip, monkeypatch):
    """Every phase of a variant on the first batch: its terms, and how often which part took part."""

    def run(variant: str) -> tuple[dict[str, float], Counter]:
        calls: Counter = Counter()
        with monkeypatch.context() as patch:
            parts = (attention.SelfAttention, attention.CrossAttention, attention.Block, Predictor)
            for part in parts:
                forward = part.forward

                def counted(self, *args, part=part, forward=forward):
                    calls[part.__name__] += 1
                    return forward(self, *args)

                patch.setattr(part, "forward", counted)
            config = configured(variant)
            model = GigaGAN(config, clip, 0, CPU)
            batch, embeddings = next(Batches(open_dataset(config.data, "train"), clip, config, 0, CPU).start(0))
            terms = {}
            for phase in model.phases():
                for name, term in phase.loss(batch, embeddings).items():
                    terms[f"{phase.name}/{name}"] = term.item()
        calls["predictions"] = len(model.gan_weights)
        assert model.gan_weights.keys() == model.match_weights.keys()
        return terms, calls

    return run


GAN = {"discriminator/gan", "generator/gan"}
MATCHING = {"discriminator/matching_real", "discriminator/matching_fake"}
ALL = GAN | MATCHING | {"r1/penalty", "generator/clip"}


@pytest.mark.parametrize(
    ("variant", "removed"),
    [
        ("no_matching_loss", MATCHING),
        ("no_clip_loss", {"generator/clip"}),
        ("no_matching_no_clip_loss", MATCHING | {"generator/clip"}),
    ],
)
def test_a_loss_that_is_off_has_no_term_and_all_other_terms_keep_their_values(run_once, variant, removed):
    full, of_full = run_once("gigagan")
    terms, calls = run_once(variant)
    assert full.keys() == ALL
    assert terms.keys() == ALL - removed
    assert terms == pytest.approx({name: full[name] for name in terms}, rel=1e-5)
    # Other captions are not even looked at: one prediction less a picture and exit.
    wanted = of_full["Predictor"] - (LEVELS if variant != "no_clip_loss" else 0)
    assert calls["Predictor"] == wanted


@pytest.mark.parametrize(
    ("variant", "self_attention", "cross_attention", "blocks"),
    [
        ("gigagan", True, True, True),
        ("no_attention", False, False, False),
        ("no_self_attention", False, True, True),
        ("no_cross_attention", True, False, True),
        ("attention_mlp_only", False, False, True),
    ],
)
def test_attention_that_is_off_takes_no_part(run_once, variant, self_attention, cross_attention, blocks):
    terms, calls = run_once(variant)
    assert terms.keys() == ALL
    assert bool(calls["SelfAttention"]) == self_attention
    assert bool(calls["CrossAttention"]) == cross_attention
    assert bool(calls["Block"]) == blocks


@pytest.mark.parametrize(
    ("variant", "predictions"),
    [("gigagan", 6), ("no_ms_io", 1), ("no_multi_scale_input", 3), ("no_multi_scale_output", 3)],
)
def test_multi_scale_that_is_off_predicts_less_often(run_once, variant, predictions):
    terms, calls = run_once(variant)
    assert terms.keys() == ALL
    assert calls["predictions"] == predictions
    full, _ = run_once("gigagan")
    assert terms["generator/clip"] == pytest.approx(full["generator/clip"], rel=1e-5)  # the generator is the same


def test_the_generator_keeps_its_summed_to_rgbs_without_multi_scale(configured):
    generator = Generator(configured("no_ms_io"), 16)
    assert len([name for name, _ in generator.named_parameters() if name.endswith("to_rgb.bank")]) == LEVELS
    assert len(list(Discriminator(configured("no_ms_io"), 16).exits)) == 1


def test_variants_of_every_suite_differ_from_their_parents_there_too():
    for of in suites().values():
        assert of.variants[0] == FULL  # what tables compare with
        for variant in of.variants[1:]:
            parent = ancestry(variant)[-2].name
            changes = difference(parse_overrides(recipe(of, parent)), parse_overrides(recipe(of, variant)))
            assert len(changes) == 1, f"{of.name}: {variant}: {changes}"


# The registry ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def yaml_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Other variants.yaml and suites.yaml, for as long as a test takes."""

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        monkeypatch.setattr(registry, "HERE", tmp_path)
        for name in files:
            monkeypatch.setattr(registry, name, getattr(registry, name).__wrapped__)

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
        registry.variants()
    assert "variants.yaml: " in error.value.message
    assert "\n" not in error.value.message


SUITE = {
    "about": "x",
    "variants": "[gigagan]",
    "seeds": "[0]",
    "overrides": "[]",
    "protocols": "[scenes@1]",
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
        ("variants", "[]", "variants: is empty"),
        ("protocols", "[]", "protocols: is empty"),
        ("variants", "gigagan", "variants: must be a list of texts, not 'gigagan'"),
        ("overrides", "generator.kernels=1", "overrides: must be a list of texts, not 'generator.kernels=1'"),
        ("samples", "lots", "samples: must be a whole number, not 'lots'"),
        ("samples", "0", "samples: must be at least 1, not 0"),
        ("samples", "999", "scenes@1 scores 1000 samples against a reference of 4000, not 999 against 4000"),
        ("reference", "400", "scenes@1 scores 1000 samples against a reference of 4000, not 1000 against 400"),
        ("protocols", "[scenes@1, photos-inception@1]", "photos-inception@1 scores 10000 samples"),
        ("device", "gpu", "device: must be auto or cpu or cuda, not 'gpu'"),
        ("gate", "1", "gate: must be true or false, not 1"),
        ("pretrain", "{judge: many}", "pretrain: must be a map from conditioner or judge to whole numbers"),
        ("pretrain", "{jugde: 5}", "pretrain: must be a map from conditioner or judge to whole numbers"),
        ("pretrain", "{judge: 0}", "pretrain: must be at least 1"),
    ],
)
def test_a_suite_s_wrong_field_is_one_clear_line_before_any_work(yaml_files, field, value, words):
    text = ", ".join(f"{name}: {of}" for name, of in {**SUITE, field: value}.items())
    yaml_files(suites=f"mine: {{{text}}}\n")
    with pytest.raises(UserError, match=f"suites.yaml: mine: {words}") as error:
        registry.suite("mine")
    assert "\n" not in error.value.message


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
        suites="s: {about: x, variants: [gigagan, b], seeds: [0], overrides: [], protocols: [scenes@1], judge: j, "
        "samples: 1000, reference: 4000}\n",
    )
    with pytest.raises(UserError, match=r"generator\.kernel.*did you mean 'generator\.kernels'"):
        registry.suite("s")


def test_photographs_need_a_folder_that_exists(tmp_path):
    with pytest.raises(UserError, match="suite photos needs shards"):
        Plan({"suite": "photos"})
    with pytest.raises(UserError, match="no such folder"):
        Plan({"suite": "photos", "shards": str(tmp_path / "nowhere")})
    plan = Plan({"suite": "photos", "shards": str(tmp_path)})
    assert f"data.path={tmp_path}" in plan.overrides
    assert plan.pretrain_data == ["--data", "shards", "--path", str(tmp_path), "--resolution", "32"]


def test_the_workflow_knows_the_files_of_clips_that_are_shipped_and_of_those_it_trains(tmp_path):
    weights = "open_clip_model.safetensors"
    demo = Plan({"suite": "demo"})
    assert demo.clips("conditioner") == [f"gigagan/weights/scenes-conditioner/{weights}"]
    assert demo.clips("judge") == [f"evaluation/weights/scenes-judge/{weights}"]
    photos = Plan({"suite": "photos", "shards": str(tmp_path)})
    assert photos.clips("judge") == [f"runs/photos/clip/judge/{weights}"]


def test_a_machine_that_only_submits_jobs_can_say_where_they_run():
    assert Plan({"suite": "smoke"}).gpu == 0
    plan = Plan({"suite": "demo", "device": "cuda"})
    assert (plan.device, plan.gpu) == ("cuda", 1)


def test_cost_counts_parameters_and_work(tiny, clip, clip_folder):
    config = tiny(f"text.clip=local-dir:{clip_folder}")
    size = sizes(config)
    model = GigaGAN(config, clip, 0, CPU)
    wanted = [sum(p.numel() for p in net.parameters()) / 1e6 for net in model.networks.values()]
    assert [size.generator + size.generator_t, size.discriminator + size.discriminator_t] == pytest.approx(wanted)
    t = sum(p.numel() for p in model.generator.text.layers.parameters()) / 1e6
    assert size.generator_t == size.discriminator_t == pytest.approx(t)
    g_flops, d_flops = forward_gflops(config)
    off = ("attention.kinds=none", "discriminator.multi_scale=none")
    less = forward_gflops(tiny(f"text.clip=local-dir:{clip_folder}", *off))
    assert 0 < less[0] < g_flops
    assert 0 < less[1] < d_flops


def test_commands(capsys, monkeypatch):
    for arguments, words in (
        (["list"], ("no_ms_io", "demo_long", "discriminator.multi_scale=none")),
        (["show", "demo", "no_attention"], ("differs from gigagan in", "attention.kinds: self+cross -> none")),
        (["cost", "smoke"], ("gigagan", "cpu-hours", "GB of disk")),
        (["cost", "photos"], ("2 CLIPs, first", "140 ", "0.08", "GB of disk")),
    ):
        monkeypatch.setattr("sys.argv", ["registry", *arguments])
        registry.main()
        out = capsys.readouterr().out
        assert all(word in out for word in words), out
