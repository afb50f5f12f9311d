"""Meng et al.'s distillation of guided diffusion (arXiv 2210.03142): first the guidance, then half the steps at a time.

Both losses are Salimans & Ho's, of the picture with truncated SNR as weights, said in v.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evaluation.rivals.diffusion import schedule
from evaluation.rivals.diffusion.teacher import guided
from gigagan.networks.text import TextFeatures


def _loss(said: Tensor, wanted: Tensor, t: Tensor) -> Tensor:
    return (schedule.truncated_snr(t) * (said - wanted).square()).mean()


def guidance_loss(
    student: nn.Module,
    teacher: nn.Module,
    z: Tensor,
    t: Tensor,
    text: TextFeatures,
    empty: TextFeatures,
    guidance: Tensor,
) -> Tensor:
    """Stage 1 (Sec. 3.1): in one evaluation what the teacher says in two, for any strength of guidance [B]."""
    with torch.no_grad():
        wanted = guided(teacher, z, t, text, empty, guidance)
    return _loss(student(z, t, text, guidance), wanted, t)


@torch.no_grad()
def two_steps(teacher: nn.Module, z: Tensor, t: Tensor, steps: int, text: TextFeatures, guidance: Tensor) -> Tensor:
    """The v whose single step of 1 / ``steps`` ends where two of the teacher's, of half that, do (Sec. 3.2)."""
    half = 0.5 / steps
    middle = schedule.ddim(z, teacher(z, t, text, guidance), t, t - half)
    end = schedule.ddim(middle, teacher(middle, t - half, text, guidance), t - half, t - 2 * half)
    return schedule.velocity_to(z, end, t, t - 2 * half)


def halving_loss(
    student: nn.Module, teacher: nn.Module, z: Tensor, t: Tensor, steps: int, text: TextFeatures, guidance: Tensor
) -> Tensor:
    """Stage 2: a student of ``steps`` steps, of a teacher of twice as many that takes the guidance itself."""
    wanted = two_steps(teacher, z, t, steps, text, guidance)
    return _loss(student(z, t, text, guidance), wanted, t)
