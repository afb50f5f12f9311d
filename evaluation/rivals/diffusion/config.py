"""Every knob of the diffusion models: a teacher, and what it is distilled into.

Imports nothing heavy: the ablation's recipes are resolved with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from gigagan.config import BOUNDS as SHARED
from gigagan.config import DataConfig, TextConfig, TrainConfig
from gigagan.errors import UserError
from gigagan.overrides import check_bounds

Method = Literal["guided", "distilled", "consistency"]


@dataclass(frozen=True)
class UNetConfig:
    """diffusers' UNet2DConditionModel, the same for all networks of the family, so that each can start from another."""

    channels: tuple[int, ...] = (32, 48)  # a level each, from data.resolution down, every one half of the last
    layers: int = 1  # residual blocks of a level on the way down; one more on the way up
    attention: tuple[int, ...] = ()  # px of the levels that attend to themselves and the caption, as the middle does
    heads: int = 1
    groups: int = 8  # of GroupNorm; divides all channels
    guidance_width: int = 32  # of the Fourier features of the guidance that students take (Meng et al., Sec. 3.1)


@dataclass(frozen=True)
class DiffusionConfig:
    """What is learned. Ho et al. (arXiv 2006.11239), Salimans & Ho (arXiv 2202.00512)."""

    # data: the teacher. guidance: Meng et al.'s first stage, on a teacher. halving: their second, on a student of the
    # first or of twice the steps. consistency: on a teacher. none: nothing, only other steps of the run it starts from.
    objective: Literal["data", "guidance", "halving", "consistency", "none"] = "data"
    train_steps: int = (
        1024  # times that are trained on; a power of two, so that the times of all halvings are among them
    )
    dropout: float = 0.1  # data: share of captions that are left out (Ho & Salimans, arXiv 2207.12598)


@dataclass(frozen=True)
class DistillationConfig:
    """Meng et al. (arXiv 2210.03142), LCM (Luo et al., arXiv 2310.04378)."""

    # The strength that a student is trained for is uniform in [min, max].
    # Deviation: far narrower than Meng et al.'s. What is drawn with lies amid it, and a student of minutes learns it
    # better: after 1,600 images the first stage's held-out loss at 2 is 0.0153, with [1, 4] 0.0216.
    guidance_min: float = 1.5
    guidance_max: float = 2.5
    # Deviation: LCM has 50 steps, an L1-like c of 0.001, and thousands of updates for what the last step knows to reach
    # the first. With 16 steps and no average in the target's place, 2,400 images made students worse than the teacher.
    solver_steps: int = 4  # consistency: the teacher's steps of DDIM from noise to picture
    target_decay: float = 0.95  # consistency: of the average of the student that is its target, a step; LCM's
    huber: float = 1.0  # consistency: c of the pseudo-Huber loss, sqrt(d^2 + c^2) - c
    timestep_scaling: float = 10.0  # consistency: of the time in boundary scalings
    sigma_data: float = 0.5  # consistency: where c_skip and c_out meet


@dataclass(frozen=True)
class SamplingConfig:
    """How pictures are drawn: DDIM with eta 0, at evenly spaced times from 1 (pure noise) on."""

    # guided: two evaluations a step, with the caption and without. distilled: one, which is told the guidance.
    # consistency: one, and new noise between steps. auto: as the objective has it; none has to say it.
    method: Literal["auto", "guided", "distilled", "consistency"] = "auto"
    steps: int = 32
    guidance: float = 2.0  # 1 = none; the w of Meng et al. is one less


# Intervals, as in gigagan.config, whose own hold for the sections that are its; a run may only draw otherwise.
BOUNDS = {path: interval for path, interval in SHARED.items() if path.startswith(("data.", "text.", "train."))} | {
    "train.kimg": "[0, inf)",
    "unet.channels": "[1, inf)",
    "unet.layers": "[1, inf)",
    "unet.attention": "[1, inf)",
    "unet.heads": "[1, inf)",
    "unet.groups": "[1, inf)",
    "unet.guidance_width": "[2, inf)",
    "diffusion.train_steps": "[2, inf)",
    "diffusion.dropout": "[0, 1]",
    "distillation.guidance_min": "[0, inf)",
    "distillation.guidance_max": "[0, inf)",
    "distillation.solver_steps": "[1, inf)",
    "distillation.target_decay": "[0, 1)",
    "distillation.huber": "(0, inf)",
    "distillation.timestep_scaling": "(0, inf)",
    "distillation.sigma_data": "(0, inf)",
    "sampling.steps": "[1, inf)",
    "sampling.guidance": "[0, inf)",
}
MAY_BE_EMPTY = ("attention",)  # then the middle alone reads the caption

METHODS: dict[str, Method] = {
    "data": "guided", "guidance": "distilled", "halving": "distilled", "consistency": "consistency"
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=partial(DataConfig, resolution=16))
    text: TextConfig = field(default_factory=TextConfig)  # text.clip alone: the U-Net attends to the frozen features
    unet: UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    train: TrainConfig = field(
        default_factory=partial(
            TrainConfig, batch=16, lr_generator=0.001, beta1=0.9, weight_decay=0.01, ema_kimg=10.0, ema_rampup=0.1
        )
    )
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def method(self) -> Method:
        """What ``sampling.method`` comes to."""
        return METHODS[self.diffusion.objective] if self.sampling.method == "auto" else self.sampling.method

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS, MAY_BE_EMPTY)
        unet, steps, distillation = self.unet, self.diffusion.train_steps, self.distillation
        if self.data.resolution & (self.data.resolution - 1):
            raise UserError(f"data.resolution={self.data.resolution}: must be a power of two")
        sides = [self.data.resolution >> level for level in range(len(unet.channels))]
        if sides[-1] < 2:
            raise UserError(f"unet.channels: {len(sides)} levels are too many at {self.data.resolution} px")
        if wrong := [side for side in unet.attention if side not in sides]:
            raise UserError(
                f"unet.attention={wrong[0]}: no level of that side (there are: {', '.join(map(str, sides))})"
            )
        if wrong := [channels for channels in unet.channels if channels % unet.groups or channels % unet.heads]:
            raise UserError(
                f"unet.channels={wrong[0]}: no multiple of unet.groups={unet.groups} and unet.heads={unet.heads}"
            )
        if unet.guidance_width % 2:
            raise UserError(f"unet.guidance_width={unet.guidance_width}: a sine and a cosine each: must be even")
        if distillation.guidance_min > distillation.guidance_max:
            raise UserError("distillation.guidance_min: is above distillation.guidance_max")
        if steps % self.sampling.steps:
            raise UserError(f"sampling.steps={self.sampling.steps}: must divide diffusion.train_steps={steps}")
        self._check_method()

    def _check_method(self) -> None:
        objective, method = self.diffusion.objective, self.sampling.method
        if objective == "none" and method == "auto":
            raise UserError(
                "diffusion.objective=none: say how the run that it starts from draws: sampling.method=guided "
                "(a teacher), distilled or consistency"
            )
        if objective == "none" and self.train.kimg:
            raise UserError(f"train.kimg={self.train.kimg:g}: diffusion.objective=none trains nothing: set it to 0")
        if objective != "none" and self.method != METHODS[objective]:
            raise UserError(
                f"sampling.method={method}: diffusion.objective={objective} draws by {METHODS[objective]}: "
                "leave it auto"
            )
        if objective == "halving" and self.diffusion.train_steps % (2 * self.sampling.steps):
            raise UserError(
                f"sampling.steps={self.sampling.steps}: twice as many, the teacher's, must divide "
                f"diffusion.train_steps={self.diffusion.train_steps}"
            )
        low, high = self.distillation.guidance_min, self.distillation.guidance_max
        if self.method != "guided" and not low <= self.sampling.guidance <= high:
            raise UserError(
                f"sampling.guidance={self.sampling.guidance:g}: the student is trained for strengths from "
                f"distillation.guidance_min={low:g} to distillation.guidance_max={high:g}"
            )
