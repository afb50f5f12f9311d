"""LPIPS diversity: how different pictures of one caption are, as the mean LPIPS (Zhang et al. 2018,
https://arxiv.org/abs/1801.03924) over all pairs of them, then over captions.

Distances are measured where features are extracted (evaluation/siblings.py), as a column [N, 1] of the same file: each
picture's mean distance to the others of its caption, which averages over these pictures to the mean over their pairs.
Pictures of one caption lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from evaluation.metrics.score import Score, mean_score
from gigagan.errors import UserError


def lpips_diversity(distances: np.ndarray, captions: Sequence[str]) -> Score:
    """Mean over captions of ``distances`` [N], each picture's mean distance to the others of its caption; ``captions``
    [N] are equal, side by side, for pictures of one. The interval is over captions.

    Raises UserError for fewer than two captions.
    """
    runs = [[i for i, _ in group] for _, group in groupby(enumerate(captions), key=lambda pair: pair[1])]
    if len(runs) < 2:
        raise UserError("diversity wants the pictures of two or more captions: all have the same one")
    return mean_score(np.array([distances[run].mean(dtype=np.float64) for run in runs]))
