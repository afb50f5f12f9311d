"""CLIP score: how well images fit their captions, as the plain cosine of their embeddings (Hessel et al. 2021,
https://arxiv.org/abs/2104.08718): not times 2.5 or 100 and not clamped at 0, as in GigaGAN's evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gigagan.errors import UserError


class Score(NamedTuple):
    """A figure, the number of images (or captions) it rests on, and its 95 % interval where it has one."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


def mean_score(values: np.ndarray) -> Score:
    """Mean of one value per caption [N] with its 95 % interval over captions (normal: N is in the hundreds)."""
    mean, half = float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))
    return Score(mean, len(values), mean - half, mean + half)


def clip_score(image: np.ndarray, text: np.ndarray) -> Score:
    """Mean cosine of unit-norm embeddings ``image`` and ``text`` [N, E], row by row; it lies in [-1, 1]."""
    _check(image, text)
    return mean_score((image.astype(np.float64) * text).sum(axis=1))


def clip_score_shuffled(image: np.ndarray, text: np.ndarray, meanings: Sequence[str]) -> Score:
    """What the CLIP score would be by chance: the mean over *all* pairs of an image with a caption that means
    something else, exact and without a seed. Captions of one meaning share a key in ``meanings`` [N]. The interval is
    over images.

    Raises UserError where all captions mean the same.
    """
    _check(image, text)
    n, group = len(meanings), np.unique(meanings, return_inverse=True)[1]
    # The sum over all captions less that over one's own meaning: no [N, N] table, so 30,000 captions are no matter.
    sums = np.zeros((group.max() + 1, text.shape[1]))
    np.add.at(sums, group, text.astype(np.float64))
    others = n - np.bincount(group)[group]
    if not others.all():
        raise UserError("all captions mean the same: there is nothing to shuffle")
    return mean_score((image * (sums.sum(axis=0) - sums[group])).sum(axis=1) / others)


def _check(image: np.ndarray, text: np.ndarray) -> None:
    if image.shape != text.shape or len(image) < 2:
        raise UserError(f"a CLIP score needs two or more images and as many texts: got {image.shape} and {text.shape}")
    if not (np.isfinite(image).all() and np.isfinite(text).all()):
        raise UserError("the CLIP embeddings hold NaN or infinity: look at the images, then extract them again")
