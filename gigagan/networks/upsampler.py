"""The upsampler: an asymmetric U-Net whose decoder is built like the generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gigagan.config import Config, channels
from gigagan.networks.condition import Condition
from gigagan.networks.conv import Conv, downsample, upsample
from gigagan.networks.generator import Generator, Style, Synthesis
from gigagan.networks.parameters import ACTIVATION_GAIN, constant, leaky_relu


class Down(nn.Module):
    """A residual block that halves the resolution. [B, n_in, r, r] -> [B, n_out, r/2, r/2]"""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = Conv(n_in, n_in, 3, gain=ACTIVATION_GAIN)
        self.out = Conv(n_in, n_out, 3, stride=2, gain=ACTIVATION_GAIN / math.sqrt(2))
        self.skip = Conv(n_in, n_out, 1, bias=False, gain=1 / math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.out(leaky_relu(self.conv(x)))) + self.skip(downsample(x))


def resized(image: Tensor, side: int) -> Tensor:
    """[B, 3, r, r] -> [B, 3, side, side], by factors of two: means downwards, bilinear upwards."""
    while image.shape[-1] > side:
        image = downsample(image)
    while image.shape[-1] < side:
        image = upsample(image)
    return image


class Upsampler(Synthesis):
    """U(x, z, c): from a small picture x to a pyramid of images, ``data.resolution`` down to ``upsampler.lowest``.

    x is halved by residual blocks down to the lowest resolution, then the generator's levels go up; what the encoder
    saw at a resolution is added to what the decoder begins with there.

    Deviation: the skips pass a 1x1 convolution (the paper's counts for ImageNet close with it), the lowest resolutions
    of the pyramid are the decoder's, and all of it is what is added to x, resized; the paper states none of these.
    """

    def __init__(self, config: Config, text_width: int) -> None:
        u, g = config.upsampler, config.generator
        steps = (config.data.resolution // u.lowest).bit_length()
        super().__init__(config, text_width, [u.lowest << i for i in range(steps)])
        self.input, self.augment = u.input, u.augment
        sides = [u.input >> i for i in range((u.input // u.lowest).bit_length())]
        widths = {side: channels(g.channel_base, g.channel_max, side) for side in sides}
        self.from_rgb = Conv(3, widths[u.input], 1, gain=ACTIVATION_GAIN)
        self.encoder = nn.ModuleDict({str(r): Down(widths[r], widths[r // 2]) for r in sides[:-1]})
        for level in self.levels:
            for to_rgb in (*level.early_rgb, level.to_rgb):
                to_rgb.bank = constant(*to_rgb.bank.shape)
        self.skips = nn.ModuleDict({str(r): Conv(widths[r], widths[r // 2], 1) for r in sides[:-1]})

    @property
    def noise_dim(self) -> int:
        """Values of noise one image takes: those added to the input, then every layer's."""
        return 3 * self.input**2 + super().noise_dim

    def synthesise(self, styles: list[Style], noise: Tensor, image: Tensor) -> list[Tensor]:
        """One style a level, noise [B, noise_dim], image [B, 3, input, input] in [-1, 1] -> pyramid, highest resolution
        first: [B, 3, r, r] each"""
        added, noise = noise.split([3 * self.input**2, noise.shape[1] - 3 * self.input**2], dim=1)
        # Trained on clean pictures only, it would take a generator's small flaws for detail (noise augmentation).
        noisy = image + self.augment * added.view_as(image)
        x = leaky_relu(self.from_rgb(noisy.contiguous(memory_format=torch.channels_last)))
        skips = {}
        for side, down in self.encoder.items():
            skips[int(side)] = self.skips[side](x)
            x = down(x)
        return [details + resized(image, details.shape[-1]) for details in self.pyramid(x, skips, styles, noise)]

    def forward(self, z: Tensor, condition: Condition, noise: Tensor, image: Tensor) -> list[Tensor]:
        return self.synthesise([self.style(z, condition)] * len(self.levels), noise, image)


def generator_of(config: Config, text_width: int) -> Generator | Upsampler:
    """The network that draws: from a constant, or from a smaller picture."""
    return (Upsampler if config.upsampler.input else Generator)(config, text_width)
