"""Hinge loss (Sec. 3.2), CLIP guidance (Sec. 3.3) and the blur of what D sees, as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.rivals.stylegan_t.config import LossConfig


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mean over pictures and tokens of what real logits lack to 1, and fake ones to -1. Any shapes -> scalar"""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """The generator's side, which has no hinge. Any shape -> scalar"""
    return -fake.mean()


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """The squared angle between unit vectors [B, E], in radians^2: [B]

    By its half's sine, the chord's half: where the angle is 0, that has a gradient, and arccos has none.
    """
    return 4 * ((a - b).norm(dim=1) / 2).clamp(max=1 - 1e-6).arcsin().square()


def blur_sigma(config: LossConfig, images_seen: int) -> float:
    """px: falls evenly to 0 over the first ``blur_kimg`` thousand images."""
    if not config.blur_kimg:
        return 0.0
    return config.blur_sigma * max(1 - images_seen / (1000 * config.blur_kimg), 0.0)


def blur(images: Tensor, sigma: float) -> Tensor:
    """[B, 3, R, R] -> [B, 3, R, R], with weights 2^-(distance / sigma)^2 out to 3 sigma; beyond the edge all is 0.

    Below a third of a pixel there is nothing to blur with.
    """
    reach = int(3 * sigma)
    if not reach:
        return images
    taps = torch.arange(-reach, reach + 1, device=images.device)
    total = torch.exp2(-(taps / sigma).square()).sum()
    i = torch.arange(images.shape[-1], device=images.device)
    distance = (i[:, None] - i).abs()
    # Separable, and as two products with one matrix: at first the filter is wider than the picture.
    weights = torch.exp2(-(distance / sigma).square()) / total * (distance <= reach)
    return weights @ images @ weights
