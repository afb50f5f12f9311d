"""A diffusion model as a phase: one network, and the loss of its objective."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.rivals.diffusion.captions import dropped, no_caption
from evaluation.rivals.diffusion.config import Config
from evaluation.rivals.diffusion.consistency import consistency_loss
from evaluation.rivals.diffusion.guided import guidance_loss, halving_loss
from evaluation.rivals.diffusion.network import first_weights
from evaluation.rivals.diffusion.schedule import noised
from evaluation.rivals.diffusion.start import Start, read_start
from evaluation.rivals.diffusion.teacher import data_loss
from gigagan.clip import Clips
from gigagan.training.batches import Batch
from gigagan.training.phases import Phase


class Diffusion:
    """The network that is trained and, but for the teacher itself, the frozen one that it begins as and learns from."""

    def __init__(
        self, config: Config, clips: Clips, seed: int, device: torch.device, start: Path | None = None
    ) -> None:
        """Raises UserError as ``read_start``."""
        assert clips.text is not None
        self.config, self.device = config, device
        self.generator = first_weights(config, clips.text, seed).to(device)
        self.empty = no_caption(clips.text, device)
        self.start: Start | None = read_start(config, clips.text, start)
        self.teacher: nn.Module | None = None
        if self.start:
            self.teacher = self.start.network.to(device).eval().requires_grad_(False)
            self.generator.load_state_dict(self.teacher.state_dict())
        self.target: nn.Module | None = None  # of a consistency student: its average, which follows behind
        if config.diffusion.objective == "consistency":
            self.target = copy.deepcopy(self.generator).requires_grad_(False)
        self._followed: int | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, **({"target": self.target} if self.target else {})}

    @property
    def shas(self) -> dict[str, str]:
        """Hashes of the files of networks that train it, besides its CLIPs'."""
        return {"start": self.start.sha} if self.start else {}

    @property
    def before(self) -> dict[str, float]:
        """kimg, seconds and train_tflop that went into the network it begins as."""
        return self.start.spent if self.start else {}

    def phases(self) -> list[Phase]:
        """The generator's, or none for objective none."""
        train = self.config.train
        if self.config.diffusion.objective == "none":
            return []
        optimizer = torch.optim.AdamW(
            self.generator.parameters(),
            lr=train.lr_generator,
            betas=(train.beta1, train.beta2),
            weight_decay=train.weight_decay,
            fused=True,
        )
        return [Phase("generator", self.generator, optimizer, self.loss)]

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise [B, 3, R, R], and three numbers [B, 3] in (0, 1) for time, guidance and dropout; a pure function of the
        batch's seeds."""
        noise, places = batch.latents("diffusion", batch.images[0].numel(), 3)
        return noise.view_as(batch.images), torch.special.ndtr(places)

    def times(self, place: Tensor) -> Tensor:
        """Places [B] in (0, 1) -> times [B], uniform over a halved student's own, or all that are trained on."""
        halving = self.config.diffusion.objective == "halving"
        parts = self.config.sampling.steps if halving else self.config.diffusion.train_steps
        return (place * parts).ceil().clamp(1, parts) / parts

    @torch.no_grad()
    def _follow(self, batch: Batch) -> None:
        """Let the target follow the student, once a step: before the first of its micro-batches."""
        if self._followed == batch.images_seen:
            return
        self._followed = batch.images_seen
        keep = self.config.distillation.target_decay
        torch._foreach_lerp_(list(self.target.parameters()), list(self.generator.parameters()), 1 - keep)

    def loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """The objective's, by its name."""
        config, objective = self.config, self.config.diffusion.objective
        noise, places = self.draw(batch)
        t = self.times(places[:, 0])
        low, high = config.distillation.guidance_min, config.distillation.guidance_max
        guidance = low + places[:, 1] * (high - low)
        z = noised(batch.images, noise, t)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.train.dtype == "bf16"):
            if objective == "data":
                text = dropped(batch.text, self.empty, places[:, 2] < config.diffusion.dropout)
                loss = data_loss(self.generator, batch.images, noise, t, text)
            elif objective == "guidance":
                loss = guidance_loss(self.generator, self.teacher, z, t, batch.text, self.empty, guidance)
            elif objective == "halving":
                loss = halving_loss(self.generator, self.teacher, z, t, config.sampling.steps, batch.text, guidance)
            else:
                self._follow(batch)
                loss = consistency_loss(
                    self.generator, self.target, self.teacher, z, t, batch.text, self.empty, guidance, config
                )
        return {objective: loss}
