"""Intervals and tests over training seeds. The replicate is the training seed, never the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats itself takes a second to import

ALPHA = 0.05


@dataclass(frozen=True)
class Mean:
    """A mean over ``n`` seeds with its interval, which is None where there is nothing to estimate it from."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference(Mean):
    """A mean difference over ``n`` shared seeds, its interval, and the p-value of the sign-flip test."""

    p: float


def mean(values: Sequence[float], level: float = 1 - ALPHA) -> Mean:
    """Mean and t-interval over seeds. One seed, or a value that is not finite: no interval."""
    x = np.asarray(values, dtype=np.float64)
    centre, n = float(x.mean()), len(x)
    if n < 2 or not np.isfinite(x).all():
        return Mean(centre, None, None, n)
    half = float(stdtrit(n - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(n))
    return Mean(centre, centre - half, centre + half, n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """``ours - theirs`` over the seeds that both have; None without a shared seed.

    Pairing by seed removes what the seed decides (initial weights, order of the data) from the comparison.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    d = np.array([ours[s] - theirs[s] for s in seeds])
    m = mean(d)
    return Difference(m.value, m.low, m.high, m.n, sign_flip_p(d))


def sign_flip_p(differences: Sequence[float], exact_up_to: int = 16, draws: int = 100_000) -> float:
    """Two-sided sign-flip permutation test of paired differences: no distribution is assumed, only symmetry under H0.

    All ``2**n`` flips are tried up to ``exact_up_to`` pairs, seeded random ones beyond. The smallest possible value is
    ``2 / 2**n``: 1 for a single pair, so one seed never shows anything. Differences that are not finite give 1.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if not np.isfinite(d).all():
        return 1.0
    observed = abs(d.sum()) * (1 - 1e-9)  # a flip that only rounds differently counts as equally extreme
    if n <= exact_up_to:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ d) >= observed))
    signs = np.random.default_rng(0).choice((-1, 1), size=(draws, n))
    return float((1 + np.sum(np.abs(signs @ d) >= observed)) / (1 + draws))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may each be compared with the family-wise level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected.tolist()


def seeds_needed(comparisons: int, alpha: float = ALPHA) -> int:
    """The fewest shared seeds at which the sign-flip test, Holm-corrected, can reach ``alpha`` for every comparison."""
    n = 1
    while comparisons * 2 / 2**n >= alpha:
        n += 1
    return n
