"""The noise that pictures are under, and the step that takes some of it away.

A picture x and noise e are mixed at time t in [0, 1] by an angle, z = cos(a) x + sin(a) e with a = t pi / 2: the cosine
schedule of Salimans & Ho (arXiv 2202.00512) and Meng et al. (arXiv 2210.03142). At t = 1 nothing of the picture
is left (zero terminal SNR), which is where sampling starts; with any other schedule a student of one step would be
asked for a picture where its training always showed it the rest of one. Networks say v = cos(a) e - sin(a) x, which is
defined everywhere, and in which each of DDIM's steps is a rotation.

All functions take z, v, x and noise [B, 3, R, R] and times [B].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _sides(t: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of the angle of times [B], each [B, 1, 1, 1]"""
    angle = (t * (math.pi / 2)).view(-1, 1, 1, 1)
    return angle.cos(), angle.sin()


def noised(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z at time t."""
    cos, sin = _sides(t)
    return cos * x + sin * noise


def velocity(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What a network is to say at time t."""
    cos, sin = _sides(t)
    return cos * noise - sin * x


def picture(z: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The x that v takes z for."""
    cos, sin = _sides(t)
    return cos * z - sin * v


def ddim(z: Tensor, v: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """z at time s, by one step of DDIM (eta 0) from time t."""
    cos, sin = _sides(t - s)
    return cos * z - sin * v


def velocity_to(z: Tensor, there: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The v whose one step of DDIM from z at time t ends at ``there`` at time s: the inverse of ``ddim``.

    It is the target of Salimans & Ho's Algorithm 2, said in v: for the picture they have
    (z_s - sigma_s / sigma_t z_t) / (alpha_s - sigma_s / sigma_t alpha_t).
    """
    cos, sin = _sides(t - s)
    return (cos * z - there) / sin


def truncated_snr(t: Tensor) -> Tensor:
    """[B, 1, 1, 1]: weights of squared errors of v that weigh those of the picture by max(SNR, 1) (Salimans & Ho,
    Sec. 4): errors of the picture are sin(a) times those of v, and the SNR is cot(a)^2."""
    cos, sin = _sides(t)
    return torch.maximum(cos, sin).square()
