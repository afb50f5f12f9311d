"""Fréchet distance between two sets of features (Heusel et al. 2017, https://arxiv.org/abs/1706.08500).

FD = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with the means m and unbiased covariances S of the two sets.
It is called FID only where the features are Inception's.

Bias: finite sets make it too large, by about 1/N (Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023), so figures
compare only at the same numbers of images. A percentile bootstrap, whose resamples repeat images, lies wholly above the
figure it is drawn from; the interval here is a jackknife's (Efron & Stein 1981): of FD at this N, over images, with the
reference as it is. The spread over training seeds is another matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.linalg import blas, lapack
from scipy.special import stdtrit

from evaluation.metrics.checks import ROWS, Doubt, check_features
from evaluation.metrics.rows import shuffled
from evaluation.metrics.score import Score
from gigagan.errors import UserError

BLOCKS = 20


class Statistics(NamedTuple):
    """Mean [D] and unbiased covariance [D, D] of a set of features, in float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Moments:
    """Mean and covariance of any number of features, batch by batch, in float64 and the memory of one [D, D] matrix.

    Batches are centred before they are multiplied and joined by Chan, Golub & LeVeque's update (1979), so no digits are
    lost where means are large, and neither the size of batches nor their order changes more than rounding.
    """

    def __init__(self, width: int) -> None:
        self.n = 0
        self.mean = np.zeros(width)
        self._products = np.zeros((width, width), order="F")  # of centred features, the lower triangle alone

    @classmethod
    def of(cls, features: np.ndarray, rows: np.ndarray | None = None) -> Moments:
        """Those of ``features`` [N, D], or of the named rows; never more than some of them are in memory at once."""
        moments = cls(features.shape[1])
        for start in range(0, len(features if rows is None else rows), ROWS):
            some = slice(start, start + ROWS)
            moments.add(features[some if rows is None else rows[some]])
        return moments

    def add(self, features: np.ndarray) -> None:
        """Take in features [B, D]."""
        for start in range(0, len(features), ROWS):
            rows = features[start : start + ROWS].astype(np.float64)
            mean = rows.mean(axis=0)
            rows -= mean
            self._products = blas.dsyrk(1.0, rows.T, beta=1.0, c=self._products, overwrite_c=1, lower=1)
            self._join(len(rows), mean)

    def merge(self, other: Moments) -> None:
        """Take in what ``other`` has seen."""
        if other.n:
            self._products += other._products
            self._join(other.n, other.mean)

    def without(self, part: Moments) -> Moments:
        """The moments of all that was seen but for ``part``, which must have been merged before."""
        rest = Moments(len(self.mean))
        rest.n = self.n - part.n
        rest.mean = (self.n * self.mean - part.n * part.mean) / rest.n
        weight = rest.n * part.n / self.n
        products = self._products - part._products
        rest._products = blas.dsyr(-weight, part.mean - rest.mean, a=products, overwrite_a=1, lower=1)
        return rest

    def covariance(self) -> np.ndarray:
        """Unbiased, [D, D]."""
        lower = np.tril(self._products) / (self.n - 1)
        return lower + np.tril(lower, -1).T

    def statistics(self) -> Statistics:
        return Statistics(self.mean, self.covariance())

    def _join(self, n: int, mean: np.ndarray) -> None:
        weight, apart = self.n * n / (self.n + n), mean - self.mean
        self._products = blas.dsyr(weight, apart, a=self._products, overwrite_a=1, lower=1)
        self.n += n
        self.mean = self.mean + apart * (n / self.n)


def frechet(features: np.ndarray, reference: np.ndarray | Statistics, blocks: int = BLOCKS, seed: int = 0) -> Score:
    """FD between ``features`` [N, D] and ``reference``, features [M, D] or the statistics of such, with the jackknife's
    interval over images.

    Images fall into ``blocks`` by a seeded draw that does not depend on their order. There is no interval where a
    covariance is singular without one block.

    Raises UserError as ``frechet_distance``.
    """
    _check(features, reference)
    order = shuffled(features, seed)
    blocks = min(blocks, len(features) // 2)
    parts = [Moments.of(features, rows) for rows in np.array_split(order, max(blocks, 1))]
    return jackknife(parts, reference if isinstance(reference, Statistics) else moments(reference))


def jackknife(parts: Sequence[Moments], reference: Statistics) -> Score:
    """FD of all ``parts`` together, with the interval of the delete-a-block jackknife.

    With FD_b the distance without part b of B: variance = (B - 1) / B * sum_b (FD_b - mean)^2, and Student's t with
    B - 1 degrees. Parts are random shares of the images, of about one size.
    """
    whole = Moments(len(reference[0]))
    for part in parts:
        whole.merge(part)
    value = distance_of_moments(*whole.statistics(), *reference)
    if len(parts) < 2 or whole.n - max(part.n for part in parts) <= len(whole.mean):
        return Score(value, whole.n)
    left = np.array([distance_of_moments(*whole.without(part).statistics(), *reference) for part in parts])
    spread = np.sqrt((len(left) - 1) * left.var())
    half = float(stdtrit(len(left) - 1, 0.975) * spread)
    return Score(value, whole.n, value - half, value + half)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FD between features ``a`` [N, D] and ``b`` [M, D], in float64; not negative, 0 for equal sets.

    Warns where a set has fewer images than features: its covariance is singular and FD far too large.
    Raises UserError for other shapes, widths that differ, fewer than two images, NaN or infinity.
    """
    _check(a, b)
    return distance_of_moments(*moments(a), *moments(b))


def moments(features: np.ndarray) -> Statistics:
    """Mean [D] and unbiased covariance [D, D] of features [N, D], in float64."""
    return Moments.of(features).statistics()


def distance_of_moments(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """FD of two Gaussians.

    (S_a S_b)^(1/2) has the trace of (L' S_b L)^(1/2), L being Cholesky's factor of S_a, and that product is symmetric:
    its eigenvalues are real, where clean-fid's ``sqrtm`` of the plain product may turn complex. Where a covariance is
    singular, the trace is the sum of the singular values of R_b' R_a with R R' = S, so that rounding is not magnified
    by a root.

    Raises UserError where the two are of different widths.
    """
    width = len(mean_a)
    if any(array.shape != (width,) * array.ndim for array in (cov_a, mean_b, cov_b)):
        raise UserError(
            f"statistics of different extractors do not compare: means of {width} and {len(mean_b)} features, "
            f"covariances {list(cov_a.shape)} and {list(cov_b.shape)}"
        )
    root, other = _cholesky(cov_a), _cholesky(cov_b)
    if root is None or other is None:
        product = _root(cov_b).T @ _root(cov_a)
        cross = scipy.linalg.svdvals(product).sum() if product.size else 0.0
    else:
        product, _ = lapack.dsygst(cov_b, root, itype=2, lower=1)
        eigenvalues = scipy.linalg.eigh(product, eigvals_only=True, driver="ev", overwrite_a=True)
        cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return max(0.0, float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _check(a: np.ndarray, b: np.ndarray | Statistics) -> None:
    if isinstance(b, Statistics):
        check_features("a Fréchet distance", 2, images=a)
        if a.shape[1] != len(b.mean):
            raise UserError(
                f"statistics of {len(b.mean)} features do not compare with images of {a.shape[1]}: they are of another "
                "extractor, or of pictures of another size"
            )
        numbers = [len(a)]
    else:
        check_features("a Fréchet distance", 2, images=a, reference=b)
        numbers = [len(a), len(b)]
    if min(numbers) <= a.shape[1]:
        warnings.warn(
            f"Fréchet distance of {' and '.join(map(str, numbers))} images over {a.shape[1]} features: too few images, "
            "a covariance is singular and the figure far too large",
            Doubt,
            stacklevel=3,
        )


def _cholesky(cov: np.ndarray) -> np.ndarray | None:
    """Lower L with L L' = cov, or None where the covariance is singular, if only to rounding."""
    try:
        root = scipy.linalg.cholesky(cov, lower=True)
    except scipy.linalg.LinAlgError:
        return None
    return root if np.square(root.diagonal().min()) > _rounding(cov.diagonal().max(), len(cov)) else None


def _root(cov: np.ndarray) -> np.ndarray:
    """Some R [D, rank] with R R' = cov, from its eigenvectors; eigenvalues of rounding's size are taken for zero."""
    values, vectors = scipy.linalg.eigh(cov)
    real = values > _rounding(values[-1], len(cov))
    return vectors[:, real] * np.sqrt(values[real])


def _rounding(largest: float, width: int) -> float:
    """What an eigenvalue of 0 may come out as beside one of ``largest``."""
    return width * np.finfo(np.float64).eps * largest
