"""Captions in, pictures out: what training conditions on, and a trained generator as a Sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.rivals.stylegan_t.config import Config
from evaluation.rivals.stylegan_t.generator import Generator
from gigagan import latents
from gigagan.clip import Clip
from gigagan.degenerate import Tally


class Pooled(NamedTuple):
    """Frozen CLIP embeddings of some captions."""

    pooled: Tensor  # [B, E], of unit norm

    def __getitem__(self, rows: object) -> Pooled:  # type: ignore[override]
        return Pooled(self.pooled[rows])  # type: ignore[index]

    def to(self, device: torch.device | str) -> Pooled:
        return Pooled(self.pooled.to(device))


def conditioning(clip: Clip, device: torch.device) -> Callable[[list[str]], Pooled]:
    """What the networks are told of captions; ``clip.n_cut`` counts those that were too long."""
    return lambda captions: Pooled(clip.embed_text(clip.tokenize(captions).to(device)))


class StyleGANTSampler:
    """An averaged generator with the CLIP that reads its captions (``gigagan.sampling.Sampler``).

    Attributes: resolution in px; nfe: passes through a network that a picture takes.
    """

    nfe = 1

    def __init__(self, network: Generator, config: Config, clip: Clip, device: torch.device) -> None:
        self.generator = network.to(device).eval().requires_grad_(False)
        self.encode = conditioning(clip.to(device), device)
        self.truncation = config.sampling.truncation
        self.resolution, self.device = network.resolution, device
        self.networks, self.encoders, self.tally = [self.generator], [clip], Tally()

    @torch.inference_mode()
    def generate(self, condition: Pooled, seeds: list[int], truncation: float | None = None) -> Tensor:
        """[B, 3, R, R] in [-1, 1] but for overshoot, on the device; ``truncation`` in place of the configuration's."""
        g, psi = self.generator, self.truncation if truncation is None else truncation
        z, noise = (part.to(self.device) for part in latents.draw(seeds, g.z_dim, g.noise_dim))
        return g.synthesise(g.style(z, condition.pooled, psi), noise)

    def __call__(self, captions: list[str], seeds: list[int], truncation: float | None = None) -> np.ndarray:
        """uint8 [B, R, R, 3]; a picture depends on its own caption and seed alone."""
        return self.tally.to_uint8(self.generate(self.encode(captions), seeds, truncation))
