"""Fréchet distance between two sets of features (Heusel et al. 2017, https://arxiv.org/abs/1706.08500).

FD = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with the means m and unbiased covariances S of the two sets.
It is called FID only where the features are Inception's.

Bias: finite sets make it too large, by about 1/N (Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023), so figures
compare only at the same numbers of images, and a percentile bootstrap, whose resamples repeat images, does not cover
the figure it is drawn from: none is given here. The spread is that over training seeds.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.linalg

from gigagan.errors import UserError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FD between features ``a`` [N, D] and ``b`` [M, D], in float64; not negative, 0 for equal sets.

    Warns where a set has fewer images than features: its covariance is singular and FD far too large.
    Raises UserError for other shapes, widths that differ, fewer than two images, NaN or infinity.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(f"features of one extractor are [images, width]: got {list(a.shape)} and {list(b.shape)}")
    if min(len(a), len(b)) < 2:
        raise UserError(f"a Fréchet distance needs at least 2 images on either side: got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("the features hold NaN or infinity: look at the images, then extract them again")
    if min(len(a), len(b)) < a.shape[1]:
        warnings.warn(
            f"Fréchet distance of {len(a)} and {len(b)} images over {a.shape[1]} features: too few images, "
            "the figure is far too large",
            stacklevel=2,
        )
    return distance_of_moments(*moments(a), *moments(b))


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and unbiased covariance [D, D] of features [N, D], in float64."""
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def distance_of_moments(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """FD of two Gaussians.

    (S_a S_b)^(1/2) has the trace of (R' S_b R)^(1/2) for any R with R R' = S_a, and that product is symmetric: its
    eigenvalues are real, where clean-fid's ``sqrtm`` of the plain product may turn complex.
    """
    root = _root(cov_a)
    eigenvalues = scipy.linalg.eigvalsh(root.T @ cov_b @ root)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return max(0.0, float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _root(cov: np.ndarray) -> np.ndarray:
    """Some R with R R' = cov: Cholesky's, or where the covariance is singular the one from its eigenvectors."""
    try:
        return scipy.linalg.cholesky(cov, lower=True)
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(cov)
        return vectors * np.sqrt(np.maximum(values, 0))
