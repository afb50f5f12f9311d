"""Improved precision and recall (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991): the share of images that
lie on the manifold of the reference, and the share of the reference that lies on the manifold of the images.

A manifold is the union of the closed balls around a set's features, each reaching to its k-th nearest neighbour
(equations 1 and 2), as in the authors' code. The paper takes VGG-16's features, StudioGAN Inception's.

Bias: with more images balls are smaller, so both change with the number of images on either side; they compare only at
equal numbers.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import check_features
from evaluation.metrics.neighbours import distinct, inside, squared_radii
from evaluation.metrics.score import Score, share_score

K = 3


def precision_recall(features: np.ndarray, reference: np.ndarray, k: int = K) -> dict[str, Score]:
    """``precision`` and ``recall`` of ``features`` [N, D] against ``reference`` [M, D], both in [0, 1].

    Their intervals are Wilson's: of the share of images given the reference's manifold, and of the share of the
    reference given the manifold of these images.

    Raises UserError for features that do not fit, or k images or fewer on a side.
    """
    check_features("precision and recall", k + 1, images=features, reference=reference)
    own, theirs = distinct(features), distinct(reference)
    on_theirs = inside(own, theirs, squared_radii(theirs, k), closed=True).balls > 0
    on_own = inside(theirs, own, squared_radii(own, k), closed=True).balls > 0
    return {
        "precision": share_score(int(own.counts[on_theirs].sum()), own.n),
        "recall": share_score(int(theirs.counts[on_own].sum()), theirs.n),
    }
