"""Distances between pictures of one caption, for LPIPS diversity (evaluation/metrics/diversity.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby

import numpy as np
import torch
from torch import Tensor

from gigagan.errors import UserError
from gigagan.perceptual import Perceptual
from gigagan.pixels import to_tensor

COLUMN = "lpips_diversity"
PAIRS = 32  # compared at a time


class Siblings:
    """An extractor that walks over its own copy of the pictures, caption by caption, so that pictures of one caption
    may fall into different batches.

    Args:
        pictures: those that are extracted from, with their captions; read as they are needed.
        network: the distance.
        device: where it is.
    """

    def __init__(self, pictures: Iterable[tuple[np.ndarray, str]], network: Perceptual, device: torch.device) -> None:
        self.pictures, self.network, self.device = pictures, network, device
        self.gives, self.how, self.width = (COLUMN,), "", None
        self.weights = {COLUMN: network.sha}
        self._values = self._walk()

    def given(self, text: bool) -> Sequence[str]:
        return self.gives

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return np.empty(0)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        """{"lpips_diversity": [B, 1]}, for the next pictures of the set.

        Raises UserError where a caption has one picture alone.
        """
        return {COLUMN: torch.tensor([next(self._values) for _ in prepared])[:, None]}

    def _walk(self) -> Iterator[float]:
        for caption, group in groupby(self.pictures, key=lambda picture: picture[1]):
            images = np.stack([image for image, _ in group])
            if len(images) < 2:
                raise UserError(
                    f"{caption!r:.60} has one picture: diversity is of several of each caption, which lie side by side"
                )
            yield from self.distances(to_tensor(images, self.device)).tolist()

    def distances(self, images: Tensor) -> Tensor:
        """Mean distance of each of ``images`` [G, 3, H, W] to the others, [G]."""
        pairs = torch.tensor(list(combinations(range(len(images)), 2)), device=images.device)
        table = images.new_zeros(len(images), len(images))
        for first, second in (part.T for part in pairs.split(PAIRS)):
            table[first, second] = table[second, first] = self.network.distance(images[first], images[second])
        return table.sum(1) / (len(images) - 1)
