"""The generator (Sec. 3.1 to 3.4, Fig. 4): text, mapping network, synthesis, image pyramid."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gigagan.config import Config, channels, per_level
from gigagan.networks.attention import PixelAttention
from gigagan.networks.conv import AdaptiveConv, upsample
from gigagan.networks.parameters import ACTIVATION_GAIN, Linear, constant, leaky_relu, normal
from gigagan.networks.text import Text, TextFeatures, TextTransformer


class Mapping(nn.Module):
    """w = M(z, t_global). z [B, z_dim], t_global [B, text_width] -> [B, w_dim]"""

    def __init__(self, z_dim: int, text_width: int, w_dim: int, depth: int, lr_multiplier: float) -> None:
        super().__init__()
        widths = [z_dim + text_width] + [w_dim] * depth
        self.layers = nn.ModuleList(
            Linear(n_in, n_out, gain=ACTIVATION_GAIN, lr_multiplier=lr_multiplier) for n_in, n_out in pairwise(widths)
        )

    def forward(self, z: Tensor, t_global: Tensor) -> Tensor:
        x = torch.cat([z, t_global], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x


class NoisyConv(nn.Module):
    """Adaptive convolution, noise with a learned strength, activation."""

    def __init__(self, n_in: int, n_out: int, w_dim: int, kernels: int) -> None:
        super().__init__()
        self.conv = AdaptiveConv(n_in, n_out, 3, w_dim, kernels=kernels)
        self.noise_strength = constant(1)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        y = self.conv(x, style)
        return leaky_relu(y + (self.noise_strength * noise).to(y.dtype))


class SynthesisBlock(nn.Module):
    """Two sample-adaptive convolutions; a resolution's further blocks are residual, with a gain (Table A2).

    Deviation: the paper prints a residual gain but not which blocks are residual; here, all but a resolution's first.
    """

    def __init__(self, n_in: int, n_out: int, w_dim: int, kernels: int, *, first: bool, gain: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList([NoisyConv(n_in, n_out, w_dim, kernels), NoisyConv(n_out, n_out, w_dim, kernels)])
        self.residual_gain = None if first else gain

    def forward(self, x: Tensor, style: Tensor, noises: list[Tensor]) -> Tensor:
        y = x
        for conv, noise in zip(self.convs, noises, strict=True):
            y = conv(y, style, noise)
        return y if self.residual_gain is None else torch.add(x, y, alpha=self.residual_gain)


class Level(nn.Module):
    """All synthesis blocks of one resolution, its attention layers (Eq. 5), its toRGB.

    Deviation: the attention layers follow all blocks of a resolution. Eq. 5 puts them behind a convolution, but the
    parameter counts of Table 1 give attention a depth per resolution, not per block.
    """

    def __init__(self, config: Config, level: int, n_in: int, text_width: int) -> None:
        super().__init__()
        g = config.generator
        self.resolution = 4 * 2**level
        n_out = channels(g.channel_base, g.channel_max, self.resolution)
        self.blocks = nn.ModuleList(
            SynthesisBlock(
                n_in if i == 0 else n_out,
                n_out,
                g.w_dim,
                per_level(g.kernels, level),
                first=i == 0,
                gain=g.block_gain,
            )
            for i in range(per_level(g.blocks, level))
        )
        depth = 0
        if self.resolution in g.attention_resolutions:
            depth = per_level(g.attention_depth, g.attention_resolutions.index(self.resolution))
        self.attention = nn.ModuleList(
            PixelAttention(n_out, config.attention, g.w_dim, text_width) for _ in range(depth)
        )
        self.to_rgb = AdaptiveConv(n_out, 3, 1, g.w_dim, demodulate=False)
        self.n_out = n_out
        self.n_noises = 2 * len(self.blocks)

    def forward(self, x: Tensor, style: Tensor, text: Text, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, n_in, r, r], noise [B, n_noises * r * r] -> features [B, n_out, r, r], this level's image"""
        noises = list(noise.view(len(x), self.n_noises, 1, self.resolution, self.resolution).unbind(1))
        for i, block in enumerate(self.blocks):
            x = block(x, style, noises[2 * i : 2 * i + 2])
        for layer in self.attention:
            x = layer(x, style, text.local, text.mask)
        return x, self.to_rgb(x, style)


class Generator(nn.Module):
    """G(z, c): the image pyramid x_0 (the output), x_1, ..., x_{L-1} (4 px), in [-1, 1] but for overshoot."""

    def __init__(self, config: Config, text_width: int) -> None:
        super().__init__()
        g = config.generator
        self.z_dim = g.z_dim
        self.resolution = config.data.resolution
        self.text = TextTransformer(text_width, config.text)
        self.mapping = Mapping(g.z_dim, text_width, g.w_dim, g.mapping_depth, g.mapping_lr_multiplier)
        n = channels(g.channel_base, g.channel_max, 4)
        self.constant = normal(n, 4, 4)
        levels = []
        for level in range(int(math.log2(self.resolution)) - 1):
            levels.append(Level(config, level, n, text_width))
            n = levels[-1].n_out
        self.levels = nn.ModuleList(levels)
        self.noise_sizes = [level.n_noises * level.resolution**2 for level in levels]

    @property
    def noise_dim(self) -> int:
        """Values of noise one image takes: every layer's, in order."""
        return sum(self.noise_sizes)

    def style(self, z: Tensor, features: TextFeatures) -> tuple[Tensor, Text]:
        """z [B, z_dim] -> w [B, w_dim] and the text."""
        text = self.text(features)
        return self.mapping(z, text.total), text

    def synthesise(self, w: Tensor, text: Text, noise: Tensor) -> list[Tensor]:
        """w [B, w_dim], noise [B, noise_dim] -> pyramid, highest resolution first: [B, 3, r, r] each"""
        x = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        pyramid: list[Tensor] = []
        for i, (level, part) in enumerate(zip(self.levels, noise.split(self.noise_sizes, dim=1), strict=True)):
            x, rgb = level(x if i == 0 else upsample(x), w, text, part)
            pyramid.insert(0, rgb if i == 0 else upsample(pyramid[0]) + rgb)
        return pyramid

    def forward(self, z: Tensor, features: TextFeatures, noise: Tensor) -> list[Tensor]:
        w, text = self.style(z, features)
        return self.synthesise(w, text, noise)
