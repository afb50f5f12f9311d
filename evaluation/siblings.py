"""Distances between pictures of one caption, for LPIPS diversity (evaluation/metrics/diversity.py)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gigagan.archive import read_batches
from gigagan.errors import UserError
from gigagan.perceptual import Perceptual
from gigagan.pixels import to_tensor

COLUMN = "lpips_diversity"
PAIRS = 32  # compared at a time


class Siblings:
    """An extractor of ``evaluation.features``: it walks over its own copy of the images, caption by caption, so that
    pictures of one caption may fall into different batches.

    Args:
        images: the archive that is extracted from.
        network: the distance.
        device: where it is.
    """

    def __init__(self, images: Path, network: Perceptual, device: torch.device) -> None:
        self.path, self.network, self.device = images, network, device
        self._values = self._walk()

    def __call__(self, images: np.ndarray, captions: list[str]) -> dict[str, Tensor]:
        """{"lpips_diversity": [B, 1]}, for the next pictures of the archive.

        Raises UserError where a caption has one picture alone.
        """
        return {COLUMN: torch.tensor([next(self._values) for _ in images])[:, None]}

    def _walk(self) -> Iterator[float]:
        pictures = ((image[0], caption) for image, (caption,) in read_batches(self.path, 1))
        for caption, group in groupby(pictures, key=lambda picture: picture[1]):
            images = np.stack([image for image, _ in group])
            if len(images) < 2:
                raise UserError(
                    f"{self.path}: {caption!r:.60} has one picture: diversity is of several of each caption, "
                    "which lie side by side"
                )
            yield from self.distances(to_tensor(images, self.device)).tolist()

    def distances(self, images: Tensor) -> Tensor:
        """Mean distance of each of ``images`` [G, 3, H, W] to the others, [G]."""
        pairs = torch.tensor(list(combinations(range(len(images)), 2)), device=images.device)
        table = images.new_zeros(len(images), len(images))
        for first, second in (part.T for part in pairs.split(PAIRS)):
            table[first, second] = table[second, first] = self.network.distance(images[first], images[second])
        return table.sum(1) / (len(images) - 1)
