"""Every knob of StyleGAN-T: typed, frozen, nested; defaults are the paper's full model at 64 px.

What the paper's own text does not print, or prints otherwise, is taken from the authors' code, and the line says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gigagan.config import BOUNDS as SHARED
from gigagan.config import DataConfig, TextConfig, TrainConfig
from gigagan.errors import UserError
from gigagan.overrides import check_bounds

FIRST = 8  # px at which the synthesis begins


@dataclass(frozen=True)
class GeneratorConfig:
    """Sec. 3.1."""

    z_dim: int = 64
    mapping_depth: int = 2  # layers of f, as wide as z
    mapping_lr_multiplier: float = 0.01
    text_gain: float = 1.0  # what the caption's unit vector is multiplied by; more is heard earlier in a short training
    channel_base: int = 65536  # channels at r px: min(base / r, max)
    channel_max: int = 2048
    res_blocks: int = 3  # per resolution, each a modulated convolution and a residual one
    bandwidth: float = 2.0  # of the Fourier features, in cycles over the picture
    norm_groups: int = 32  # of the GroupNorm before a residual convolution, as far as the channels can be so divided
    layer_scale: float = 1e-5  # what a residual branch is multiplied by at first
    mean_beta: float = 0.995  # of the running mean of f(z), per step; for truncation


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sec. 3.2."""

    # The frozen ViT: dino (ViT-S/16, from timm's cache), a FILE of its weights, or clip (the image tower of text.clip).
    backbone: str = "dino"
    levels: tuple[int, ...] = (0, 3, 6, 9, 12)  # blocks that are looked at, counted from 1; 0 = the embedded patches
    kernel: int = 9  # tokens that a head's residual convolution spans
    text_width: int = 64  # channels that the heads' features and the caption are compared in
    text_gain: float = 1.0  # as the generator's
    virtual_batch: int = 8  # pictures over which batch statistics are taken
    augment: bool = True  # DiffAug: colour, translation, cutout
    crop: float = 0.5  # probability that a picture larger than the ViT's input is cropped to it, not resized


@dataclass(frozen=True)
class LossConfig:
    """Sec. 3.2 and 3.3."""

    # Deviation: both terms of the generator's loss are means over pictures. In the authors' code the adversarial one is
    # divided by the micro-batch once more, so that a weight of theirs acts as this one times pictures a GPU.
    clip_weight: float = 0.2
    clip_crop: int = 64  # px: of larger pictures, the CLIP sees a crop this wide
    blur_sigma: float = 32.0  # px, of what D sees at first: the distance at which a pixel's weight has halved (code)
    blur_kimg: float = 1000.0  # until there is no blur any more; 0 = there never is


@dataclass(frozen=True)
class SamplingConfig:
    """Sec. 3.3."""

    truncation: float = 1.0  # psi of f(z) towards its mean; the caption is left alone. 1 = none, 0 = the mean itself


# Intervals, as in gigagan.config, whose own hold for the sections that are its.
BOUNDS = {path: interval for path, interval in SHARED.items() if path.startswith(("data.", "text.", "train."))} | {
    "generator.z_dim": "[1, inf)",
    "generator.mapping_depth": "[1, inf)",
    "generator.mapping_lr_multiplier": "(0, inf)",
    "generator.text_gain": "(0, inf)",
    "generator.channel_base": "[1, inf)",
    "generator.channel_max": "[1, inf)",
    "generator.res_blocks": "[0, inf)",
    "generator.bandwidth": "(0, 4]",  # beyond, 8 px cannot hold it
    "generator.norm_groups": "[1, inf)",
    "generator.layer_scale": "[0, inf)",
    "generator.mean_beta": "[0, 1)",
    "discriminator.levels": "[0, inf)",
    "discriminator.kernel": "[1, inf)",
    "discriminator.text_width": "[1, inf)",
    "discriminator.text_gain": "(0, inf)",
    "discriminator.virtual_batch": "[1, inf)",
    "discriminator.crop": "[0, 1]",
    "loss.clip_weight": "[0, inf)",
    "loss.clip_crop": "[1, inf)",
    "loss.blur_sigma": "[0, inf)",
    "loss.blur_kimg": "[0, inf)",
    "sampling.truncation": "[0, 1]",
}


def _train() -> TrainConfig:
    """Adam: no decay. The average's half-life is batch * 10 / 32 kimg (code)."""
    return TrainConfig(
        batch=2048,
        lr_generator=0.002,
        lr_discriminator=0.002,
        weight_decay=0.0,
        weight_decay_attention=0.0,
        ema_kimg=640.0,
    )


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)  # of it clip alone, as no layers of ours read captions
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=_train)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS)
        r, d = self.data.resolution, self.discriminator
        if r < FIRST or r & (r - 1):
            raise UserError(f"data.resolution={r}: must be a power of two, at least {FIRST}")
        if self.generator.channel_base < r:
            raise UserError(
                f"generator.channel_base={self.generator.channel_base}: leaves no channel at {r} px: at least {r}"
            )
        if d.kernel % 2 == 0:
            raise UserError(f"discriminator.kernel={d.kernel}: must be odd")
        if not d.backbone:
            raise UserError("discriminator.backbone: say dino, clip, or a file of DINO's weights")
        for path, images in (("train.batch", self.train.batch), ("train.micro_batch", self.train.micro_batch)):
            if images % d.virtual_batch:
                raise UserError(f"{path}={images}: no multiple of discriminator.virtual_batch={d.virtual_batch}")
