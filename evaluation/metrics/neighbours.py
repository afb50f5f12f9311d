"""Balls around features: how far the k-th nearest neighbour is, and what lies within.

Distances are first bounded from float32 products, block by block; where the bounds leave a question open, which is
rare, float64 differences decide. So the answers are those of the exact distances, whatever the order of images or the
size of blocks, ties and duplicates included, for the price of float32 products and with bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.checks import ROWS
from gigagan.errors import UserError

VALUES = 2**24  # in a block of distances: 64 MiB
MOST = 64  # open questions a row; with more, bounds from float64 products are the cheaper way to decide
PRECISIONS = (np.float32, np.float64)
Bounds = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Points:
    """The different rows of a feature set, float32 [U, D], and how many images share each, [U].

    Duplicates would otherwise be ties, each of them to be decided in float64.
    """

    rows: np.ndarray
    counts: np.ndarray

    @property
    def n(self) -> int:
        """Images in all."""
        return int(self.counts.sum())


def distinct(features: np.ndarray) -> Points:
    """``features`` [N, D] without its repetitions."""
    features = np.ascontiguousarray(features, np.float32) + np.float32(0)  # -0 is 0
    whole = features.view(f"V{4 * features.shape[1]}").ravel()
    _, first, counts = np.unique(whole, return_index=True, return_counts=True)
    return Points(features[first], counts)


def squared_radii(points: Points, k: int, values: int = VALUES) -> np.ndarray:
    """Squared distance of each point to the ``k``-th nearest other image, float64 [U]: 0 where ``k`` others equal it.

    Raises UserError for fewer than k + 1 images.
    """
    if points.n <= k or k < 1:
        raise UserError(f"no image has a {k}-th nearest neighbour among {points.n}: give more images, or another k")
    radii, distances = np.zeros(len(points.rows)), _Distances(points, points)
    nearest = min(k, len(points.rows) - 1)
    if not nearest:
        return radii
    for part in distances.parts(values):
        here = np.arange(part.start, part.stop)
        for precision in PRECISIONS:
            lower, of_rows, of_columns = distances.bounds(part, precision)
            lower[here - part.start, here] = np.inf
            # The k-th smallest upper bound lies above the k-th smallest distance: what may lie below it is looked at.
            limit = np.partition(lower + of_columns, nearest - 1)[:, nearest - 1] + of_rows
            row, column = np.nonzero(lower <= np.nextafter(limit, np.inf)[:, None])
            if len(row) <= (MOST + k) * len(here):
                break
        exact = distances.exact(here[row], column)
        ends = np.searchsorted(row, np.arange(len(here) + 1))
        for i, start, end in zip(here, ends[:-1], ends[1:], strict=True):
            radii[i] = _kth(exact[start:end], points.counts[column[start:end]], k + 1 - points.counts[i])
    return radii


def _kth(squared: np.ndarray, counts: np.ndarray, k: int) -> float:
    """The ``k``-th smallest value where each occurs ``counts`` times; 0 where k is not positive."""
    if k <= 0:
        return 0.0
    order = np.argsort(squared, kind="stable")
    return float(squared[order][np.searchsorted(np.cumsum(counts[order]), k)])


@dataclass(frozen=True)
class Inside:
    """In how many images' balls each point lies, [U] of the points, and whether a ball holds any, [U] of the balls."""

    balls: np.ndarray
    holds: np.ndarray


def inside(points: Points, balls: Points, squared: np.ndarray, closed: bool, values: int = VALUES) -> Inside:
    """Which of ``points`` lie in the balls around ``balls`` with the ``squared`` radii [U]; their surface is part of
    ``closed`` balls."""
    of_points, holds = np.zeros(len(points.rows), np.int64), np.zeros(len(balls.rows), bool)
    counts = balls.counts.astype(np.float64)  # a product with integers would be many times slower
    distances = _Distances(points, balls)
    for part in distances.parts(values):
        for precision in PRECISIONS:
            bound, of_rows, of_columns = distances.bounds(part, precision)
            unsure = bound <= np.nextafter(squared.astype(precision), precision(np.inf))
            bound += of_rows[:, None]
            sure = bound < np.nextafter((squared - of_columns).astype(precision), precision(-np.inf))
            unsure &= ~sure
            row, column = np.nonzero(unsure)
            if len(row) <= MOST * len(bound):
                break
        exact = distances.exact(row + part.start, column)
        sure[row, column] = exact <= squared[column] if closed else exact < squared[column]
        of_points[part] = sure @ counts
        holds |= sure.any(axis=0)
    return Inside(of_points, holds)


class _Distances:
    """Squared distances between the rows of ``a`` [U, D] and ``b`` [V, D]."""

    def __init__(self, a: Points, b: Points) -> None:
        self.a, self.b = a.rows, b.rows
        self.mean = b.rows.mean(axis=0, dtype=np.float64)  # products of what is near the origin round less
        self._columns: dict[type, tuple[np.ndarray, np.ndarray]] = {}

    def parts(self, values: int) -> Iterator[slice]:
        """Blocks of a's rows that make up to so many distances."""
        step = max(1, values // len(self.b))
        return (slice(start, min(start + step, len(self.a))) for start in range(0, len(self.a), step))

    def bounds(self, part: slice, precision: type) -> Bounds:
        """Lower bounds [rows, V] from products in float32 or float64, and what leads from there to upper bounds,
        [rows] + [V].

        The products' error is at most D roundings of |x| |y|, that of all else some roundings of |x|^2 + |y|^2 (Higham
        2002, section 3.1), and 2 |x| |y| is no more than |x|^2 + |y|^2.
        """
        error = 1.1 * (self.b.shape[1] + 16) * float(np.finfo(precision).eps) / 2
        if precision not in self._columns:
            self._columns[precision] = self._centred(self.b, precision)
        rows, of_rows = self._centred(self.a[part], precision)
        columns, of_columns = self._columns[precision]
        rows *= -2
        lower = rows @ columns.T
        lower += ((1 - error) * of_rows).astype(precision)[:, None]
        lower += ((1 - error) * of_columns).astype(precision)
        return lower, (2.2 * error * of_rows).astype(precision), (2.2 * error * of_columns).astype(precision)

    def exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Between a[rows] and b[columns], [P], from float64 differences, some at a time."""
        squared, step = np.empty(len(rows)), max(1, VALUES // 4 // self.a.shape[1])
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            apart = self.a[rows[some]].astype(np.float64) - self.b[columns[some]]
            squared[some] = np.square(apart, out=apart).sum(axis=1)
        return squared

    def _centred(self, rows: np.ndarray, precision: type) -> tuple[np.ndarray, np.ndarray]:
        """``rows`` less the mean, and their squared norms in float64."""
        centred, norms = np.empty(rows.shape, precision), np.empty(len(rows))
        for start in range(0, len(rows), ROWS):
            some = slice(start, start + ROWS)
            centred[some] = rows[some] - self.mean
            norms[some] = np.square(centred[some], dtype=np.float64).sum(axis=1)
        if norms.max() > np.finfo(np.float32).max / 8:
            raise UserError("features above 1e18 have no distances in float32: extract the features again")
        return centred, norms
