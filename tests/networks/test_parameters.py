"""Initial values, keyed by seed and name, and the equalised learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gigagan.networks.discriminator import Discriminator
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import Linear, constant, derive, initialise, normal

VARIANTS = ("generator.kernels=1", "attention.kinds=none", "attention.kinds=cross", "discriminator.multi_scale=none")


def values(network: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    initialise(network, seed, "network")
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def varies(value: torch.Tensor) -> bool:
    """Whether it was drawn, not filled with one number."""
    return bool((value != value.flatten()[0]).any())


@pytest.mark.parametrize("override", VARIANTS)
@pytest.mark.parametrize("kind", [Generator, Discriminator])
def test_variants_at_one_seed_start_alike_where_they_are_alike(tiny, kind, override):
    full, variant = values(kind(tiny(), 16), 0), values(kind(tiny(override), 16), 0)
    common = [name for name in full if name in variant and full[name].shape == variant[name].shape]
    assert len(common) > 10
    assert all(torch.equal(full[name], variant[name]) for name in common)

    other_seed = values(kind(tiny(), 16), 1)
    random = [name for name in full if varies(full[name])]
    assert len(random) > 10
    assert not any(torch.equal(full[name], other_seed[name]) for name in random)
    assert all(torch.equal(full[name], other_seed[name]) for name in full.keys() - set(random))


def test_no_two_parameters_start_alike_and_the_global_state_is_neither_used_nor_changed(tiny):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = values(Generator(tiny(), 16), 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again = values(Generator(tiny(), 16), 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [value.flatten()[0].item() for value in first.values() if varies(value)]
    assert len(set(drawn)) == len(drawn)


def test_initial_values_are_what_was_asked_for():
    module = nn.Module()
    module.wide, module.level = normal(100, 100, std=3.0), constant(4, value=2.0)
    initialise(module, 0, "scope")
    assert module.wide.std().item() == pytest.approx(3.0, rel=0.05)
    assert module.level.tolist() == [2.0] * 4
    module.foreign = nn.Parameter(torch.zeros(1))
    with pytest.raises(TypeError, match=r"scope\.foreign"):
        initialise(module, 0, "scope")


def test_keys_make_independent_seeds():
    seeds = {derive(0, "a"), derive(1, "a"), derive(0, "b"), derive(0, "a", "b"), derive("0a")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "data", "epoch", 3) == derive(0, "data", "epoch", 3)


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_equalised_learning_rate(multiplier):
    """The multiplier changes how fast a layer learns, not what it computes at first."""
    layer = Linear(256, 64, bias=1.0, gain=2.0, lr_multiplier=multiplier)
    initialise(layer, 0, "layer")
    torch.manual_seed(0)
    x = torch.randn(512, 256)
    y = layer(x)
    assert y.mean().item() == pytest.approx(1.0, abs=0.1)
    assert y.std().item() == pytest.approx(2.0, rel=0.1)
    layer(x[:1]).sum().backward()
    torch.testing.assert_close(layer.weight.grad[0], x[0] * multiplier * 2.0 / math.sqrt(256))
    assert torch.equal(layer.bias.grad, torch.full((64,), multiplier))
