"""Random subsets of a feature set that do not depend on the order of its files."""

from __future__ import annotations

import numpy as np


def canonical(features: np.ndarray) -> np.ndarray:
    """Indices [N] that bring the rows of ``features`` [N, D] into an order of their own, whatever order they come in.

    A seeded draw from rows in the order of their files would change with a file's name. The order is by the first
    feature, then the second, and so on, with the sign left aside, so that rounding in the extractor moves few rows.
    """
    big_endian = np.ascontiguousarray(features, dtype=">f4")  # its bytes sort as the numbers do
    return np.argsort(big_endian.view(f"V{4 * features.shape[1]}").ravel(), kind="stable")


def shuffled(features: np.ndarray, seed: int) -> np.ndarray:
    """Indices [N] of a random order that is a function of the rows' contents and the seed alone."""
    return np.random.default_rng(seed).permutation(canonical(features))
