"""Variants: each "off" removes its part (parameters, graph, loss terms) and changes nothing else."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ablations.recipes import ancestry, difference, model, recipe, suite, suites, variants, varied
from ablations.sizes import Sizes, sizes
from evaluation.summary import FULL
from gigagan.config import Config, parse_overrides
from gigagan.data import open_dataset
from gigagan.errors import UserError
from gigagan.networks import attention
from gigagan.networks.discriminator import Discriminator, Predictor
from gigagan.networks.generator import Generator
from gigagan.training.batches import Batches, told
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
    "no_vision_aided": ("vision.weight", lambda name: name.startswith("vision_aided.")),
    "no_clip_loss": ("loss.clip_weight", lambda name: False),
    "no_matching_no_clip_loss": ("loss.matching", lambda name: False),
}


@pytest.fixture
def configured(tiny_overrides) -> Callable[[str], Config]:
    return lambda variant: parse_overrides(varied(tiny_overrides, variant))


def parameters(config: Config, clips) -> dict[str, Tensor]:
    model = GigaGAN(config, clips, 0, CPU)
    return {f"{scope}.{name}": p for scope, net in model.networks.items() for name, p in net.named_parameters()}


def test_every_variant_is_covered_here():
    assert variants().keys() == {"gigagan", *OFF, *MATCHED}


MATCHED = tuple(name for name, variant in variants().items() if variant.match)


def test_wherever_parameters_are_removed_a_matched_variant_stands_beside_it():
    """What costs less than 1 % of its network is as good as matched."""
    base = suite("demo").overrides
    full = sizes(parse_overrides(varied(base, "gigagan")))
    for name in OFF:
        off = sizes(parse_overrides(varied(base, name)))
        lost = max(1 - off.generator / full.generator, 1 - judges(off) / judges(full))
        assert (f"{name}_matched" in variants()) == (lost > 0.01), name


def judges(size: Sizes) -> float:
    return size.discriminator + size.heads


@pytest.mark.parametrize("name", ["stylegan2", "deeper", "imagenet_64"])
def test_a_variant_takes_away_and_never_adds_or_is_refused(name):
    base = model(name)
    full, refused = sizes(parse_overrides(base)), {}
    for variant in OFF:
        try:
            config = parse_overrides(varied(base, variant))
        except UserError as e:
            refused[variant] = e.message
            continue
        size = sizes(config)
        assert config != parse_overrides(base)
        assert size.generator <= full.generator
        assert judges(size) <= judges(full)
    expected = {"stylegan2": set(OFF), "imagenet_64": set(OFF) - OF_IMAGENET, "deeper": set(OFF) - OF_DEEPER}
    assert refused.keys() == expected[name]
    assert all("this model has" in message for message in refused.values())


OF_IMAGENET = {"no_adaptive_kernels", "no_attention", "no_self_attention", "attention_mlp_only"}
OF_DEEPER = {"no_adaptive_kernels", "no_attention", "no_self_attention", "no_cross_attention", "attention_mlp_only",
             "no_matching_loss"}  # fmt: skip


def test_self_attention_alone_leaves_none_and_a_small_conditioner_is_counted_before_it_is_trained(tmp_path):
    assert parse_overrides(varied(model("imagenet_64"), "no_self_attention")).attention.kinds == "none"
    asked = "text.clip=local-dir:{}/conditioner"
    there, absent = Path(parse_overrides(suite("demo").overrides).text.clip.removeprefix("local-dir:")), tmp_path
    shutil.copytree(there, tmp_path / "made" / "conditioner")
    base = suite("demo").overrides
    first = sizes(parse_overrides([*base, asked.format(absent)]))
    assert first == sizes(parse_overrides([*base, asked.format(tmp_path / "made")]))
    with pytest.raises(UserError, match="there is no open_clip_config"):
        sizes(parse_overrides([*base, f"text.clip=local-dir:{tmp_path / 'mistyped'}"]))


@pytest.mark.parametrize("variant", MATCHED)
@pytest.mark.parametrize("of", ["demo", "photos"])
def test_a_matched_variant_is_its_parent_given_back_as_width(of, variant):
    base = suite(of).overrides
    full, off, again = (
        sizes(parse_overrides(varied(base, v))) for v in ("gigagan", ancestry(variant)[-2].name, variant)
    )
    assert (off.generator, judges(off)) != (full.generator, judges(full))
    assert again.generator == pytest.approx(full.generator, rel=0.01)
    assert judges(again) == pytest.approx(judges(full), rel=0.01)
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
def test_off_removes_its_parameters_and_leaves_all_others_as_they_were(configured, clips, variant):
    full, other = parameters(configured("gigagan"), clips), parameters(configured(variant), clips)
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
def run_once(configured, clips, monkeypatch):
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
            model, dataset = GigaGAN(config, clips, 0, CPU), open_dataset(config.data, "train")
            batch, embeddings = next(Batches(dataset, told(config, clips, dataset, CPU), config, 0, CPU).start(0))
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
VISION = {"discriminator/vision", "generator/vision"}
ALL = GAN | MATCHING | VISION | {"r1/penalty", "generator/clip"}


@pytest.mark.parametrize(
    ("variant", "removed"),
    [
        ("no_matching_loss", MATCHING),
        ("no_vision_aided", VISION),
        ("no_clip_loss", {"generator/clip"}),
        ("no_matching_no_clip_loss", MATCHING | {"generator/clip"}),
    ],
)
def test_a_loss_that_is_off_has_no_term_and_all_other_terms_keep_their_values(run_once, configured, variant, removed):
    full, of_full = run_once("gigagan")
    terms, calls = run_once(variant)
    assert full.keys() == ALL
    assert terms.keys() == ALL - removed
    assert terms == pytest.approx({name: full[name] for name in terms}, rel=1e-5)
    # Other captions are not even looked at: one prediction less a picture and exit.
    heads = len(configured("gigagan").vision.layers)
    fewer = {"no_clip_loss": 0, "no_vision_aided": 2 * heads}  # two: in D's step and in G's
    assert calls["Predictor"] == of_full["Predictor"] - fewer.get(variant, LEVELS)


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
        assert of.variants[:1] == (FULL,) or (of.pretrained and not of.trained)  # what tables compare with
        for variant in of.variants[1:]:
            parent = ancestry(variant)[-2].name
            changes = difference(parse_overrides(recipe(of, parent)), parse_overrides(recipe(of, variant)))
            assert len(changes) == 1, f"{of.name}: {variant}: {changes}"
