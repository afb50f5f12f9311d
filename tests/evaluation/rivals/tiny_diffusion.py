"""The smallest U-Nets, and batches that they see."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from evaluation.rivals.diffusion.captions import conditioning
from evaluation.rivals.diffusion.config import Config, UNetConfig
from evaluation.rivals.diffusion.network import Denoiser, first_weights
from gigagan.clip import Clip
from gigagan.config import DataConfig
from gigagan.training.batches import Batch

CPU = torch.device("cpu")
SIDE = 8
CAPTIONS = ["a red circle on blue", "a green square on black", "two yellow stars", "nothing at all"]
TINY = [f"data.resolution={SIDE}", "unet.channels=4,8", "unet.attention=", "unet.groups=2", "unet.guidance_width=8"]


def config(**sections: dict[str, Any]) -> Config:
    """``config(diffusion={"objective": "halving"})`` over the smallest U-Net."""
    base = Config(
        data=DataConfig(resolution=SIDE), unet=UNetConfig(channels=(4, 8), attention=(), groups=2, guidance_width=8)
    )
    parts = {name: dataclasses.replace(getattr(base, name), **values) for name, values in sections.items()}
    return dataclasses.replace(base, **parts)


def disturb(network: nn.Module, seed: int = 1, by: float = 0.1) -> nn.Module:
    """So that nothing is switched off by a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return network


def denoiser(clip: Clip, seed: int = 0) -> Denoiser:
    return disturb(first_weights(config(), clip, seed)).eval().requires_grad_(False)


def batch(clip: Clip, n: int = 4, first: int = 0) -> Batch:
    """``n`` pictures of noise with their captions and seeds."""
    images = torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(first)) * 2 - 1
    text = conditioning(clip, CPU)([CAPTIONS[k % len(CAPTIONS)] for k in range(n)])
    ones = torch.ones(n)
    return Batch(images, text, text, ones, torch.eye(n, dtype=torch.bool), list(range(first, first + n)))
