"""The upsampler's network: an asymmetric U-Net, and what its pictures depend on."""

from __future__ import annotations

import math
from collections.abc import Callable

import literal
import pytest
import torch
from torch import Tensor

from ablations import recipes
from gigagan.config import Config, parse_overrides
from gigagan.networks.condition import Labels
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import initialise
from gigagan.networks.text import TextFeatures
from gigagan.networks.upsampler import Down, Upsampler, generator_of, resized

UNCONDITIONAL = ("condition.kind=none", "attention.kinds=self", "loss.matching=none", "loss.clip_weight=0")
CLASSES = ("condition.kind=class", "condition.classes=5", "attention.kinds=self", "loss.clip_weight=0")


@pytest.fixture
def up(tiny) -> Callable[..., Config]:
    """8 to 32 px, turning at 4 px: one halving, four levels."""
    return lambda *overrides: tiny("data.resolution=32", "upsampler.input=8", "upsampler.lowest=4", *overrides)


def inputs(network: Upsampler, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = ((n, network.z_dim), (n, network.noise_dim), (n, 3, network.input, network.input))
    return tuple(torch.randn(shape, generator=rng) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "input_side", "sides"),
    [
        ("laion_64_512", 64, [8, 16, 32, 64, 128, 256, 512]),
        ("photos_128_1024", 128, [16, 32, 64, 128, 256, 512, 1024]),
        ("imagenet_64_256", 64, [16, 32, 64, 128, 256]),
        ("imagenet_64_256_unconditional", 64, [16, 32, 64, 128, 256]),
    ],
)
def test_the_paper_s_upsamplers_go_down_to_where_they_turn_and_up_to_their_resolution(name, input_side, sides):
    """64 to 512 px: three halvings, six doublings. How often a level does what it does changes no side."""
    with torch.device("meta"):
        config = parse_overrides([*recipes.model(name), "generator.blocks=1", "generator.attention_depth=1"])
        network = generator_of(config, 768)
        n = 1
        condition: object = Labels(torch.zeros(n, dtype=torch.int64))
        if config.condition.kind == "text":
            condition = TextFeatures(torch.zeros(n, 77, 768), torch.full((n,), 5))
        entered: list[tuple[int, ...]] = []
        for down in network.encoder.values():
            down.register_forward_hook(lambda _module, args, out: entered.append((args[0].shape[-1], out.shape[-1])))
        pyramid = network(*_on_meta(network, n, condition))
    halvings = sides.index(input_side)
    assert entered == [(input_side >> i, input_side >> (i + 1)) for i in range(halvings)]
    assert [tuple(level.shape) for level in pyramid] == [(n, 3, side, side) for side in reversed(sides)]
    assert sorted(map(int, network.skips)) == sides[1 : halvings + 1]
    if name == "laion_64_512":
        assert (halvings, len(pyramid) - 1) == (3, 6)


def _on_meta(network: Upsampler, n: int, condition: object) -> tuple[object, ...]:
    z, noise = torch.empty(n, network.z_dim), torch.empty(n, network.noise_dim)
    return z, condition, noise, torch.empty(n, 3, network.input, network.input)


def test_a_configuration_without_an_input_is_a_generator_s(tiny, up):
    assert type(generator_of(tiny(), 16)) is Generator
    assert type(generator_of(up(), 16)) is Upsampler


@torch.no_grad()
def test_what_the_encoder_saw_at_a_resolution_is_added_where_the_decoder_s_level_begins(up, ready, captions):
    network = ready(Upsampler(up("upsampler.input=16"), 16))
    assert sorted(map(int, network.skips)) == [8, 16]
    z, noise, image = inputs(network, 2)
    begun: dict[int, Tensor] = {}
    for level in network.levels:
        level.register_forward_pre_hook(lambda module, args: begun.__setitem__(module.resolution, args[0]))
    first = network(z, captions(2), noise, image)[0]
    before = dict(begun)
    for side in (8, 16):
        skip = network.skips[str(side)]
        kept = [parameter.clone() for parameter in skip.parameters()]
        for parameter in skip.parameters():
            parameter.zero_()
        assert not torch.equal(network(z, captions(2), noise, image)[0], first)
        for level in (4, 8, 16):
            assert torch.equal(begun[level], before[level]) == (level < side)
        for parameter, value in zip(skip.parameters(), kept, strict=True):
            parameter.copy_(value)


@torch.no_grad()
def test_it_is_a_u_net_that_adds_details_to_the_picture(up, ready, captions):
    """The whole pyramid from the numbers that the network consists of: two halvings, three doublings."""
    config = up("upsampler.input=16", "upsampler.augment=0.3", "generator.blocks=2,1")
    network = ready(Upsampler(config, 16)).double()
    z, noise, image = (value.double() for value in inputs(network, 2))
    text = captions(2)
    text = text._replace(tokens=text.tokens.double())
    found = network(z, text, noise, image)

    p = literal.of(network)
    total, words = literal.read(literal.part(p, "text"), *text, 8)
    w = literal.mapping(literal.part(p, "mapping"), z, total, 1.0)
    noisy = image + 0.3 * noise[:, : 3 * 16 * 16].reshape(2, 3, 16, 16)
    x, skips = literal.leaky(literal.conv(literal.part(p, "from_rgb"), noisy, math.sqrt(2))), {}
    for side in (16, 8):
        skips[side] = literal.conv(literal.part(p, f"skips.{side}"), x)
        x = literal.encoder_block(literal.part(p, f"encoder.{side}"), x)
    details = literal.pyramid(p, x, skips, w, words, noise[:, 3 * 16 * 16 :], config)
    assert [level.shape[-1] for level in found] == [32, 16, 8, 4]
    for level, added in zip(found, details, strict=True):
        torch.testing.assert_close(level, added + literal.resize(image, level.shape[-1]))


def test_what_the_encoder_saw_reaches_the_decoder_s_level_of_the_same_resolution(up, ready, captions):
    """By gradients: as it is there, not at all below, through that level above."""
    network = ready(Upsampler(up("upsampler.input=16"), 16))
    saw: dict[int, Tensor] = {}
    begun: dict[int, Tensor] = {}
    for side, skip in network.skips.items():
        skip.register_forward_hook(lambda _module, _args, out, side=int(side): saw.__setitem__(side, out))
    for level in network.levels:
        level.register_forward_pre_hook(lambda module, args: begun.__setitem__(module.resolution, args[0]))
    z, noise, image = inputs(network, 2)
    network(z, captions(2), noise, image)
    assert (sorted(saw), sorted(begun)) == ([8, 16], [4, 8, 16, 32])
    for side, skip in saw.items():
        for level, features in begun.items():
            upstream = torch.randn_like(features)
            options = {"retain_graph": True, "allow_unused": True}
            (gradient,) = torch.autograd.grad(features, skip, upstream, **options)
            if level < side:
                assert gradient is None
            elif level == side:
                assert torch.equal(gradient, upstream)
            else:
                assert gradient.abs().max() > 0


@torch.no_grad()
def test_noise_is_added_to_the_input_in_use_too(up, ready, captions):
    network = ready(Upsampler(up(), 16)).eval()
    z, noise, image = inputs(network, 1)
    added = 3 * network.input**2
    other = noise.clone()
    other[:, :added] *= -1
    first = network(z, captions(1), noise, image)[0]
    assert (network(z, captions(1), other, image)[0] - first).abs().max() > 1e-4
    # What is made into details is the picture plus 0.1 times that noise; what they are added to is the picture.
    shifted = image + 0.1 * noise[:, :added].view_as(image)
    silent = noise.clone()
    silent[:, :added] = 0
    side = first.shape[-1]
    details = network(z, captions(1), silent, shifted)[0] - resized(shifted, side)
    torch.testing.assert_close(details + resized(image, side), first, rtol=1e-4, atol=1e-5)
    without = ready(Upsampler(up("upsampler.augment=0"), 16))
    assert torch.equal(without(z, captions(1), other, image)[0], without(z, captions(1), noise, image)[0])


def test_noise_dim_is_the_input_s_and_every_layer_s(up):
    network = Upsampler(up("generator.blocks=1,2,1"), 16)
    assert network.noise_dim == 3 * 8**2 + 2 * 4**2 + 4 * 8**2 + 2 * 16**2 + 2 * 32**2


@torch.no_grad()
@pytest.mark.parametrize("overrides", [(), CLASSES, UNCONDITIONAL], ids=["text", "class", "none"])
def test_a_picture_depends_on_its_own_inputs_alone_and_on_all_of_them(up, ready, captions, overrides):
    network = ready(Upsampler(up(*overrides), 16))
    z, noise, image = inputs(network, 3)
    labels = lambda *index: Labels(torch.tensor(index))  # noqa: E731
    asked, others = (labels(0, 1, 2), labels(3, 4, 0)) if overrides else (captions(3), captions(3, seed=1))
    images = network(z, asked, noise, image)[0]
    assert images.shape == (3, 3, 32, 32)
    for k in range(3):
        row = slice(k, k + 1)
        alone = network(z[row], asked[row], noise[row], image[row])[0]
        torch.testing.assert_close(images[row], alone, rtol=1e-4, atol=1e-4)
    z2, noise2, image2 = inputs(network, 3, seed=1)
    change = lambda *given: (network(*given)[0] - images).abs().amax((1, 2, 3)).min()  # noqa: E731
    assert change(z2, asked, noise, image) > 1e-4
    assert change(z, asked, noise2, image) > 1e-4
    assert change(z, asked, noise, image2) > 1e-4
    if overrides == UNCONDITIONAL:
        assert change(z, others, noise, image) == 0
    else:
        assert change(z, others, noise, image) > 1e-4


@pytest.mark.parametrize("overrides", [(), CLASSES, UNCONDITIONAL], ids=["text", "class", "none"])
def test_gradients_reach_every_parameter(up, ready, captions, overrides):
    network = ready(Upsampler(up("upsampler.input=16", "text.depth=1", *overrides), 16))
    z, noise, image = inputs(network, 2)
    asked = Labels(torch.tensor([0, 4])) if overrides else captions(2)
    pyramid = network(z, asked, noise, image)
    sum((level * torch.randn_like(level)).sum() for level in pyramid).backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not missing


def test_an_encoder_block_halves_and_is_residual(ready):
    """Outputs and all gradients."""
    down = ready(Down(4, 6)).double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    found, wanted = down(x), literal.encoder_block(literal.of(down), x)
    assert found.shape == (2, 6, 4, 4)
    literal.agree(found, wanted, list(down.parameters()))


@torch.no_grad()
def test_before_it_has_learned_anything_it_resizes(up, captions):
    network = Upsampler(up(), 16)
    initialise(network, 0, "generator")
    z, noise, image = inputs(network, 2)
    for level in network(z, captions(2), noise, image):
        assert torch.equal(level, resized(image, level.shape[-1]))
