"""FID extrapolated to infinitely many images (Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023).

FID's bias falls like 1/N with a slope of its own for each generator. Here it is measured on random subsets of several
sizes, evenly spaced in N up to all images; a straight line through them over 1/N meets the axis at FID-infinity. The
authors take 15 sizes from 5,000 on, each a fresh shuffle of the images, and so is it here, with seeded ones. The bias
by the number of images of the reference stays.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import stdtrit

from evaluation.metrics.checks import Doubt, check_features
from evaluation.metrics.frechet import Moments, Statistics, distance_of_moments, moments
from evaluation.metrics.rows import canonical
from evaluation.metrics.score import Score
from gigagan.errors import UserError

POINTS, SMALLEST = 15, 5000


def fid_infinity(
    features: np.ndarray,
    reference: np.ndarray | Statistics,
    points: int = POINTS,
    smallest: int = SMALLEST,
    seed: int = 0,
) -> Score:
    """FID-infinity of ``features`` [N, D] against ``reference``, features [M, D] or the statistics of such; the
    interval is that of the fit's intercept (Student's t), given these images.

    Args:
        points: how many sizes.
        smallest: images in the smallest subset.
        seed: of the subsets, which do not depend on the order of images.

    Warns where the smallest subset is no larger than the features are wide: there the bias is no straight line in 1/N.
    Raises UserError where the features do not fit, for fewer than three sizes, or too few images to tell them apart.
    """
    given = {} if isinstance(reference, Statistics) else {"reference": reference}
    check_features("FID-infinity", 2, images=features, **given)
    if points < 3 or smallest < 2 or len(features) < smallest + points:
        raise UserError(
            f"FID-infinity: a line through {points} sizes from {smallest} on cannot be drawn with {len(features)} "
            "images: give more images, or the protocol another size for the smallest subset"
        )
    if smallest <= features.shape[1]:
        warnings.warn(
            f"FID-infinity: subsets of {smallest} images over {features.shape[1]} features have singular covariances, "
            "and the line does not hold there: the figure is not to be trusted",
            Doubt,
            stacklevel=2,
        )
    order, rng = canonical(features), np.random.default_rng(seed)
    sizes = np.linspace(smallest, len(features), points).astype(int)
    target = reference if isinstance(reference, Statistics) else moments(reference)
    distances = []
    for size in sizes:
        subset = Moments.of(features, order[rng.permutation(len(order))[:size]])
        distances.append(distance_of_moments(*subset.statistics(), *target))
    value, half = intercept(1 / sizes, np.array(distances))
    return Score(value, len(features), value - half, value + half)


def intercept(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Where the least-squares line through (x, y), [P] each, has x = 0, and half its 95 % interval with P - 2 degrees
    of freedom."""
    centred = x - x.mean()
    slope = (centred @ y) / (centred @ centred)
    value = y.mean() - slope * x.mean()
    variance = np.square(y - value - slope * x).sum() / (len(x) - 2)
    error = np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / (centred @ centred)))
    return float(value), float(stdtrit(len(x) - 2, 0.975) * error)
