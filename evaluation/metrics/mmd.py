"""Maximum mean discrepancy (Gretton et al. 2012, https://jmlr.org/papers/v13/gretton12a.html) between two feature sets.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y). Kernels are summed block by block in float64, so memory is bounded
whatever the number of images, and neither their order nor the size of blocks changes more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.score import Score, Z

BLOCK = 2048  # rows: a block of kernel values takes 32 MiB

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From x.y, |x|^2 and |y|^2, arrays that broadcast, to k(x, y)."""


@dataclass(frozen=True)
class Sums:
    """What every row's kernel with all rows of a set, itself included, adds up to: ``xx`` and ``xy`` [N] of the first
    set's rows, ``yy`` and ``yx`` [M] of the second's; ``x`` [N] and ``y`` [M] are each row's kernel with itself."""

    xx: np.ndarray
    xy: np.ndarray
    yx: np.ndarray
    yy: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def unbiased(self) -> float:
        """Equation 3: pairs of a row with itself are left out. It may be negative."""
        n, m = len(self.x), len(self.y)
        within = (self.xx - self.x).sum() / (n * (n - 1)) + (self.yy - self.y).sum() / (m * (m - 1))
        return float(within - 2 * self.xy.sum() / (n * m))

    def biased(self) -> float:
        """Equation 5: the mean over all pairs. It is never negative, and too large by about 1/N."""
        n, m = len(self.x), len(self.y)
        return float(self.xx.sum() / n**2 + self.yy.sum() / m**2 - 2 * self.xy.sum() / (n * m))

    def score(self, value: float) -> Score:
        """``value`` with the interval of its first-order (Hoeffding) variance over both sets: 4 times that of each
        row's mean kernel with its own set less that with the other, over the number of rows. It is too narrow where the
        two sets are of one distribution, and this part of the variance vanishes."""
        n, m = len(self.x), len(self.y)
        own = (self.xx - self.x) / (n - 1) - self.xy / m
        other = (self.yy - self.y) / (m - 1) - self.yx / n
        half = Z * 2 * float(np.sqrt(own.var(ddof=1) / n + other.var(ddof=1) / m))
        return Score(value, n, value - half, value + half)


def kernel_sums(x: np.ndarray, y: np.ndarray, kernel: Kernel, block: int = BLOCK) -> Sums:
    """Sums of ``kernel`` within and between ``x`` [N, D] and ``y`` [M, D]."""
    xy, yx = _between(x, y, kernel, block)
    norms = [_norms(x, block), _norms(y, block)]
    return Sums(
        xx=_within(x, kernel, block),
        xy=xy,
        yx=yx,
        yy=_within(y, kernel, block),
        x=kernel(norms[0], norms[0], norms[0]),
        y=kernel(norms[1], norms[1], norms[1]),
    )


def _between(x: np.ndarray, y: np.ndarray, kernel: Kernel, block: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    for i in range(0, len(x), block):
        for j in range(0, len(y), block):
            values = _values(x[i : i + block], y[j : j + block], kernel)
            rows[i : i + block] += values.sum(axis=1)
            columns[j : j + block] += values.sum(axis=0)
    return rows, columns


def _within(x: np.ndarray, kernel: Kernel, block: int) -> np.ndarray:
    rows = np.zeros(len(x))
    for i in range(0, len(x), block):
        for j in range(i, len(x), block):  # k(x, x') = k(x', x): half of the blocks say all
            values = _values(x[i : i + block], x[j : j + block], kernel)
            rows[i : i + block] += values.sum(axis=1)
            if j > i:
                rows[j : j + block] += values.sum(axis=0)
    return rows


def _values(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return kernel(x @ y.T, np.square(x).sum(axis=1)[:, None], np.square(y).sum(axis=1)[None])


def _norms(x: np.ndarray, block: int) -> np.ndarray:
    parts = (x[i : i + block].astype(np.float64) for i in range(0, len(x), block))
    return np.concatenate([np.square(part).sum(axis=1) for part in parts])
