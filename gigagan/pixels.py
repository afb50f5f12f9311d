"""Pictures as bytes, uint8 [B, H, W, 3], and as the networks' tensors, fp32 [B, 3, H, W] in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def to_tensor(pictures: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [B, H, W, 3] -> [B, 3, H, W] in [-1, 1], on the device"""
    pictures = torch.as_tensor(pictures).to(device, non_blocking=True)
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3], rounded and clipped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def shrink(images: Tensor, side: int) -> Tensor:
    """[B, 3, R, R] -> [B, 3, side, side]: the mean over each area, by repeated means over 2 x 2 pixels.

    It makes the small pictures that upsamplers are trained on, and those that they are scored on.

    Raises ValueError where R is not ``side`` times a power of two.
    """
    factor, left = divmod(images.shape[-1], side)
    if left or factor < 1 or factor & (factor - 1):
        raise ValueError(f"{images.shape[-1]} px cannot be halved to {side} px")
    while images.shape[-1] > side:
        images = F.avg_pool2d(images, 2)
    return images
