"""Latent consistency distillation (Luo et al., arXiv 2310.04378), of pixels: f takes every point of a guided trajectory
to the picture at its end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evaluation.rivals.diffusion import schedule
from evaluation.rivals.diffusion.config import Config, DistillationConfig
from evaluation.rivals.diffusion.teacher import guided
from gigagan.networks.text import TextFeatures


def boundaries(t: Tensor, train_steps: int, config: DistillationConfig) -> tuple[Tensor, Tensor]:
    """c_skip and c_out [B, 1, 1, 1] at times [B], as LCM's: 1 and 0 at t = 0, where f is the identity."""
    time = (t * train_steps * config.timestep_scaling).view(-1, 1, 1, 1)
    squares = time.square() + config.sigma_data**2
    return config.sigma_data**2 / squares, time / squares.sqrt()


def picture(network: nn.Module, z: Tensor, t: Tensor, text: TextFeatures, guidance: Tensor, config: Config) -> Tensor:
    """f: z at time t -> the picture at the end of its trajectory, [B, 3, R, R]"""
    skip, out = boundaries(t, config.diffusion.train_steps, config.distillation)
    return skip * z + out * schedule.picture(z, network(z, t, text, guidance), t)


def consistency_loss(
    student: nn.Module,
    target: nn.Module,
    teacher: nn.Module,
    z: Tensor,
    t: Tensor,
    text: TextFeatures,
    empty: TextFeatures,
    guidance: Tensor,
    config: Config,
) -> Tensor:
    """f at time t beside the target's f one of the solver's steps nearer to the picture, pseudo-Huber."""
    nearer = (t - 1 / config.distillation.solver_steps).clamp(min=0)
    with torch.no_grad():
        there = schedule.ddim(z, guided(teacher, z, t, text, empty, guidance), t, nearer)
        wanted = picture(target, there, nearer, text, guidance, config)
    error = picture(student, z, t, text, guidance, config) - wanted
    c = config.distillation.huber
    return ((error.square() + c * c).sqrt() - c).mean()
