"""Random subsets of a feature set that do not depend on the order of its files."""

from __future__ import annotations

import hashlib

import numpy as np

from evaluation.metrics.checks import ROWS

FIRST = 8  # features that order rows


def canonical(features: np.ndarray) -> np.ndarray:
    """Indices [N] that bring the rows of ``features`` [N, D] into an order of their own, whatever order they come in.

    A seeded draw from rows in the order of their files would change with a file's name. The order is by the first
    features, one after another with the sign left aside, so that rounding in the extractor moves few rows; where those
    are equal, by a hash of the whole row. So the keys of a set stay small beside it.
    """
    width = 4 * min(FIRST, features.shape[1])
    keys = np.empty(len(features), [("first", f"V{width}"), ("hash", "V8")])
    for start in range(0, len(features), ROWS):
        big_endian = np.ascontiguousarray(features[start : start + ROWS], dtype=">f4")  # bytes sort as the numbers do
        some = keys[start : start + ROWS]
        some["first"] = np.ascontiguousarray(big_endian[:, :FIRST]).view(f"V{width}").ravel()
        some["hash"] = [hashlib.blake2b(row, digest_size=8).digest() for row in big_endian]
    return np.argsort(keys.view(f"V{width + 8}"), kind="stable")


def shuffled(features: np.ndarray, seed: int) -> np.ndarray:
    """Indices [N] of a random order that is a function of the rows' contents and the seed alone."""
    return np.random.default_rng(seed).permutation(canonical(features))
