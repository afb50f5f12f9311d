"""Every knob of the model and its training: typed, frozen, nested.

A run is described by a list of ``path=value`` strings over these defaults (``generator.kernels=1``). Defaults are the
paper's 64 px text-to-image base (Table A2, column "LAION & COYO 64") unless a comment says otherwise; "likely" stands
where no source confirms what we take that table to say. The suites
in ``ablations/suites.yaml`` override sizes. A tuple with one entry holds for every resolution; a longer one has
one entry per resolution, from 4 px up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from gigagan.errors import UserError
from gigagan.overrides import check_bounds, difference, parse, restored, to_dict, written

# Raise it when a change of code changes what a given recipe trains: the hash of every recipe changes with it.
RECIPE_VERSION = 2

OWN = "gigagan"
"""The family of this configuration's runs, and of those that do not say one."""


@dataclass(frozen=True)
class DataConfig:
    """What is learned from: captioned images at one resolution."""

    name: str = "scenes"  # scenes, shards, folder, classes or coco
    path: str = ""  # the folder (nothing for scenes)
    annotations: str = ""  # coco: captions_*.json; empty = found beside the images
    resolution: int = 64  # px; a power of two, at least 8
    flip: bool = True  # mirror at random where the caption allows it
    objects: tuple[float, ...] = (0.75, 0.25, 0.0)  # scenes: probabilities of one, two and three objects
    placed: float = 0.6  # scenes: probability that a caption of one object says where it is
    workers: int = 0  # loader processes; 0 = decode in the training process


@dataclass(frozen=True)
class TextConfig:
    """Sec. 3.2: frozen CLIP features, then learned attention layers T (one T in G, another in D)."""

    clip: str = "ViT-L-14-quickgelu:openai"  # what gigagan.clip.Clip.load takes
    depth: int = 4  # attention layers of T
    head_width: int = 64


@dataclass(frozen=True)
class ConditionConfig:
    """What a picture is asked for by: a caption (Sec. 3.2), a class (ImageNet, Table A1), or nothing (Table 5)."""

    kind: Literal["text", "class", "none"] = "text"
    classes: int = 0  # class: how many there are
    width: int = 512  # class: channels of their learned embedding, which stands where t_global does


@dataclass(frozen=True)
class AttentionConfig:
    """Sec. 3.3: which attention there is at all, in G and D alike."""

    kinds: Literal["self+cross", "self", "cross", "mlp", "none"] = (
        "self+cross"  # mlp: the blocks without their attention
    )
    head_width: int = 64  # not stated in the paper
    mlp_ratio: float = 4.0  # by the count of parameters
    gain: float = 0.3  # of each residual branch; likely
    width: float = 1.0  # of queries, keys and values, as a multiple of the layer's channels; likely


@dataclass(frozen=True)
class GeneratorConfig:
    """Sec. 3.1 and 3.3, Fig. 4."""

    z_dim: int = 128
    w_dim: int = 1024
    mapping_depth: int = 4
    mapping_lr_multiplier: float = 0.01  # StyleGAN2's; the paper is silent
    channel_base: int = 16384  # channels at r px: min(base / r, max)
    channel_max: int = 1600
    blocks: tuple[int, ...] = (3, 3, 3, 2, 2)  # synthesis blocks (of two convolutions) per resolution
    kernels: tuple[int, ...] = (1, 1, 2, 4, 8)  # N, the bank of each adaptive convolution (Eq. 1); 1 = not adaptive
    block_gain: float = 0.4  # of the residual branch of every block after a resolution's first; likely
    attention_resolutions: tuple[int, ...] = (8, 16, 32)
    attention_depth: tuple[int, ...] = (2, 2, 1)  # one entry per attention resolution, or one for all
    condition_width: int = 0  # t_global is mapped to so many channels before M, as StyleGAN2 does; 0 = it is not
    first_convs: int = 1  # convolutions of the constant's first block: StyleGAN2's single one, or two as elsewhere
    # Table 1's counts from "Deeper" and "Multi-scale training" on close with these two, Table A2's without.
    block_skip: bool = False  # a 1x1 convolution on the skip of every residual block
    block_rgb: bool = False  # a toRGB after every block, not only after a resolution's last


@dataclass(frozen=True)
class UpsamplerConfig:
    """The upsampler: a U-Net in the generator's place, whose decoder takes ``generator``'s settings."""

    input: int = 0  # px of the picture that it enlarges to data.resolution; 0 = no upsampler but a generator
    lowest: int = 8  # px at which the U-Net turns; the per-resolution tuples of ``generator`` begin here
    augment: float = 0.1  # standard deviation of the noise added to the input, in [-1, 1]; the paper prints none


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sec. 3.4, Fig. 5."""

    channel_base: int = 16384
    channel_max: int = 1536
    # A resolution's last block halves it, those before are residual. Table A2's [1, 2, 2, 2, 2] is taken from 64 px
    # down: only so does the count come near the paper's 381.4M.
    blocks: tuple[int, ...] = (2, 2, 2, 2, 1)
    block_gain: float = 0.4  # of the residual branch of every block before a resolution's last; likely
    attention_resolutions: tuple[int, ...] = (8, 16, 32)
    attention_depth: tuple[int, ...] = (2, 2, 1)
    predictor: Literal["modulated", "projection"] = "modulated"  # Eq. 7, or the projection of ImageNet's models
    predictor_depth: int = 5  # modulated 1x1 layers of psi_j: four, and the one that makes the logit
    multi_scale: Literal["input+output", "input", "output", "none"] = "input+output"  # late entries + early exits
    entries: int = 0  # levels of the pyramid, from the highest resolution, that may enter; 0 = all
    minibatch_std: int = 0  # pictures over which the last layer sees a standard deviation; 0 = it sees none


@dataclass(frozen=True)
class VisionConfig:
    """Sec. 3.5: the vision-aided discriminator, on a frozen CLIP's image tower. The paper prints no figure of it."""

    clip: str = "ViT-B-32-quickgelu:openai"  # what gigagan.clip.Clip.load takes; empty = text.clip
    weight: float = 1.0  # of its loss; 0 = no such discriminator
    layers: tuple[int, ...] = (4, 8, 12)  # the tower's blocks that are looked at, counted from 1
    channels: int = 64  # of the fixed random projection of each block's features


@dataclass(frozen=True)
class LossConfig:
    """Sec. 3.4 and 3.5, Eq. 6 to 9, Table A2."""

    scale_ratio: tuple[float, ...] = (2.0, 1.0)  # weights of the levels, high to low (the last one repeats), normalised
    early_exit_weight: float = 0.01  # of a prediction at j < L in the GAN loss (one at j = L has 1); likely
    early_exit_matching_weight: float = 0.05  # the same in the matching loss; likely
    # Which images D sees with another caption (Eq. 8); none: nobody does, so G's optional term is off, too.
    matching: Literal["real+fake", "real", "none"] = "real+fake"
    matching_weight: float = 1.0  # likely
    generator_matching_weight: float = 0.0  # optional: G minimises softplus(D(G(c), c^)); the paper is ambiguous
    clip_weight: float = 0.2  # Eq. 9; likely, up to 1
    clip_model: str = ""  # the CLIP of Eq. 9, which the paper does not name; empty = text.clip
    clip_captions: int = 0  # training captions to contrast with besides the batch's (c_n in Eq. 9), the same all along
    clip_temperature: float = 0.07  # Eq. 9 prints none
    perceptual: Literal["lpips", "clip"] = "lpips"  # clip: a distance of the CLIP's own features, for want of LPIPS
    perceptual_weight: float = 0.0  # upsampler: of that distance to the ground truth (Table A2's LPIPS strength)
    lpips_backbone: str = ""  # file of torchvision's VGG-16 weights, which the LPIPS package does not ship
    r1_weight: float = 0.2048  # gamma; the penalty is gamma / 2 * |grad|^2
    r1_interval: int = 16  # steps between penalties, each weighted by the interval


@dataclass(frozen=True)
class TrainConfig:
    """Table A2. Budgets count images, not steps."""

    kimg: float = 100.0  # thousands of real images shown in all
    batch: int = 512  # over all processes
    micro_batch: int = 0  # images a process holds at once; 0 = its whole share (gradients accumulate otherwise)
    gradient_checkpointing: bool = False  # levels and layers are computed again in the backward pass, not kept
    lr_generator: float = 0.0025
    lr_discriminator: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    weight_decay: float = 1e-5
    weight_decay_attention: float = 0.01
    ema_kimg: float = (
        10.0  # half-life of the averaged generator; the paper's beta is per step: 0.9999 at batch 1024 = 7100
    )
    ema_rampup: float = 0.05  # the half-life is at most this share of the images seen; 0 = none
    dtype: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast in both networks; losses and penalties stay fp32
    threads: int = 1  # CPU threads: other counts give other bits, so they belong to the recipe


@dataclass(frozen=True)
class SamplingConfig:
    """Appendix C.1: how pictures are drawn unless a command says otherwise. Nothing of it changes what is learned, but
    it belongs to a recipe: pictures of one recipe are drawn alike. Snapshots are drawn without, as no mean style of
    theirs is kept."""

    truncation: float = 1.0  # psi towards the mean style of the prompt: 1 = none, 0 = the mean itself
    global_truncation: float = 1.0  # after that, towards the mean style over training captions


# Which values every number (and entry of a tuple) may have, as intervals: an end with [ or ] belongs to its interval,
# one with ( or ) does not. Beyond them a run would fail late, or quietly train something else.
BOUNDS = {
    "data.resolution": "[8, inf)",
    "data.objects": "[0, 1]",
    "data.placed": "[0, 1]",
    "data.workers": "[0, inf)",
    "text.depth": "[0, inf)",
    "text.head_width": "[1, inf)",
    "condition.classes": "[0, inf)",
    "condition.width": "[1, inf)",
    "attention.head_width": "[1, inf)",
    "attention.mlp_ratio": "(0, inf)",
    "attention.gain": "[0, inf)",
    "attention.width": "(0, inf)",
    "generator.z_dim": "[1, inf)",
    "generator.w_dim": "[1, inf)",
    "generator.mapping_depth": "[1, inf)",
    "generator.mapping_lr_multiplier": "(0, inf)",
    "generator.channel_base": "[1, inf)",
    "generator.channel_max": "[1, inf)",
    "generator.blocks": "[1, inf)",
    "generator.kernels": "[1, inf)",
    "generator.block_gain": "[0, inf)",
    "generator.attention_resolutions": "[4, inf)",
    "generator.attention_depth": "[0, inf)",
    "generator.condition_width": "[0, inf)",
    "generator.first_convs": "[1, 2]",
    "upsampler.input": "[0, inf)",
    "upsampler.lowest": "[4, inf)",
    "upsampler.augment": "[0, inf)",
    "discriminator.channel_base": "[1, inf)",
    "discriminator.channel_max": "[1, inf)",
    "discriminator.blocks": "[0, inf)",
    "discriminator.block_gain": "[0, inf)",
    "discriminator.attention_resolutions": "[4, inf)",
    "discriminator.attention_depth": "[0, inf)",
    "discriminator.predictor_depth": "[1, inf)",
    "discriminator.entries": "[0, inf)",
    "discriminator.minibatch_std": "[0, inf)",
    "vision.weight": "[0, inf)",
    "vision.layers": "[1, inf)",
    "vision.channels": "[1, inf)",
    "loss.scale_ratio": "[0, inf)",
    "loss.early_exit_weight": "[0, inf)",
    "loss.early_exit_matching_weight": "[0, inf)",
    "loss.matching_weight": "[0, inf)",
    "loss.generator_matching_weight": "[0, inf)",
    "loss.clip_weight": "[0, inf)",
    "loss.clip_captions": "[0, inf)",
    "loss.clip_temperature": "(0, inf)",
    "loss.perceptual_weight": "[0, inf)",
    "loss.r1_weight": "[0, inf)",
    "loss.r1_interval": "[1, inf)",
    "train.kimg": "[0.001, inf)",
    "train.batch": "[2, inf)",  # another caption is drawn from the batch
    "train.micro_batch": "[0, inf)",
    "train.lr_generator": "(0, inf)",
    "train.lr_discriminator": "(0, inf)",
    "train.beta1": "[0, 1)",
    "train.beta2": "[0, 1)",
    "train.weight_decay": "[0, inf)",
    "train.weight_decay_attention": "[0, inf)",
    "train.ema_kimg": "[0, inf)",
    "train.ema_rampup": "[0, inf)",
    "train.threads": "[1, inf)",
    "sampling.truncation": "[0, 1]",
    "sampling.global_truncation": "[0, 1]",
}
MAY_BE_EMPTY = ("attention_resolutions", "attention_depth")  # where attention.kinds=none


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    upsampler: UpsamplerConfig = field(default_factory=UpsamplerConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        r = self.data.resolution
        if r < 8 or r & (r - 1):
            raise UserError(f"data.resolution={r}: must be a power of two, at least 8")
        for name in ("generator", "discriminator"):
            part = getattr(self, name)
            sides, depths = part.attention_resolutions, part.attention_depth
            given = f"{name}.attention_resolutions={written(sides)}"
            if wrong := [side for side in sides if side < 4 or side & (side - 1)]:
                raise UserError(f"{given}: {wrong[0]} px is no level")
            if self.attention.kinds != "none" and min(sides, default=r + 1) > r:
                raise UserError(f"{given}: none up to data.resolution={r}; if that is meant, say attention.kinds=none")
            if len(depths) not in (1, len(sides)):
                raise UserError(
                    f"{name}.attention_depth={written(depths)} has {len(depths)} entries for {len(sides)} attention "
                    "resolutions: give one, or one for each"
                )
            if part.channel_base < r:
                raise UserError(f"{name}.channel_base={part.channel_base}: leaves no channel at {r} px: at least {r}")
        # Where D looks at the full resolution alone, the others' weights do not count.
        levels = r.bit_length() - 2 if "input" in self.discriminator.multi_scale else 1
        if not any(self.loss.scale_ratio[:levels]):
            raise UserError(
                f"loss.scale_ratio={written(self.loss.scale_ratio)}: no level that D looks at has any weight"
            )
        check_bounds(self, BOUNDS, MAY_BE_EMPTY)
        self._check_condition()
        self._check_upsampler()
        self._check_groups()

    def _check_condition(self) -> None:
        kind = self.condition.kind
        if kind == "class" and not self.condition.classes:
            raise UserError("condition.kind=class: say how many there are: condition.classes=N")
        needs_words = {
            "attention.kinds": (self.attention.kinds, "cross" in self.attention.kinds, "self"),
            "loss.clip_weight": (self.loss.clip_weight, self.loss.clip_weight > 0, "0"),
        }
        for path, (value, wrong, instead) in needs_words.items():
            if kind != "text" and wrong:
                raise UserError(f"{path}={value}: reads captions, and condition.kind={kind}: set {path}={instead}")
        if kind == "none" and self.loss.matching != "none":
            raise UserError(f"loss.matching={self.loss.matching}: condition.kind=none: set loss.matching=none")

    def _check_upsampler(self) -> None:
        u, r = self.upsampler, self.data.resolution
        if not u.input:
            return
        for name in ("input", "lowest"):
            if (side := getattr(u, name)) & (side - 1):
                raise UserError(f"upsampler.{name}={side}: must be a power of two")
        if self.attention.kinds != "none" and min(self.generator.attention_resolutions, default=r) < u.lowest:
            raise UserError(
                f"generator.attention_resolutions={written(self.generator.attention_resolutions)}: an upsampler's "
                f"begin at upsampler.lowest={u.lowest}"
            )
        if not u.lowest <= u.input < r:
            raise UserError(
                f"upsampler.input={u.input}: must lie between upsampler.lowest={u.lowest} and data.resolution={r}"
            )
        if self.sampling != SamplingConfig():
            raise UserError("sampling: an upsampler's styles are not truncated: leave both truncations at 1")

    def _check_groups(self) -> None:
        group, d = self.discriminator.minibatch_std, self.discriminator
        for path, images in (("train.batch", self.train.batch), ("train.micro_batch", self.train.micro_batch)):
            if group and images % group:
                raise UserError(f"{path}={images}: no multiple of discriminator.minibatch_std={group}")
        if d.entries >= self.data.resolution.bit_length() - 1:
            raise UserError(
                f"discriminator.entries={d.entries}: data.resolution={self.data.resolution} has "
                f"{self.data.resolution.bit_length() - 2} levels"
            )


def per_level(values: tuple[int, ...], level: int) -> int:
    """The entry of a per-resolution tuple at ``level`` (0 = 4 px); one entry holds for all, the last one repeats."""
    return values[min(level, len(values) - 1)]


def channels(base: int, maximum: int, resolution: int) -> int:
    """StyleGAN2's channel count at a resolution in px."""
    return min(base // resolution, maximum)


def parse_overrides(overrides: list[str], base: Config | None = None) -> Config:
    """``["train.kimg=20", ...]`` over ``base`` (or the defaults). Raises UserError as ``gigagan.overrides.parse``."""
    return parse(overrides, base or Config())


def to_overrides(config: Config, defaults: Config | None = None) -> list[str]:
    """The shortest list of overrides that makes ``config`` out of ``defaults``; the inverse of parse_overrides."""
    return difference(config, defaults or Config())


def from_dict(values: dict[str, Any]) -> Config:
    """Inverse of to_dict (through JSON too, where tuples became lists). Raises UserError for unknown names."""
    return restored(values, Config)


# Fields that are younger than the records of this recipe version, with the value that does what was done before there
# was a choice. With that value they are left out of a recipe, so that a new part, switched off, renames none.
YOUNGER: dict[str, Any] = {}

# These do not change what is learned from an image, so they are no part of a recipe: a longer budget only continues,
# a path only says where the same data lie; loader processes, micro-batches and checkpointing only share out the work.
NOT_IN_RECIPE = (
    "train.kimg",
    "train.micro_batch",
    "train.gradient_checkpointing",
    "data.path",
    "data.annotations",
    "data.workers",
    "text.clip",
    "vision.clip",
    "loss.clip_model",
    "loss.lpips_backbone",
)


def recipe_sha(config: Any, contents: dict[str, str]) -> str:
    """12 hex digits over everything but the seed that determines what is learned; checked when a run is resumed.

    ``contents`` adds what the config only points at, where it does: hashes of the text encoder's weights, of the data.
    """
    values = to_dict(config)
    for section, names in list(values.items()):
        for name, value in list(names.items()):
            path = f"{section}.{name}"
            if path in NOT_IN_RECIPE or YOUNGER.get(path, ...) == value:
                del names[name]
        if not names:
            del values[section]
    recipe = {"version": RECIPE_VERSION, "config": values, **{name: sha for name, sha in contents.items() if sha}}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
