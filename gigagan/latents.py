"""What a picture is drawn from besides its caption: z and the layers' noise, a pure function of its seed."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(seeds: list[int], z_dim: int, noise_dim: int) -> tuple[Tensor, Tensor]:
    """z [B, z_dim] and noise [B, noise_dim], N(0, 1), on the CPU.

    Each picture has its own generator, so it is the same picture in any batch, on any number of processes.
    """
    z = torch.empty(len(seeds), z_dim)
    noise = torch.empty(len(seeds), noise_dim)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        torch.randn(z_dim, generator=generator, out=z[row])
        torch.randn(noise_dim, generator=generator, out=noise[row])
    return z, noise
