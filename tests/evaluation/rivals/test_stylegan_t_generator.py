"""StyleGAN-T's generator: its counts, second-order styles, captions past the mapping, Fourier input, truncation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evaluation.rivals.stylegan_t.config import BOUNDS, Config
from evaluation.rivals.stylegan_t.generator import Generator, Mapping, ModulatedConv, NoisyConv, ResidualConv, Style
from gigagan.errors import UserError
from gigagan.networks.parameters import initialise
from gigagan.overrides import parse, paths

TINY = ["data.resolution=16", "generator.z_dim=6", "generator.channel_base=128", "generator.channel_max=12"]
TEXT = 8
SIZES = {
    "full": [],
    "lite": ["generator.channel_base=32768", "generator.channel_max=512", "generator.res_blocks=2"],
    "custom": ["generator.channel_base=16384", "generator.channel_max=256", "generator.res_blocks=1"],
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def generator() -> Generator:
    made = Generator(parse(TINY, Config()), TEXT)
    made.begin(0)
    made.mapping.mean.copy_(drawn(6, seed=2))
    return made


@pytest.mark.parametrize(
    ("size", "resolution", "millions", "styles"),
    [
        ("full", 64, "975.5", 29),
        ("full", 256, "1016.4", 43),
        ("full", 512, "1020.5", 50),
        ("lite", 64, "74.5", 21),
        ("lite", 256, "85.7", 31),
        ("lite", 512, "87.0", 36),
        ("custom", 64, "16.2", 13),
        ("custom", 256, "19.3", 19),
        ("custom", 512, "19.7", 22),
    ],
)
def test_the_synthesis_has_as_many_parameters_as_the_authors_has(size, resolution, millions, styles):
    """With the pooled text of ViT-L/14, 768 wide. A style goes to the input, every convolution and the last toRGB."""
    with torch.device("meta"):
        network = Generator(parse([*SIZES[size], f"data.resolution={resolution}"], Config()), 768)
    assert f"{(count(network) - count(network.mapping)) / 1e6:.1f}" == millions
    assert 2 + sum(isinstance(module, NoisyConv) for module in network.modules()) == styles


def test_a_style_is_the_product_of_two_affine_functions_plus_a_third():
    style = Style(5, 3)
    initialise(style, 0, "test")
    w = drawn(4, 5)
    matrix, bias = style.affine.weight / math.sqrt(5), style.affine.bias
    m = [w @ matrix[3 * i : 3 * i + 3].T + bias[3 * i : 3 * i + 3] for i in range(3)]
    torch.testing.assert_close(style(w), m[0] * m[1] + m[2])
    torch.testing.assert_close(style(torch.zeros(1, 5)), torch.full((1, 3), 2.0))  # 1 * 1 + 1


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_equals_one_with_a_kernel_per_picture(demodulate):
    conv = ModulatedConv(3, 4, 3, 5, demodulate=demodulate)
    initialise(conv, 0, "test")
    x, w, noise = drawn(2, 3, 6, 6), drawn(2, 5, seed=1), drawn(2, 1, 6, 6, seed=2)
    for row in range(2):
        kernel = conv.weight / math.sqrt(27) * conv.style(w)[row][None, :, None, None]
        if demodulate:
            kernel = kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt()
        expected = F.conv2d(x[row : row + 1], kernel, padding=1) + noise[row]
        torch.testing.assert_close(conv(x, w, noise)[row : row + 1], expected)


@pytest.mark.parametrize(("n", "groups"), [(64, 32), (32, 32), (12, 4), (7, 1)])
def test_groups_divide_the_channels_of_narrow_layers(n, groups):
    assert ResidualConv(n, 5, Config().generator, 1.0).groups == groups


def test_a_residual_convolution_begins_as_a_normalisation_and_ends_with_its_branch():
    layer = ResidualConv(8, 5, parse(["generator.norm_groups=2"], Config()).generator, math.sqrt(0.5))
    initialise(layer, 0, "test")
    x, w, noise = drawn(2, 8, 4, 4), drawn(2, 5, seed=1), drawn(2, 1, 4, 4, seed=2)
    normed = F.group_norm(x, 2)
    torch.testing.assert_close(layer(x, w, noise), normed * math.sqrt(2), rtol=0, atol=1e-3)  # 1e-5 of the branch
    nn.init.constant_(layer.gamma, 0.5)
    branch = layer.conv(normed, w, noise)
    assert branch.std() > 0.3
    torch.testing.assert_close(layer(x, w, noise), (normed + 0.5 * branch) * math.sqrt(2))


def test_activations_are_clamped():
    conv = NoisyConv(2, 2, 3, math.sqrt(0.5))
    initialise(conv, 0, "test")
    y = conv(1e4 * drawn(1, 2, 4, 4), drawn(1, 3), drawn(1, 1, 4, 4))
    assert y.abs().max().item() == pytest.approx(256 * math.sqrt(0.5))


def test_captions_do_not_pass_through_the_mapping(generator):
    z, text = drawn(3, 6), drawn(3, TEXT, seed=1)
    w = generator.style(z, text)
    assert torch.equal(w[:, 6:], text)
    assert torch.equal(w[:, :6], generator.mapping(z))
    assert torch.equal(generator.style(z, -text)[:, :6], w[:, :6])
    louder = Generator(parse([*TINY, "generator.text_gain=3"], Config()), TEXT)
    louder.begin(0)
    assert torch.equal(louder.style(z, text), torch.cat([w[:, :6], 3 * text], dim=1))


def test_truncation_moves_z_towards_its_mean_and_leaves_the_caption(generator):
    z, text = drawn(3, 6), drawn(3, TEXT, seed=1)
    f, mean = generator.mapping(z), generator.mapping.mean
    for psi in (0.0, 0.3, 1.0):
        w = generator.style(z, text, psi)
        torch.testing.assert_close(w[:, :6], mean + psi * (f - mean))
        assert torch.equal(w[:, 6:], text)
    noise = drawn(1, generator.noise_dim, seed=3).expand(3, -1)
    same = generator.synthesise(generator.style(z, text[:1].expand(3, -1), 0.0), noise)
    torch.testing.assert_close(same[0], same[1])  # at the mean, nothing of z is left


def test_the_mean_follows_f_by_the_share_of_a_step():
    mapping = Mapping(parse(["generator.z_dim=6", "generator.mean_beta=0.9"], Config()).generator)
    initialise(mapping, 0, "test")
    z = drawn(8, 6)
    f = mapping(z).mean(0)
    mapping.track(z, 1.0)
    torch.testing.assert_close(mapping.mean, 0.1 * f)
    mapping.mean.zero_()
    for _ in range(4):
        mapping.track(z, 0.25)
    torch.testing.assert_close(mapping.mean, 0.1 * f)


def test_z_counts_by_its_direction_alone(generator):
    z = drawn(2, 6)
    torch.testing.assert_close(generator.mapping(7 * z), generator.mapping(z))


def test_the_fourier_input_turns_and_shifts_its_waves(generator):
    """At first w says nothing: waves as drawn. Then a shift to the right, and all of it turned by 90 degrees."""
    source, w = generator.input, drawn(1, 6 + TEXT)
    nn.init.eye_(source.weight)
    centres = (torch.arange(8) + 0.5) / 8 - 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")

    def waves(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        turns = source.frequencies[:, 0, None, None] * x + source.frequencies[:, 1, None, None] * y
        return torch.sin(2 * math.pi * (turns + source.phases[:, None, None])) / math.sqrt(len(source.phases))

    torch.testing.assert_close(source(w)[0], waves(x, y))
    with torch.no_grad():
        source.affine.bias.copy_(torch.tensor([-1.0, 2.0, 0.5, 0.0]))  # (0, 2): a quarter turn, all divided by 2
    torch.testing.assert_close(source(w)[0], waves(-y, x - 0.25))


def test_frequencies_lie_in_the_band_and_follow_the_seed(generator):
    radii = generator.input.frequencies.norm(dim=1)
    assert 0.5 < radii.max() <= 2.0
    other = Generator(parse(TINY, Config()), TEXT)
    other.begin(0)
    assert torch.equal(other.input.frequencies, generator.input.frequencies)
    other.begin(1)
    assert not torch.equal(other.input.frequencies, generator.input.frequencies)


def test_a_picture_is_the_same_in_any_batch_and_differs_by_caption_z_and_noise(generator):
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, NoisyConv):
                module.noise_strength.fill_(0.5)
    z, text, noise = drawn(3, 6), F.normalize(drawn(3, TEXT, seed=1)), drawn(3, generator.noise_dim, seed=2)
    images = generator(z, text, noise)
    assert images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(generator(z[1:2], text[1:2], noise[1:2])[0], images[1])
    for changed in ((-z, text, noise), (z, -text, noise), (z, text, -noise)):
        assert (generator(*changed) - images).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.resolution=24", "data.resolution=24: must be a power of two"),
        ("generator.channel_base=8", "generator.channel_base=8: leaves no channel at 64 px"),
        ("discriminator.kernel=4", "discriminator.kernel=4: must be odd"),
        ("discriminator.backbone=", "discriminator.backbone: say dino, clip, or a file"),
        ("train.batch=20", "train.batch=20: no multiple of discriminator.virtual_batch=8"),
        ("train.micro_batch=4", "train.micro_batch=4: no multiple of discriminator.virtual_batch=8"),
        ("sampling.truncation=1.5", "sampling.truncation=1.5: must be at least 0 and at most 1"),
        ("train.lr_generator=0", "train.lr_generator=0.0: must be above 0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(override, said):
    with pytest.raises(UserError) as error:
        parse([override], Config())
    assert error.value.message.startswith(said)


def test_every_number_has_its_bounds():
    config = Config()
    values = {path: getattr(getattr(config, path.split(".")[0]), path.split(".")[1]) for path in paths(Config)}
    firsts = {path: value[0] if isinstance(value, tuple) else value for path, value in values.items()}
    numbers = {path for path, v in firsts.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert numbers == set(BOUNDS)
