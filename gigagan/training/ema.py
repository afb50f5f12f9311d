"""The averaged generator: the one that is kept, sampled and scored."""

from __future__ import annotations

import copy

import torch
from torch import nn

from gigagan.config import TrainConfig


class EMA:
    """Exponential moving average of a network's parameters, with its half-life in images."""

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        self.source = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = config.ema_kimg * 1000
        self.rampup = config.ema_rampup

    @torch.no_grad()
    def update(self, images: int, batch: int) -> None:
        """Follow the network after a step of ``batch`` images, ``images`` having been seen in all."""
        half_life = self.half_life if not self.rampup else min(self.half_life, images * self.rampup)
        keep = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.network.parameters()), list(self.source.parameters()), 1 - keep)
        for held, now in zip(self.network.buffers(), self.source.buffers(), strict=True):
            held.copy_(now)  # statistics, which are averages already
