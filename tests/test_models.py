"""The paper's models: all of them can be built, and have the parameters that the paper prints."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ablations import audit, recipes
from ablations.sizes import sizes
from gigagan.config import parse_overrides

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "results" / "records" / "parameters.md"


@pytest.mark.parametrize("name", recipes.models())
def test_a_model_has_as_many_parameters_as_the_paper_s(name):
    model = recipes.models()[name]
    size = sizes(parse_overrides(recipes.model(name)))
    assert min(size.generator, size.discriminator) > 1
    for ours, paper in ((size.generator, model.generator_m), (size.discriminator, model.discriminator_m)):
        if paper is not None:
            assert ours == pytest.approx(paper, rel=0.01)


def test_models_of_two_stages():
    for _, names, paper in audit.SYSTEMS:
        assert sum(sizes(parse_overrides(recipes.model(name))).generator for name in names) == pytest.approx(
            paper, rel=0.01
        )


# Cells of Table A2 that PAPER.md marks as read from the paper or a source that had it.
CONFIRMED = {
    "generator.z_dim": 128,
    "generator.w_dim": 1024,
    "generator.mapping_depth": 4,
    "generator.channel_base": 16384,
    "generator.channel_max": 1600,
    "generator.kernels": (1, 1, 2, 4, 8),
    "generator.blocks": (3, 3, 3, 2, 2),
    "generator.attention_resolutions": (8, 16, 32),
    "generator.attention_depth": (2, 2, 1),
    "discriminator.attention_resolutions": (8, 16, 32),
    "discriminator.attention_depth": (2, 2, 1),
    "discriminator.minibatch_std": 0,
    "text.clip": "ViT-L-14-quickgelu:openai",
    "text.depth": 4,
    "vision.clip": "ViT-B-32-quickgelu:openai",
    "loss.scale_ratio": (2.0, 1.0),
    "loss.r1_weight": 0.2048,
    "loss.r1_interval": 16,
    "train.batch": 1024,
    "train.lr_generator": 0.0025,
    "train.lr_discriminator": 0.0025,
    "train.beta1": 0.0,
    "train.beta2": 0.99,
    "train.weight_decay": 1e-5,
    "train.weight_decay_attention": 0.01,
}


def test_the_base_has_what_is_confirmed_of_table_a2():
    found = recipes.settings(parse_overrides(recipes.model("laion_64")))
    assert {path: found[path] for path in CONFIRMED} == CONFIRMED


@pytest.mark.parametrize(
    ("name", "beta"), [("laion_64", 0.9999), ("imagenet_64", 0.9651), ("imagenet_64_256_unconditional", 0.9912)]
)
def test_the_average_of_g_forgets_as_fast_as_the_paper_s(name, beta):
    config = parse_overrides(recipes.model(name))
    assert 0.5 ** (config.train.batch / (config.train.ema_kimg * 1000)) == pytest.approx(beta, abs=0.02 * (1 - beta))
    assert config.train.ema_rampup == 0


def test_what_no_source_confirms_is_not_printed():
    """PAPER.md's recalled cells serve as a guide only."""
    recalled = {"imagenet_64": ("209.5", "76.7"), "imagenet_64_256": ("359.8", "30.7"), "laion_64_512": ("130.1",)}
    lines = {
        line.split("`")[1]: line for line in COMMITTED.read_text().splitlines() if line.startswith("|") and "`" in line
    }
    for name, values in recalled.items():
        line = next(line for line in COMMITTED.read_text().splitlines() if f"(`{name}`)" in line)
        assert audit.NOT_CONFIRMED in line
        assert not any(value in line for value in values)
    assert lines


def test_the_committed_audit_is_of_the_models_that_stand_here():
    made = audit.models_table()
    assert made in COMMITTED.read_text()
    assert "`laion_64` | `no_attention_matched`" in COMMITTED.read_text()


def test_the_ladder_adds_one_part_a_rung():
    ladder = [
        "attention",
        "matching_aware_g_and_d",
        "adaptive_convolution",
        "deeper",
        "clip_loss",
        "multi_scale_training",
    ]
    for below, name in itertools.pairwise(ladder):
        assert recipes.models()[name].parent == below
