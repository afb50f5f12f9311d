"""The teacher: what it learns from data, and how it is guided."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evaluation.rivals.diffusion import schedule
from evaluation.rivals.diffusion.captions import with_and_without
from gigagan.networks.text import TextFeatures


def data_loss(teacher: nn.Module, x: Tensor, noise: Tensor, t: Tensor, text: TextFeatures) -> Tensor:
    """Mean squared error of v: weights of SNR + 1 on the picture (Salimans & Ho, Sec. 4)."""
    said = teacher(schedule.noised(x, noise, t), t, text)
    return (said - schedule.velocity(x, noise, t)).square().mean()


def guided(
    teacher: nn.Module, z: Tensor, t: Tensor, text: TextFeatures, empty: TextFeatures, guidance: Tensor
) -> Tensor:
    """v with classifier-free guidance (Ho & Salimans): without + guidance [B] (with - without); 1 is none.

    Said of v or of the picture it is the same, as both are mixed with the same z.
    """
    both = teacher(torch.cat([z, z]), torch.cat([t, t]), with_and_without(text, empty))
    with_caption, without = both.chunk(2)
    return without + guidance.view(-1, 1, 1, 1) * (with_caption - without)
