"""A figure with what it rests on, and the intervals that several metrics share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Z = 1.959964
"""Quantile of the normal distribution that leaves 2.5 % above it."""


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


def share_score(right: int, n: int) -> Score:
    """A share with its 95 % interval after Wilson (1927), which is sound for shares near 0 and 1 too."""
    share, shrink = right / n, 1 + Z * Z / n
    middle = (share + Z * Z / (2 * n)) / shrink
    reach = Z / shrink * np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Score(share, n, max(0.0, float(middle - reach)), min(1.0, float(middle + reach)))
