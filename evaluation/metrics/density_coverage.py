"""Density and coverage (Naeem et al. 2020, https://arxiv.org/abs/2002.09797): in how many of the reference's balls an
image lies on average, over k, and the share of the reference's balls that hold an image.

Only the reference has balls, each reaching to its k-th nearest neighbour, so outliers among the images make neither
figure better. Balls are open, as in the authors' code: on its surface a point is outside.

Bias: coverage rises with the number of images, and both depend on that of the reference. With equal distributions, and
as many images as there are in the reference, one expects a density of 1 and a coverage of 1 - 2^-k.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import check_features
from evaluation.metrics.neighbours import distinct, inside, squared_radii
from evaluation.metrics.score import Score, mean_score, share_score

K = 5


def density_coverage(features: np.ndarray, reference: np.ndarray, k: int = K) -> dict[str, Score]:
    """``density`` (not negative, may exceed 1) and ``coverage`` (in [0, 1]) of ``features`` [N, D] against
    ``reference`` [M, D].

    The interval of density is over images, given the reference; that of coverage is Wilson's, over the reference,
    given the images.

    Raises UserError for features that do not fit, k images of the reference or fewer, or fewer than two to score.
    """
    check_features("density and coverage", 2, images=features, reference=reference)
    own, theirs = distinct(features), distinct(reference)
    found = inside(own, theirs, squared_radii(theirs, k), closed=False)
    density = mean_score(np.repeat(found.balls, own.counts) / k)
    return {
        "density": density,
        "coverage": share_score(int(theirs.counts[found.holds].sum()), theirs.n),
    }
