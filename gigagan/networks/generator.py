"""The generator (Sec. 3.1 to 3.4, Fig. 4): text, mapping network, synthesis, image pyramid."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gigagan.config import Config, GeneratorConfig, channels, per_level
from gigagan.networks.attention import PixelAttention
from gigagan.networks.condition import Condition, encoder
from gigagan.networks.conv import AdaptiveConv, Conv, upsample
from gigagan.networks.parameters import ACTIVATION_GAIN, Linear, Recomputing, constant, leaky_relu, normal, residual
from gigagan.networks.text import Text


class Mapping(nn.Module):
    """w = M(z, t_global). z [B, z_dim], t_global [B, condition_width] -> [B, w_dim]"""

    def __init__(self, g: GeneratorConfig, condition_width: int) -> None:
        super().__init__()
        self.embed = Linear(condition_width, g.condition_width) if g.condition_width else None
        widths = [g.z_dim + (g.condition_width or condition_width)] + [g.w_dim] * g.mapping_depth
        self.layers = nn.ModuleList(
            Linear(n_in, n_out, gain=ACTIVATION_GAIN, lr_multiplier=g.mapping_lr_multiplier)
            for n_in, n_out in pairwise(widths)
        )

    def forward(self, z: Tensor, t_global: Tensor) -> Tensor:
        x = torch.cat([z, t_global if self.embed is None else self.embed(t_global)], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x


class Style(NamedTuple):
    """What a level is told."""

    w: Tensor  # [B, w_dim]
    text: Text


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
    """Sample-adaptive convolutions, two as a rule; a resolution's further blocks are residual, with a gain (Table A2).

    Deviation: the paper prints a residual gain but not which blocks are residual; here, all but a resolution's first.
    """

    def __init__(
        self, n_in: int, n_out: int, g: GeneratorConfig, kernels: int, *, first: bool, n_convs: int = 2
    ) -> None:
        super().__init__()
        widths = [n_in] + [n_out] * n_convs
        self.convs = nn.ModuleList(NoisyConv(a, b, g.w_dim, kernels) for a, b in pairwise(widths))
        self.residual_gain = None if first else g.block_gain
        self.skip = Conv(n_in, n_out, 1, bias=False) if g.block_skip and not first else None

    def forward(self, x: Tensor, style: Tensor, noises: list[Tensor]) -> Tensor:
        y = x
        for conv, noise in zip(self.convs, noises, strict=True):
            y = conv(y, style, noise)
        if self.residual_gain is None:
            return y
        return residual(x if self.skip is None else self.skip(x), y, self.residual_gain)


class Level(nn.Module):
    """All synthesis blocks of one resolution, its attention layers (Eq. 5), its toRGB.

    Deviation: the attention layers follow all blocks of a resolution. Eq. 5 puts them behind a convolution, but the
    parameter counts of Table 1 give attention a depth per resolution, not per block.
    """

    def __init__(
        self, config: Config, level: int, resolution: int, n_in: int, text_width: int | None, *, first_convs: int = 2
    ) -> None:
        super().__init__()
        g = config.generator
        self.resolution = resolution
        self.n_out = channels(g.channel_base, g.channel_max, resolution)
        kernels = per_level(g.kernels, level)
        blocks = [SynthesisBlock(n_in, self.n_out, g, kernels, first=True, n_convs=first_convs)]
        for _ in range(per_level(g.blocks, level) - 1):
            blocks.append(SynthesisBlock(self.n_out, self.n_out, g, kernels, first=False))
        self.blocks = nn.ModuleList(blocks)
        depth = 0
        if resolution in g.attention_resolutions:
            depth = per_level(g.attention_depth, g.attention_resolutions.index(resolution))
        self.attention = nn.ModuleList(
            PixelAttention(self.n_out, config.attention, g.w_dim, text_width) for _ in range(depth)
        )
        early = len(blocks) - 1 if g.block_rgb else 0
        self.early_rgb = nn.ModuleList(AdaptiveConv(self.n_out, 3, 1, g.w_dim, demodulate=False) for _ in range(early))
        self.to_rgb = AdaptiveConv(self.n_out, 3, 1, g.w_dim, demodulate=False)
        self.n_convs = [len(block.convs) for block in blocks]

    @property
    def noise_size(self) -> int:
        """Values of noise that one image takes at this level."""
        return sum(self.n_convs) * self.resolution**2

    def forward(self, x: Tensor, style: Tensor, text: Text, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, n_in, r, r], noise [B, noise_size] -> features [B, n_out, r, r], this level's image [B, 3, r, r]"""
        noises = list(noise.view(len(x), -1, 1, self.resolution, self.resolution).unbind(1))
        early = []
        for i, block in enumerate(self.blocks):
            mine, noises = noises[: self.n_convs[i]], noises[self.n_convs[i] :]
            x = block(x, style, mine)
            if i < len(self.early_rgb):
                early.append(self.early_rgb[i](x, style))
        for layer in self.attention:
            x = layer(x, style, text.local, text.mask)
        return x, sum(early, start=self.to_rgb(x, style))


class Synthesis(Recomputing):
    """What every generator has, whatever it begins with: conditioning, mapping, levels, pyramid of images."""

    def __init__(self, config: Config, text_width: int, resolutions: list[int]) -> None:
        super().__init__()
        g = config.generator
        self.z_dim = g.z_dim
        self.resolution = resolutions[-1]
        self.text = encoder(config, text_width)
        self.mapping = Mapping(g, self.text.width)
        words = text_width if config.condition.kind == "text" else None
        n = channels(g.channel_base, g.channel_max, resolutions[0])
        levels = []
        for i, resolution in enumerate(resolutions):
            convs = g.first_convs if resolution == 4 else 2
            levels.append(Level(config, i, resolution, n, words, first_convs=convs))
            n = levels[-1].n_out
        self.levels = nn.ModuleList(levels)
        self.noise_sizes = [level.noise_size for level in levels]

    @property
    def noise_dim(self) -> int:
        """Values of noise one image takes: every layer's, in order."""
        return sum(self.noise_sizes)

    def style(self, z: Tensor, condition: Condition) -> Style:
        """z [B, z_dim] -> w [B, w_dim] and the text, for every level the same."""
        text = self.text(condition)
        return Style(self.mapping(z, text.total), text)

    def pyramid(self, start: Tensor, skips: dict[int, Tensor], styles: list[Style], noise: Tensor) -> list[Tensor]:
        """Features at the lowest resolution [B, n, r, r], further ones to add where a level begins, one style a level,
        noise [B, noise_dim] -> images, highest resolution first: [B, 3, r, r] each"""
        x = start
        images: list[Tensor] = []
        noises = noise.split(self.noise_sizes, dim=1)
        for level, style, part in zip(self.levels, styles, noises, strict=True):
            x = upsample(x) if images else x
            if level.resolution in skips:
                x = x + skips[level.resolution]
            x, rgb = self.part(level, x, *style, part)
            images.insert(0, upsample(images[0]) + rgb if images else rgb)
        return images


class Generator(Synthesis):
    """G(z, c): the image pyramid x_0 (the output), x_1, ..., x_{L-1} (4 px), in [-1, 1] but for overshoot."""

    def __init__(self, config: Config, text_width: int) -> None:
        super().__init__(config, text_width, [4 << i for i in range(config.data.resolution.bit_length() - 2)])
        self.constant = normal(channels(config.generator.channel_base, config.generator.channel_max, 4), 4, 4)

    def synthesise(self, styles: list[Style], noise: Tensor) -> list[Tensor]:
        """One style a level, from 4 px up, noise [B, noise_dim] -> pyramid, highest resolution first: [B, 3, r, r]"""
        start = self.constant.expand(len(noise), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        return self.pyramid(start, {}, styles, noise)

    def forward(self, z: Tensor, condition: Condition, noise: Tensor) -> list[Tensor]:
        return self.synthesise([self.style(z, condition)] * len(self.levels), noise)
