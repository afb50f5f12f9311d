"""The multi-scale input, multi-scale output discriminator (Sec. 3.4, Eq. 6 and 7, Fig. 5)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gigagan.config import Config, channels, per_level
from gigagan.errors import UserError
from gigagan.networks.attention import PixelAttention
from gigagan.networks.condition import Condition, encoder
from gigagan.networks.conv import AdaptiveConv, Conv, downsample
from gigagan.networks.parameters import ACTIVATION_GAIN, Linear, Recomputing, leaky_relu, residual

# Predictions of one image set: (i, j) -> logits [B, h, w], for late entry at level i and exit after layer j > i.
Predictions = dict[tuple[int, int], Tensor]


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity. [B, n, r, r] -> [B, n, r, r]"""

    def __init__(self, n: int, gain: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(n, n, 3, gain=ACTIVATION_GAIN) for _ in range(2))
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = leaky_relu(conv(y))
        return residual(x, y, self.gain)


def append_minibatch_std(x: Tensor, group: int) -> Tensor:
    """One more channel: the standard deviation over ``group`` neighbours of the batch, averaged over channels and
    pixels (Karras et al. 2018; Table A2). Neighbours, so that levels, and real and generated pictures, stay apart.

    [B, C, H, W] -> [B, C + 1, H, W]. Raises UserError where B is no multiple of ``group``.
    """
    b, c, h, w = x.shape
    if b % group:
        raise UserError(f"discriminator.minibatch_std={group}: does not divide the {b} pictures that D sees at once")
    groups = x.view(-1, group, c, h, w).float()
    std = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, std.repeat_interleave(group).to(x.dtype)[:, None, None, None].expand(b, 1, h, w)], dim=1)


class Layer(nn.Module):
    """One layer of phi: residual convolutions, self-attention, then a stride-2 convolution with a 1x1 skip.

    The last layer (4 px) flattens to 1 x 1 instead.

    [B, n_in, r, r] -> [B, n_out, r/2, r/2] (or [B, n_out, 1, 1])
    """

    def __init__(self, config: Config, resolution: int) -> None:
        super().__init__()
        d = config.discriminator
        n_in = channels(d.channel_base, d.channel_max, resolution)
        self.n_out = channels(d.channel_base, d.channel_max, max(resolution // 2, 4))
        level = int(math.log2(resolution)) - 2
        n_blocks = per_level(d.blocks, level)
        self.flatten = resolution == 4
        self.std_group = d.minibatch_std if self.flatten else 0
        n_seen = n_in + bool(self.std_group)
        # Table A2's count wants two convolutions in each block: the last block's second one halves the resolution.
        self.blocks = nn.ModuleList(ResidualBlock(n_in, d.block_gain) for _ in range(n_blocks - 1))
        self.convs = nn.ModuleList([Conv(n_seen, n_in, 3, gain=ACTIVATION_GAIN)] if n_blocks else [])
        n_seen = n_in if n_blocks else n_seen
        depth = 0
        if resolution in d.attention_resolutions:
            depth = per_level(d.attention_depth, d.attention_resolutions.index(resolution))
        # The text enters only through the predictors: self-attention alone, and no style token.
        self.attention = nn.ModuleList(PixelAttention(n_in, config.attention, None, None) for _ in range(depth))
        if self.flatten:
            self.out, self.skip = Conv(n_seen * 16, self.n_out, 1, gain=ACTIVATION_GAIN), None
        else:  # both at 1/sqrt(2) of their usual size, so that their sum has unit variance
            self.out = Conv(n_in, self.n_out, 3, stride=2, gain=ACTIVATION_GAIN / math.sqrt(2))
            self.skip = Conv(n_in, self.n_out, 1, bias=False, gain=1 / math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        y = append_minibatch_std(x, self.std_group) if self.std_group else x
        for conv in self.convs:
            y = leaky_relu(conv(y))
        for layer in self.attention:
            y = layer(y)
        if self.skip is None:
            return leaky_relu(self.out(y.flatten(1)[:, :, None, None]))
        return leaky_relu(self.out(y)) + self.skip(downsample(x))


class Predictor(nn.Module):
    """D_ij(x, c) = psi_j(phi(x), t_D) + Conv1x1(phi(x)) (Eq. 7); psi_j: modulated 1x1 convolutions.

    features [B, n, h, w], t_D [B, text_width] -> logits [B, h, w]
    """

    def __init__(self, n: int, text_width: int, depth: int) -> None:
        super().__init__()
        widths = [n] * depth + [1]
        self.layers = nn.ModuleList(
            AdaptiveConv(n_in, n_out, 1, text_width, demodulate=n_out > 1) for n_in, n_out in pairwise(widths)
        )
        self.unconditional = Conv(n, 1, 1)

    def forward(self, features: Tensor, t_global: Tensor) -> Tensor:
        y = features
        for layer in self.layers[:-1]:
            y = leaky_relu(layer(y, t_global))
        return (self.layers[-1](y, t_global) + self.unconditional(features)).squeeze(1)


class ProjectionPredictor(nn.Module):
    """The projection discriminator of ImageNet's models (Miyato and Koyama 2018; "PD" in Table A2): the features'
    inner product with the condition, plus the unconditional term; that term alone where there is no condition.

    features [B, n, h, w], condition [B, width] -> logits [B, h, w]
    """

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.projection = Linear(width, n) if width else None
        self.unconditional = Conv(n, 1, 1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        logits = self.unconditional(features).squeeze(1)
        if self.projection is None:
            return logits
        direction = self.projection(condition) / math.sqrt(features.shape[1])
        return logits + (features * direction.to(features.dtype)[:, :, None, None]).sum(1)


def predictor(n: int, width: int, kind: str, depth: int) -> Predictor | ProjectionPredictor:
    """What reads logits out of features of ``n`` channels, for a condition of ``width`` (0 = none)."""
    modulated = kind == "modulated" and width > 0
    return Predictor(n, width, depth) if modulated else ProjectionPredictor(n, width)


class Discriminator(Recomputing):
    """phi, shared by all levels, with a fromRGB for each late entry and a predictor for each early exit.

    Level i enters at its own resolution and is read out after every layer j > i. Levels are independent passes: what
    enters late never mixes with what came down from above, they only share weights, so they run as one batch.
    """

    def __init__(self, config: Config, text_width: int) -> None:
        super().__init__()
        d = config.discriminator
        self.n_levels = int(math.log2(config.data.resolution)) - 1
        self.late_entry = d.multi_scale in ("input+output", "input")
        self.early_exit = d.multi_scale in ("input+output", "output")
        # What is not drawn cannot enter: an upsampler's pyramid ends at its lowest resolution.
        drawn = (config.data.resolution // config.upsampler.lowest).bit_length() if config.upsampler.input else 64
        self.n_entries = min(d.entries or self.n_levels, self.n_levels, drawn)
        resolutions = [config.data.resolution >> i for i in range(self.n_levels)]
        self.layers = nn.ModuleList(Layer(config, r) for r in resolutions)
        self.from_rgb = nn.ModuleDict(
            {
                str(i): Conv(3, channels(d.channel_base, d.channel_max, resolutions[i]), 1, gain=ACTIVATION_GAIN)
                for i in self.entries
            }
        )
        self.text = encoder(config, text_width)
        self.predictors = nn.ModuleDict(
            {
                str(j): predictor(self.layers[j - 1].n_out, self.text.width, d.predictor, d.predictor_depth)
                for j in self.exits
            }
        )

    @property
    def entries(self) -> range:
        """Levels of the pyramid that are looked at: i in 0 .. L-1, or as many as may enter."""
        return range(self.n_entries if self.late_entry else 1)

    @property
    def exits(self) -> range:
        """Layers after which there is a prediction: j in 1 .. L."""
        return range(1 if self.early_exit else self.n_levels, self.n_levels + 1)

    def trunk(self, pyramid: list[Tensor]) -> dict[int, Tensor]:
        """phi: pyramid (highest resolution first, [B, 3, r, r] each) -> {j: [levels * B, n, h, w]} after each exit j.

        Level i's images are rows i * B to (i + 1) * B of every exit j > i.
        """
        features: Tensor | None = None
        exits = {}
        for i, layer in enumerate(self.layers):
            if i in self.entries:
                image = pyramid[i].contiguous(memory_format=torch.channels_last)
                entry = leaky_relu(self.from_rgb[str(i)](image))
                features = entry if features is None else torch.cat([features, entry])
            features = self.part(layer, features)
            if i + 1 in self.exits:
                exits[i + 1] = features
        return exits

    def predict(self, exits: dict[int, Tensor], t_global: Tensor) -> Predictions:
        """Every D_ij for the images and the captions they are paired with, t_D [B, width]: one a picture, or, where
        there are k times as many pictures, the same ones for each group of them (real and generated ones, say)."""
        predictions = {}
        for j, features in exits.items():
            condition = t_global.repeat(len(features) // len(t_global), 1)
            logits = self.part(self.predictors[str(j)], features, condition)
            levels = min(j, len(self.entries))
            predictions |= {(i, j): part for i, part in enumerate(logits.float().chunk(levels))}
        return predictions

    def forward(self, pyramid: list[Tensor], captions: list[Condition]) -> list[Predictions]:
        """The images paired with each of several lists of captions; phi runs once for all of them."""
        exits = self.trunk(pyramid)
        return [self.predict(exits, self.text(part).total) for part in captions]


def image_pyramid(images: Tensor, n_levels: int) -> list[Tensor]:
    """Real images at every level, highest resolution first: [B, 3, R, R] -> [B, 3, R / 2^i, R / 2^i]"""
    pyramid = [images]
    for _ in range(n_levels - 1):
        pyramid.append(downsample(pyramid[-1]))
    return pyramid
