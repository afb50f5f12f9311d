"""What is drawn for each picture that the discriminator and the CLIP see: DiffAug (Zhao et al. 2020) and crops.

All of it follows from the picture's own seed, so that it is the same in any batch, and in a run that was resumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gigagan.networks.parameters import derive

SHIFT, HOLE = 1 / 8, 1 / 5  # of the side: the longest translation, the side of the hole (code)
DRAWS = 7  # numbers that ``diff_augment`` takes for a picture


def uniform(seeds: list[int], purpose: str, n: int) -> Tensor:
    """[B, n] in [0, 1), on the CPU; a row depends on its own seed and on the purpose alone."""
    generators = (torch.Generator().manual_seed(derive(seed, purpose)) for seed in seeds)
    return torch.stack([torch.rand(n, generator=generator) for generator in generators])


def diff_augment(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness, saturation and contrast, a translation, a hole; differentiable. What is shifted in, or cut out, is 0.

    images [B, 3, R, R] in [-1, 1], draws [B, DRAWS] in [0, 1)
    """
    brightness, saturation, contrast, *places = draws.to(images.device).T
    x = images + (brightness - 0.5)[:, None, None, None]
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)[:, None, None, None]
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (contrast + 0.5)[:, None, None, None]

    side = images.shape[-1]
    down, right, top, left = places
    i = torch.arange(side, device=images.device)
    longest = int(side * SHIFT + 0.5)
    # As products with a shifted identity on either side: rows move down, columns move right.
    rows, columns = (
        (i[:, None] - i == (draw * (2 * longest + 1)).long()[:, None, None] - longest).to(x.dtype)[:, None]
        for draw in (down, right)
    )
    x = rows @ x @ columns.transpose(-1, -2)

    hole = int(side * HOLE + 0.5)
    # Its centre may be any pixel, so that a part of it may lie outside.
    in_row, in_column = (i - (draw * (side + 1 - hole % 2)).long()[:, None] + hole // 2 for draw in (top, left))
    cut = ((in_row >= 0) & (in_row < hole))[:, :, None] & ((in_column >= 0) & (in_column < hole))[:, None]
    return x * ~cut[:, None]


def crop(images: Tensor, side: int, draws: Tensor) -> Tensor:
    """A square of each picture, at a place of its own. [B, 3, R, R], draws [B, 2] in [0, 1) -> [B, 3, side, side]"""
    corners = (draws * (images.shape[-1] - side + 1)).long().tolist()
    return torch.stack([x[:, i : i + side, j : j + side] for x, (i, j) in zip(images, corners, strict=True)])
