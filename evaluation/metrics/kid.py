"""Kernel Inception distance (Binkowski et al. 2018, https://arxiv.org/abs/1801.01401): the unbiased MMD^2 with the
kernel k(x, y) = (x.y / D + 1)^3, D being the width of the features.

By custom it is the mean over many random subsets, whose size does not change what is expected of it: unlike FD it has
no bias by the number of images. It is called KID only where the features are Inception's.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import check_features
from evaluation.metrics.mmd import Kernel, kernel_sums
from evaluation.metrics.rows import canonical
from evaluation.metrics.score import Score, Z
from gigagan.errors import UserError

DEGREE, COEFFICIENT = 3, 1.0
SUBSETS, SIZE = 100, 1000


def kid(
    features: np.ndarray, reference: np.ndarray, subsets: int = SUBSETS, size: int | None = SIZE, seed: int = 0
) -> Score:
    """KID between ``features`` [N, D] and ``reference`` [M, D], not times 1000.

    Args:
        subsets: how many are drawn, from either side alike.
        size: images in each, or as many as the smaller side has, as clean-fid has it; what is expected of KID does not
            depend on it. None: the estimate from all pairs of images, without subsets.
        seed: of the subsets, which do not depend on the order of images.

    The interval is over images of both sides. That of subsets counts how far they overlap: with v the variance between
    subsets and r = size / min(N, M) their correlation, the mean of S subsets has v / (1 - r) * (1 / S + (1 - 1 / S) r).
    Where a subset takes in all images of a side there is none.

    Raises UserError where the features do not fit, or subsets would be of less than two images.
    """
    check_features("KID", 2, images=features, reference=reference)
    if size is None:
        sums = kernel_sums(features, reference, polynomial(features.shape[1]))
        return sums.score(sums.unbiased())
    if size < 2:
        raise UserError(f"KID: subsets of {size} images have no distances: give the protocol another size")
    smallest = min(len(features), len(reference))
    size = min(size, smallest)
    draws = subset_rows(features, reference, subsets, size, seed)
    values = np.array([subset_mmd(features[own], reference[theirs]) for own, theirs in draws])
    mean, overlap = float(values.mean()), size / smallest
    if subsets < 2 or overlap == 1:
        return Score(mean, len(features))
    variance = values.var(ddof=1) / (1 - overlap) * (1 / subsets + (1 - 1 / subsets) * overlap)
    half = Z * float(np.sqrt(variance))
    return Score(mean, len(features), mean - half, mean + half)


def subset_rows(
    features: np.ndarray, reference: np.ndarray, subsets: int, size: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows of either side that each subset holds, [size] and [size], drawn without repetition."""
    rng, orders = np.random.default_rng(seed), (canonical(features), canonical(reference))
    return [tuple(order[rng.choice(len(order), size, replace=False)] for order in orders) for _ in range(subsets)]


def subset_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD^2 of ``x`` [N, D] and ``y`` [M, D] with KID's kernel, in float64."""
    return kernel_sums(x, y, polynomial(x.shape[1])).unbiased()


def polynomial(width: int) -> Kernel:
    """(x.y / width + 1)^3"""
    return lambda product, *_: (product / width + COEFFICIENT) ** DEGREE
