"""Prepared networks draw what plain ones draw, and what is remembered of captions changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from made_run import make_run

from gigagan import inference
from gigagan.errors import UserError
from gigagan.inference import faster, prepare, prepare_layers
from gigagan.networks.conv import AdaptiveConv
from gigagan.networks.parameters import initialise
from gigagan.pixels import to_uint8
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
def test_an_adaptive_convolution_is_the_same_function(side, kernels, demodulate, size):
    conv = AdaptiveConv(5, 7, size, 6, kernels=kernels, demodulate=demodulate)
    initialise(conv, 0, "test")
    torch.nn.init.normal_(conv.bias)
    x, style = torch.randn(2, 5, side, side), torch.randn(2, 6)
    wanted = conv(x, style)
    prepare_layers(conv)
    torch.testing.assert_close(conv(x, style), wanted, rtol=1e-4, atol=1e-5)


def test_a_prepared_generator_draws_the_same_pictures(plain):
    condition, seeds = plain.encode(CAPTIONS), [1, 2, 3]
    wanted = plain.generate(condition, seeds)
    fast = faster(plain).generate(condition, seeds)
    assert not torch.equal(fast, wanted)  # it does take the other way
    torch.testing.assert_close(fast, wanted, rtol=1e-4, atol=1e-4)
    assert (to_uint8(fast) == to_uint8(wanted)).mean() > 0.999


def test_a_loaded_run_is_prepared_and_keeps_its_parameters(run, plain):
    loaded = load(run)
    assert "forward" in vars(loaded.generator.levels[0].to_rgb)
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
