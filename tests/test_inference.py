"""Prepared networks draw what plain ones draw, and what is remembered of captions changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from made_run import make_run

from gigagan import inference
from gigagan.errors import UserError
from gigagan.inference import faster, prepare
from gigagan.networks.conv import AdaptiveConv
from gigagan.networks.generator import Generator, NoisyConv
from gigagan.networks.parameters import initialise
from gigagan.networks.text import TextFeatures
from gigagan.pixels import to_uint8
from gigagan.prepared import adaptive_conv, mixed, neighbourhoods
from gigagan.sampling import GeneratorSampler, load, load_clip, load_network
from gigagan.upsample import Upsampling

CAPTIONS = ["a red circle on white", "a small blue square on black", "a big green triangle at the left on yellow"]
BANKS = "generator.kernels=1,3,3"  # without a bank, and with one on either side of FEW_PIXELS


@pytest.fixture
def run(tiny, clip_folder, tmp_path):
    return make_run(tmp_path / "run", tiny(BANKS, f"text.clip=local-dir:{clip_folder}"))


@pytest.fixture
def plain(run):
    """A sampler whose network is as training leaves it."""
    about, network = load_network(run)
    return GeneratorSampler(network, load_clip(run, about), torch.device("cpu"))


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_adaptive_convolution_with_noise_is_the_same_function(side, kernels, demodulate, size, batch):
    noisy = NoisyConv(5, 7, 6, kernels)
    noisy.conv = conv = AdaptiveConv(5, 7, size, 6, kernels=kernels, demodulate=demodulate)
    disturb(noisy)
    x, style, noise = torch.randn(batch, 5, side, side), torch.randn(batch, 6), torch.randn(batch, 1, side, side)
    mixture = mixed(conv.selection(style)[:, None])[0] if kernels > 1 else None
    with torch.no_grad():
        scaled = (noisy.noise_strength * noise).flatten(1)
        found = adaptive_conv(conv, side)(x, conv.modulation(style), mixture, scaled)
        torch.testing.assert_close(found, noisy(x, style, noise), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overrides", [
    ("generator.blocks=2", "generator.block_skip=true", "generator.block_rgb=true"),
    ("generator.blocks=2", "generator.kernels=1,3,3"),
    ("attention.kinds=mlp",),
    ("attention.kinds=self", "attention.width=0.5"),
    ("attention.kinds=cross",),
])  # fmt: skip
def test_every_kind_of_level_is_the_same_function(tiny, overrides):
    generator = Generator(tiny("generator.attention_resolutions=8,16", *overrides), 12)
    disturb(generator)
    text = TextFeatures(torch.randn(3, 7, 12), torch.tensor([6, 2, 4]))
    inputs = torch.randn(3, generator.z_dim), text, torch.randn(3, generator.noise_dim)
    with torch.no_grad():
        wanted = generator(*inputs)
        found = prepare(generator)(*inputs)
    for image, same in zip(found, wanted, strict=True):
        torch.testing.assert_close(image, same, rtol=1e-4, atol=1e-4)


def disturb(network):
    """Random values everywhere, so also where training starts from zero."""
    initialise(network, 0, "test")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_neighbourhoods_are_those_of_a_convolution(size):
    x = torch.randn(2, 6, 4, 5)
    wanted = torch.nn.functional.unfold(x, size, padding=size // 2).unflatten(1, (6, size * size))
    found = neighbourhoods(x.permute(0, 2, 3, 1), size)
    assert torch.equal(found, wanted.permute(0, 3, 2, 1).flatten(2))


def test_a_prepared_generator_draws_the_same_pictures(plain):
    condition, seeds = plain.encode(CAPTIONS), [1, 2, 3]
    wanted = plain.generate(condition, seeds)
    fast = faster(plain).generate(condition, seeds)
    assert not torch.equal(fast, wanted)  # it does take the other way
    torch.testing.assert_close(fast, wanted, rtol=1e-4, atol=1e-4)
    assert (to_uint8(fast) == to_uint8(wanted)).mean() > 0.999


def test_a_loaded_run_is_prepared_and_keeps_its_parameters(run, plain):
    loaded = load(run)
    assert "forward" in vars(loaded.generator.levels[0])
    for name, value in plain.generator.state_dict().items():
        assert torch.equal(loaded.generator.state_dict()[name], value), name
    assert (loaded(CAPTIONS, [1, 2, 3]) == plain(CAPTIONS, [1, 2, 3])).mean() > 0.999


def test_bf16_is_near_and_not_the_same(plain):
    condition, seeds = plain.encode(CAPTIONS), [1, 2, 3]
    wanted = plain.generate(condition, seeds)
    near = faster(plain, "bf16").generate(condition, seeds)
    assert near.dtype == torch.float32
    error = (near - wanted).square().mean().sqrt() / wanted.std()
    assert 1e-4 < error < 0.05
    torch.testing.assert_close(faster(plain).generate(condition, seeds), wanted, rtol=1e-4, atol=1e-4)  # and back


def test_a_prepared_upsampler_draws_the_same_pictures(tiny, clip_folder, tmp_path):
    small = ("upsampler.input=8", "upsampler.lowest=4", f"text.clip=local-dir:{clip_folder}")
    run = make_run(tmp_path / "up", tiny(BANKS, *small))
    about, network = load_network(run)
    plain = Upsampling(network, load_clip(run, about), torch.device("cpu"))
    pictures = to_uint8(torch.rand(2, 3, 8, 8) * 2 - 1)
    wanted = plain(pictures, CAPTIONS[:2], [1, 2])
    assert (faster(plain)(pictures, CAPTIONS[:2], [1, 2]) == wanted).mean() > 0.999


def test_compiling_without_a_compiler_is_one_line(plain, monkeypatch):
    monkeypatch.setattr(inference.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no C\\+\\+ compiler"):
        faster(plain, compile=True)


def test_features_that_are_remembered_are_those_that_are_read(plain):
    wanted = plain.encode(CAPTIONS)
    plain.encode.remember = 8
    several = [CAPTIONS[0], CAPTIONS[2], CAPTIONS[0]]
    for _ in range(2):
        found = plain.encode(several)
        torch.testing.assert_close(found.tokens, wanted.tokens[[0, 2, 0]], rtol=1e-5, atol=1e-5)
        assert torch.equal(found.end, wanted.end[[0, 2, 0]])


def test_a_caption_is_read_once_and_those_used_last_are_kept(plain, monkeypatch):
    encode, read = plain.encode, []
    real = encode._read
    monkeypatch.setattr(encode, "_read", lambda captions: read.extend(captions) or real(captions))
    encode.remember = 2
    a, b, c = CAPTIONS
    for captions in ([a, a], [a, b], [a], [c], [a], [b]):  # c pushes b out, which was used before a
        encode(captions)
    assert read == [a, b, c, b]
    assert len(encode._known) == 2
    encode([a, b, c])  # more than are kept
    assert len(encode._known) == 2


def test_nothing_is_remembered_unless_it_is_asked_for(plain):
    plain.encode(CAPTIONS)
    assert not plain.encode._known


def test_a_copy_that_is_prepared_leaves_the_network_as_it_was(plain):
    condition = plain.encode(CAPTIONS)
    wanted = plain.generate(condition, [1, 2, 3])
    prepare(copy.deepcopy(plain.generator))
    assert torch.equal(plain.generate(condition, [1, 2, 3]), wanted)
