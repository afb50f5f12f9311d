"""Pictures from a diffusion model: DDIM with guidance, a distilled student's DDIM, or consistency with new noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evaluation.rivals.diffusion import consistency, schedule
from evaluation.rivals.diffusion.captions import conditioning, no_caption
from evaluation.rivals.diffusion.config import Config
from evaluation.rivals.diffusion.network import Denoiser
from evaluation.rivals.diffusion.teacher import guided
from gigagan import latents
from gigagan.clip import Clip
from gigagan.degenerate import Tally
from gigagan.networks.text import TextFeatures


class DiffusionSampler:
    """A denoiser as scoring sees it, drawing as ``config.sampling`` says; ``nfe``: evaluations a picture."""

    def __init__(self, network: Denoiser, config: Config, clip: Clip, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.config, self.device, self.resolution = config, device, config.data.resolution
        self.encode = conditioning(clip, device)
        self.empty = no_caption(clip, device)
        self.networks, self.encoders, self.tally = [self.network], [clip], Tally()
        self.nfe = config.sampling.steps * (1 + self._is_guided)

    @property
    def _is_guided(self) -> bool:
        return self.config.method == "guided" and self.config.sampling.guidance != 1

    def _velocity(self, z: Tensor, t: Tensor, text: TextFeatures, guidance: Tensor) -> Tensor:
        if self._is_guided:
            return guided(self.network, z, t, text, self.empty, guidance)
        return self.network(z, t, text, None if self.config.method == "guided" else guidance)

    @torch.inference_mode()
    def generate(self, condition: TextFeatures, seeds: list[int]) -> Tensor:
        """[B, 3, R, R], mostly in [-1, 1], on the device. Every method begins with the same noise of a seed."""
        steps, side, b = self.config.sampling.steps, self.resolution, len(seeds)
        fresh = self.config.method == "consistency"
        again = steps - 1 if fresh else 0
        first, more = latents.draw(seeds, 3 * side * side, again * 3 * side * side)
        z = first.view(b, 3, side, side).to(self.device)
        more = more.view(b, again, 3, side, side).to(self.device)
        guidance = torch.full((b,), self.config.sampling.guidance, device=self.device)
        for step in range(steps, 0, -1):
            t, s = (torch.full((b,), k / steps, device=self.device) for k in (step, step - 1))
            if fresh:
                z = consistency.picture(self.network, z, t, condition, guidance, self.config)
                if step > 1:
                    z = schedule.noised(z, more[:, steps - step], s)
            else:
                z = schedule.ddim(z, self._velocity(z, t, condition, guidance), t, s)
        return z

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]; a picture depends on its own caption and seed alone."""
        return self.tally.to_uint8(self.generate(self.encode(captions), seeds))
