"""CLIP score: how well images fit their captions, as the plain cosine of their embeddings (Hessel et al. 2021,
https://arxiv.org/abs/2104.08718): not times 2.5 or 100 and not clamped at 0, as in GigaGAN's evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.checks import ROWS, first_bad
from evaluation.metrics.score import Score, mean_score
from gigagan.errors import UserError


def clip_score(image: np.ndarray, text: np.ndarray) -> Score:
    """Mean cosine of unit-norm embeddings ``image`` and ``text`` [N, E], row by row; it lies in [-1, 1]."""
    _check(image, text)
    cosines = [(image[some].astype(np.float64) * text[some]).sum(axis=1) for some in _blocks(image)]
    return mean_score(np.concatenate(cosines))


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
    for some in _blocks(text):
        np.add.at(sums, group[some], text[some].astype(np.float64))
    others = n - np.bincount(group)[group]
    if not others.all():
        raise UserError("all captions mean the same: there is nothing to shuffle")
    every = sums.sum(axis=0)
    chance = [(image[some] * (every - sums[group[some]])).sum(axis=1) for some in _blocks(image)]
    return mean_score(np.concatenate(chance) / others)


def _check(image: np.ndarray, text: np.ndarray) -> None:
    if image.shape != text.shape or len(image) < 2:
        raise UserError(f"a CLIP score needs two or more images and as many texts: got {image.shape} and {text.shape}")
    if first_bad(image) is not None or first_bad(text) is not None:
        raise UserError("the CLIP embeddings hold NaN or infinity: look at the images, then extract them again")


def _blocks(rows: np.ndarray) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, len(rows), ROWS)]
