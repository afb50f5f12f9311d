"""The paper's models: all of them can be built, and have the parameters that the paper prints."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ablations import audit, registry
from ablations.sizes import sizes
from gigagan.config import parse_overrides

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "results" / "records" / "parameters.md"


@pytest.mark.parametrize("name", registry.models())
def test_a_model_has_as_many_parameters_as_the_paper_s(name):
    model = registry.models()[name]
    size = sizes(parse_overrides(registry.model(name)))
    assert min(size.generator, size.discriminator) > 1
    for ours, paper in ((size.generator, model.generator_m), (size.discriminator, model.discriminator_m)):
        if paper is not None:
            assert ours == pytest.approx(paper, rel=0.01)


def test_models_of_two_stages():
    for _, names, paper in audit.SYSTEMS:
        assert sum(sizes(parse_overrides(registry.model(name))).generator for name in names) == pytest.approx(
            paper, rel=0.01
        )


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
        assert registry.models()[name].parent == below
