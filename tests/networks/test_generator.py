"""The generator: its pyramid, and what a picture depends on."""

from __future__ import annotations

import literal
import pytest
import torch
from torch import Tensor

from gigagan.config import GeneratorConfig
from gigagan.networks.generator import Generator, Mapping, Style, SynthesisBlock


def inputs(generator: Generator, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator.z_dim, generator=rng), torch.randn(n, generator.noise_dim, generator=rng)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_the_pyramid_goes_from_the_output_down_to_4_px(tiny, ready, captions, resolution):
    generator = ready(Generator(tiny(f"data.resolution={resolution}"), 16))
    z, noise = inputs(generator, 2)
    pyramid = generator(z, captions(2), noise)
    assert [tuple(level.shape) for level in pyramid] == [(2, 3, r, r) for r in (32, 16, 8, 4) if r <= resolution]


@torch.no_grad()
@pytest.mark.parametrize("overrides", [(), ("generator.block_rgb=true", "generator.block_skip=true")])
def test_every_level_of_the_image_is_the_one_below_enlarged_plus_its_to_rgb(tiny, ready, captions, overrides):
    """The whole pyramid from the numbers that the network consists of."""
    blocks = ["generator.blocks=2,3,1", "generator.block_gain=0.4", "generator.first_convs=1", "text.depth=2"]
    config = tiny(*blocks, *overrides)
    generator = ready(Generator(config, 16)).double()
    z, noise = (value.double() for value in inputs(generator, 2))
    text = captions(2)
    text = text._replace(tokens=text.tokens.double())
    found = generator(z, text, noise)

    p = literal.of(generator)
    total, words = literal.read(literal.part(p, "text"), *text, 8)
    w = literal.mapping(literal.part(p, "mapping"), z, total, 1.0)
    wanted = literal.pyramid(p, p["constant"].expand(2, -1, -1, -1), {}, w, words, noise, config)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_noise_dim_is_one_value_per_pixel_and_convolution(tiny):
    generator = Generator(tiny("generator.blocks=1,2,3"), 16)
    assert generator.noise_dim == 2 * 1 * 16 + 2 * 2 * 64 + 2 * 3 * 256


def test_noise_counts_for_nothing_at_first_and_for_every_layer_later(tiny, ready, captions):
    generator = ready(Generator(tiny(), 16), disturbed=0.0)
    z, noise = inputs(generator, 1)
    first = generator(z, captions(1), noise)[0]
    assert torch.equal(generator(z, captions(1), -noise)[0], first)
    generator = ready(Generator(tiny(), 16))
    start = 0
    with torch.no_grad():
        first = generator(z, captions(1), noise)[0]
        for size in (16, 16, 64, 64, 64, 64, 256, 256):
            changed = noise.clone()
            changed[:, start : start + size] *= -1
            assert not torch.equal(generator(z, captions(1), changed)[0], first)
            start += size
    assert start == generator.noise_dim


@torch.no_grad()
def test_a_picture_depends_on_its_own_inputs_alone(tiny, ready, captions):
    generator = ready(Generator(tiny(), 16))
    z, noise = inputs(generator, 3)
    text = captions(3)
    images = generator(z, text, noise)[0]
    for k in range(3):
        alone = generator(z[k : k + 1], text[k : k + 1], noise[k : k + 1])[0]
        torch.testing.assert_close(images[k : k + 1], alone, rtol=0, atol=1e-5)
    others = captions(3, seed=1)
    z2, noise2 = inputs(generator, 3, seed=1)
    for changed in ((z2, text, noise), (z, others, noise), (z, text, noise2)):
        assert (generator(*changed)[0] - images).abs().amax((1, 2, 3)).min() > 1e-4


@torch.no_grad()
def test_the_style_is_made_of_z_and_the_global_text_alone(tiny, ready, captions):
    generator = ready(Generator(tiny("text.depth=0"), 16))
    z, noise = inputs(generator, 1)
    text = captions(1)
    elsewhere = text._replace(tokens=text.tokens.clone())
    elsewhere.tokens[0, (int(text.end[0]) + 1) % 6] *= -1
    style = generator.style(z, text)
    assert torch.equal(generator.style(z, elsewhere).w, style.w)
    # ... yet the picture reads the other tokens too, by cross-attention, unless that is switched off.
    image = generator.synthesise([style] * 3, noise)[0]
    assert (generator(z, elsewhere, noise)[0] - image).abs().max() > 1e-5
    without = ready(Generator(tiny("text.depth=0", "attention.kinds=self"), 16))
    assert torch.equal(without(z, elsewhere, noise)[0], without(z, text, noise)[0])


@torch.no_grad()
def test_cross_attention_does_not_read_the_end_token(tiny, ready, captions):
    """It is t_global, and enters through w."""
    generator = ready(Generator(tiny(), 16))
    z, noise = inputs(generator, 1)
    style = generator.style(z, captions(1))
    image = generator.synthesise([style] * 3, noise)[0]
    end = int(captions(1).end[0])
    for position in range(6):
        local = style.text.local.clone()
        local[0, position] *= -1
        other = Style(style.w, style.text._replace(local=local))
        changed = generator.synthesise([other] * 3, noise)[0]
        assert torch.equal(changed, image) == (position == end)


@pytest.mark.parametrize("embedded", [0, 5])
def test_mapping_concatenates_z_and_text(ready, embedded):
    g = GeneratorConfig(z_dim=4, w_dim=8, mapping_depth=2, mapping_lr_multiplier=0.01, condition_width=embedded)
    mapping = ready(Mapping(g, 6)).double()
    z, text = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(mapping(z, text), literal.mapping(literal.of(mapping), z, text, 0.01))
    assert [layer.weight.shape for layer in mapping.layers] == [(8, 4 + (embedded or 6)), (8, 8)]


@pytest.mark.parametrize(("first", "skip"), [(True, False), (False, False), (False, True)])
def test_further_blocks_of_a_resolution_are_residual(ready, first, skip):
    """Outputs and all gradients."""
    block = SynthesisBlock(6, 6, GeneratorConfig(w_dim=5, block_gain=0.4, block_skip=skip), 2, first=first)
    block = ready(block).double()
    assert (block.skip is not None) == skip
    x, w, *noises = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((2, 6, 4, 4), (2, 5), (2, 1, 4, 4), (2, 1, 4, 4))
    )
    found = block(x, w, noises)
    wanted = literal.synthesis_block(literal.of(block), x, w, noises, None if first else 0.4)
    literal.agree(found, wanted, list(block.parameters()))


def test_a_resolution_s_first_block_has_no_skip_to_convolve():
    assert SynthesisBlock(6, 6, GeneratorConfig(w_dim=5, block_skip=True), 2, first=True).skip is None


def test_depths_per_resolution(tiny):
    generator = Generator(
        tiny(
            "generator.blocks=1,2,3",
            "generator.kernels=1,2,4",
            "generator.attention_resolutions=8,16",
            "generator.attention_depth=2,1",
        ),
        16,
    )
    assert [len(level.blocks) for level in generator.levels] == [1, 2, 3]
    assert [len(level.attention) for level in generator.levels] == [0, 2, 1]
    banks = [{len(conv.conv.bank) for block in level.blocks for conv in block.convs} for level in generator.levels]
    assert banks == [{1}, {2}, {4}]
    assert {len(level.to_rgb.bank) for level in generator.levels} == {1}
    assert not any(level.to_rgb.demodulate for level in generator.levels)


def test_the_constant_s_first_block_may_have_one_convolution(tiny):
    generator = Generator(tiny("generator.first_convs=1", "generator.blocks=2"), 16)
    assert [[len(block.convs) for block in level.blocks] for level in generator.levels] == [[1, 2], [2, 2], [2, 2]]
    assert generator.noise_dim == 3 * 16 + 4 * 64 + 4 * 256


@torch.no_grad()
def test_styles_may_differ_from_level_to_level(tiny, ready, captions):
    """Coarse levels keep their picture whatever finer ones are told."""
    generator = ready(Generator(tiny(), 16))
    z, noise = inputs(generator, 2)
    one, other = generator.style(z[:1], captions(1)), generator.style(z[1:], captions(1, seed=1))
    plain = generator.synthesise([one] * 3, noise[:1])
    mixed = generator.synthesise([one, one, other], noise[:1])
    assert all(torch.equal(a, b) for a, b in zip(plain[1:], mixed[1:], strict=True))
    assert (plain[0] - mixed[0]).abs().max() > 1e-4
