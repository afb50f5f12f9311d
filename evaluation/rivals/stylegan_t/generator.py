"""The generator (Sec. 3.1): f(z) and the caption, Fourier features, residual synthesis with second-order styles."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.rivals.stylegan_t.config import FIRST, Config, GeneratorConfig
from gigagan.clip import Clip
from gigagan.config import channels
from gigagan.inference import prepare_layers
from gigagan.networks.conv import EPSILON, upsample
from gigagan.networks.parameters import ACTIVATION_GAIN, Linear, constant, derive, initialise, leaky_relu, normal

CLAMP = 256.0  # what no activation exceeds, so that half precision holds it


class Mapping(nn.Module):
    """f: z [B, z_dim] -> [B, z_dim], and the running mean of its outputs. Captions do not pass through it."""

    def __init__(self, g: GeneratorConfig) -> None:
        super().__init__()
        gains = [ACTIVATION_GAIN] * (g.mapping_depth - 1) + [1.0]
        self.layers = nn.ModuleList(
            Linear(g.z_dim, g.z_dim, gain=gain, lr_multiplier=g.mapping_lr_multiplier) for gain in gains
        )
        self.beta = g.mean_beta
        self.register_buffer("mean", torch.zeros(g.z_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        for layer in self.layers[:-1]:
            x = leaky_relu(layer(x))
        return self.layers[-1](x)

    @torch.no_grad()
    def track(self, z: Tensor, share: float) -> None:
        """Move the mean towards that of f(z), z [B, z_dim] being a ``share`` of a step's: its micro-batches together
        move it as far as the whole step would."""
        self.mean.lerp_(self(z).mean(0), 1 - self.beta**share)


class FourierInput(nn.Module):
    """Sine waves at 8 px, rotated and shifted as w says, and mixed (StyleGAN3's input). w [B, w_dim] -> [B, n, 8, 8]

    StyleGAN3 also damps waves beyond the band; a rotation leaves each within it.
    """

    def __init__(self, n: int, w_dim: int, bandwidth: float) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.weight = normal(n, n)
        self.affine = Linear(w_dim, 4, zero=True)
        self.register_buffer("frequencies", torch.zeros(n, 2))  # cycles over the picture
        self.register_buffer("phases", torch.zeros(n))  # cycles

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Frequencies uniform over the disc of the bandwidth, and phases; never trained."""
        generator = torch.Generator().manual_seed(derive(seed, "generator", "fourier"))
        radius, angle, phase = torch.rand(3, len(self.phases), generator=generator)
        angle = 2 * math.pi * angle
        waves = torch.stack([angle.cos(), angle.sin()], dim=1)
        self.frequencies.copy_(waves * radius.sqrt()[:, None] * self.bandwidth)
        self.phases.copy_(phase - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        with torch.autocast(w.device.type, enabled=False):  # half precision is too coarse for phases
            waves = self._waves(w)
        mixed = F.linear(waves, self.weight / math.sqrt(len(self.weight)))
        return mixed.permute(0, 3, 1, 2)  # channels last in memory, as convolutions like it

    def _waves(self, w: Tensor) -> Tensor:
        """w [B, w_dim] -> [B, 8, 8, n]"""
        affine = self.affine
        t = F.linear(w, affine.weight.to(w.dtype) * affine.gain, affine.bias)
        t = t + w.new_tensor([1.0, 0.0, 0.0, 0.0])  # upright and centred where w says nothing
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, x0, y0 = t[:, :, None, None].unbind(1)
        centres = (torch.arange(FIRST, device=w.device, dtype=w.dtype) + 0.5) / FIRST - 0.5
        x, y = centres[None, None] - x0, centres[None, :, None] - y0  # [B, 1, 8], [B, 8, 1]
        places = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)  # [B, 8, 8, 2]
        return torch.sin(2 * math.pi * (places @ self.frequencies.T + self.phases))


class Style(nn.Module):
    """Second-order style: s = m1 * m2 + m3, three affine functions of w. [B, w_dim] -> [B, n]"""

    def __init__(self, w_dim: int, n: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, 3 * n, bias=1.0)

    def forward(self, w: Tensor) -> Tensor:
        m1, m2, m3 = self.affine(w).chunk(3, dim=1)
        return torch.addcmul(m3, m1, m2)


class ModulatedConv(nn.Module):
    """StyleGAN2's modulated convolution with a second-order style. [B, n_in, r, r], w [B, w_dim] -> [B, n_out, r, r]"""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, w_dim: int, *, demodulate: bool = True, std: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = normal(n_out, n_in, kernel, kernel, std=std)
        self.bias = constant(n_out)
        self.style = Style(w_dim, n_in)
        self.demodulate = demodulate
        self.gain = 1 / math.sqrt(n_in * kernel * kernel)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """``noise`` is added to the outcome, as the bias is."""
        s, weight = self.style(w), self.weight * self.gain
        # Modulating what goes in, and demodulating what comes out, needs no kernel per picture.
        y = F.conv2d(x * s.to(x.dtype)[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            power = s.float().square() @ weight.square().sum((2, 3)).T
            y = y * (power + EPSILON).rsqrt().to(y.dtype)[:, :, None, None]
        return y + (self.bias[:, None, None] + noise).to(y.dtype)


class NoisyConv(nn.Module):
    """Modulated convolution, noise with a learned strength, activation, gain, clamp."""

    def __init__(self, n_in: int, n_out: int, w_dim: int, gain: float) -> None:
        super().__init__()
        self.conv = ModulatedConv(n_in, n_out, 3, w_dim)
        self.noise_strength = constant(1)
        self.gain = gain

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        y = leaky_relu(self.conv(x, w, self.noise_strength * noise))
        return (y * (ACTIVATION_GAIN * self.gain)).clamp(-CLAMP * self.gain, CLAMP * self.gain)


class ResidualConv(nn.Module):
    """x' = GroupNorm(x); sqrt(2) * (x' + gamma * conv(x')), where gamma [n] begins at the layer scale."""

    def __init__(self, n: int, w_dim: int, g: GeneratorConfig, gain: float) -> None:
        super().__init__()
        # Deviation: the most groups up to theirs that divide n, as narrow layers have fewer channels than groups.
        self.groups = math.gcd(n, g.norm_groups)
        self.norm_weight, self.norm_bias = constant(n, value=1.0), constant(n)
        self.conv = NoisyConv(n, n, w_dim, gain)
        self.gamma = constant(n, value=g.layer_scale)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = F.group_norm(x, self.groups, self.norm_weight, self.norm_bias).to(x.dtype)
        y = self.conv(x, w, noise) * self.gamma.to(x.dtype)[:, None, None]
        return (x + y) * math.sqrt(2)


class Block(nn.Module):
    """One resolution: the step up from the one below, pairs of a plain and a residual convolution, and a toRGB."""

    def __init__(self, n_in: int, n: int, resolution: int, w_dim: int, g: GeneratorConfig) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = NoisyConv(n_in, n, w_dim, 1.0) if resolution > FIRST else None
        half = math.sqrt(0.5)  # undone by the residual convolution's sqrt(2)
        self.convs = nn.ModuleList(
            conv
            for _ in range(g.res_blocks)
            for conv in (NoisyConv(n, n, w_dim, half), ResidualConv(n, w_dim, g, half))
        )
        self.to_rgb = ModulatedConv(n, 3, 1, w_dim, demodulate=False, std=0.1)

    @property
    def noise_size(self) -> int:
        """Values of noise that one picture takes here."""
        return (len(self.convs) + (self.up is not None)) * self.resolution**2

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, n_in, r / 2, r / 2] (of the first block, [B, n, 8, 8]), noise [B, noise_size]
        -> features [B, n, r, r], this resolution's picture [B, 3, r, r]"""
        noises = iter(noise.view(len(x), -1, 1, self.resolution, self.resolution).unbind(1))
        if self.up is not None:
            x = self.up(upsample(x), w, next(noises))
        for conv in self.convs:
            x = conv(x, w, next(noises))
        return x, self.to_rgb(x, w).float().clamp(-CLAMP, CLAMP)


class Generator(nn.Module):
    """G(z, c): pictures [B, 3, R, R] in [-1, 1] but for overshoot, from captions' pooled embeddings.

    Attributes: z_dim, noise_dim: values of z and of noise that a picture takes; resolution in px.
    """

    def __init__(self, config: Config, text_width: int) -> None:
        super().__init__()
        g = config.generator
        self.z_dim, self.text_gain, self.resolution = g.z_dim, g.text_gain, config.data.resolution
        self.mapping = Mapping(g)
        w_dim = g.z_dim + text_width
        sides = [FIRST << i for i in range((self.resolution // FIRST).bit_length())]
        widths = [channels(g.channel_base, g.channel_max, side) for side in sides]
        self.input = FourierInput(widths[0], w_dim, g.bandwidth)
        self.blocks = nn.ModuleList(
            Block(n_in, n, side, w_dim, g) for n_in, n, side in zip([0, *widths], widths, sides, strict=False)
        )
        self.noise_sizes = [block.noise_size for block in self.blocks]
        self.noise_dim = sum(self.noise_sizes)

    def begin(self, seed: int) -> None:
        """First weights and Fourier features, keyed by the seed."""
        initialise(self, seed, "generator")
        self.input.draw(seed)

    def style(self, z: Tensor, text: Tensor, truncation: float = 1.0) -> Tensor:
        """w = [f(z), gain * c]: z [B, z_dim], text [B, text_width] of unit norm -> [B, z_dim + text_width]

        ``truncation`` (Sec. 3.3): the share of its distance from the mean that f(z) keeps. The text is left alone.
        """
        mapped = self.mapping(z).to(self.mapping.mean.dtype)  # where weights are kept in half precision
        f = self.mapping.mean.lerp(mapped, truncation)
        return torch.cat([f, self.text_gain * text.to(f.dtype)], dim=1)

    def synthesise(self, w: Tensor, noise: Tensor) -> Tensor:
        """w [B, w_dim], noise [B, noise_dim] -> [B, 3, R, R]: the sum of all resolutions' pictures."""
        x, image = self.input(w), None
        for block, part in zip(self.blocks, noise.split(self.noise_sizes, dim=1), strict=True):
            x, rgb = block(x, w, part)
            image = rgb if image is None else upsample(image) + rgb
        return image

    def forward(self, z: Tensor, text: Tensor, noise: Tensor) -> Tensor:
        return self.synthesise(self.style(z, text), noise)


@torch.no_grad()
def prepare(network: Generator) -> None:
    """Let a network draw with what its weights of this moment give, computed once, as ``gigagan.inference`` does for
    GigaGAN's: the same pictures but for rounding. It must not be trained then."""
    prepare_layers(network.requires_grad_(False))
    for layer in network.modules():
        if isinstance(layer, ModulatedConv):
            layer.forward = _prepared(layer)  # type: ignore[method-assign]


def _prepared(layer: ModulatedConv) -> Callable[..., Tensor]:
    """``ModulatedConv.forward``"""
    weight = (layer.weight * layer.gain).contiguous(memory_format=torch.channels_last)
    power, bias, padding = weight.square().sum((2, 3)).T.contiguous(), layer.bias[:, None, None], weight.shape[-1] // 2

    def forward(x: Tensor, w: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        s = layer.style(w)
        y = F.conv2d(x * s[:, :, None, None], weight, padding=padding)
        if layer.demodulate:
            y = y * (s.square() @ power + EPSILON).rsqrt()[:, :, None, None]
        return y + (bias + noise)

    return forward


def generator_of(config: Config, clip: Clip) -> Generator:
    """For captions as ``clip`` embeds them; its weights are undefined until ``begin`` or a file fills them."""
    return Generator(config, clip.embed_dim)
