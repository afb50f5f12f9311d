"""Inception score (Salimans et al. 2016, https://arxiv.org/abs/1606.03498): exp(E KL(p(class | x) || p(class))).

Needs no reference. The images are cut into splits, as is the custom, and the score is the mean over splits. Salimans et
al. cut them in the order in which they were drawn, torchmetrics and torch-fidelity after a random shuffle: so it is
here, with a shuffle that is a function of the images and not of their order. torchmetrics and torch-fidelity feed the
logits of the 2015 graph's 1,008 classes without the last layer's bias; which logits these are, the protocol says.

Bias: too small, the more so the fewer images a split has; with 10 splits of 50,000 images it is the usual IS-50k.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp, stdtrit

from evaluation.metrics.checks import check_features
from evaluation.metrics.rows import shuffled
from evaluation.metrics.score import Score

SPLITS = 10


def inception_score(logits: np.ndarray, splits: int = SPLITS, seed: int = 0) -> Score:
    """IS of ``logits`` [N, C], or of log-probabilities, which are logits too; it lies in [1, C].

    Splits differ by one image at most. The interval is Student's t over splits, which share no image: it is that of a
    score with as many images as a split.

    Raises UserError for fewer than two images a split, NaN or infinity.
    """
    check_features("an Inception score", 2 * splits, images=logits)
    parts = np.array_split(shuffled(logits, seed), splits)
    values = np.array([split_score(logits[rows]) for rows in parts])
    mean = float(values.mean())
    if splits < 2:
        return Score(mean, len(logits))
    half = float(stdtrit(splits - 1, 0.975) * values.std(ddof=1) / np.sqrt(splits))
    return Score(mean, len(logits), mean - half, mean + half)


def split_score(logits: np.ndarray) -> float:
    """exp of the mean Kullback-Leibler divergence of each row's classes from those of all rows, [N, C], in float64."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp((np.exp(log_p) * (log_p - log_mean)).sum(axis=1).mean()))
