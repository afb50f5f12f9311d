"""The losses of Sec. 3.4 and 3.5 as pure functions (Eq. 6, 8 and 9, Table A2).

D's logits are high for "real and fitting the caption". Every function returns a scalar: the mean over images (and over
the positions of a prediction), summed over the predictions (i, j) with their weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gigagan.config import LossConfig
from gigagan.networks.discriminator import Predictions

Weights = dict[tuple[int, int], float]


def prediction_weights(
    config: LossConfig, entries: range, exits: range, n_levels: int, early_exit_weight: float
) -> Weights:
    """The weight of every D_ij: level i's share of the scale ratio, times ``early_exit_weight`` for j < L (Table A2).

    Deviation: the weights of a discriminator with fewer entries or exits are scaled to the sum that all of them would
    have, so that leaving multi-scale input or output out changes where the adversarial signal comes from, not how much
    there is.
    """

    def raw(levels: range, layers: range) -> Weights:
        ratio = [config.scale_ratio[min(i, len(config.scale_ratio) - 1)] for i in range(n_levels)]
        total = sum(ratio)
        return {
            (i, j): ratio[i] / total * (1.0 if j == n_levels else early_exit_weight)
            for i in levels
            for j in layers
            if j > i
        }

    everything = sum(raw(range(n_levels), range(1, n_levels + 1)).values())
    mine = raw(entries, exits)
    scale = everything / sum(mine.values())
    return {key: weight * scale for key, weight in mine.items()}


def _weighted(
    predictions: Predictions, weights: Weights, term: Callable[[Tensor], Tensor], rows: Tensor | None
) -> Tensor:
    total = torch.zeros((), device=next(iter(predictions.values())).device)
    for key, weight in weights.items():
        values = term(predictions[key]).flatten(1).mean(1)  # [B]
        total = total + weight * (values if rows is None else values * rows).mean()
    return total


def called_real(predictions: Predictions, weights: Weights, rows: Tensor | None = None) -> Tensor:
    """softplus(-D): what is paid for logits that do not say "real". ``rows`` [B] weights the images (None = all 1)."""
    return _weighted(predictions, weights, lambda logits: F.softplus(-logits), rows)


def called_fake(predictions: Predictions, weights: Weights, rows: Tensor | None = None) -> Tensor:
    """softplus(D): what is paid for logits that do not say "fake"."""
    return _weighted(predictions, weights, F.softplus, rows)


def discriminator_gan(real: Predictions, fake: Predictions, weights: Weights) -> Tensor:
    """Non-saturating logistic loss, D's side, over all scales (V_GAN in Eq. 6)."""
    return called_real(real, weights) + called_fake(fake, weights)


def generator_gan(fake: Predictions, weights: Weights) -> Tensor:
    """Non-saturating logistic loss, G's side."""
    return called_real(fake, weights)


def matching_aware(mismatched: Predictions, weights: Weights, rows: Tensor) -> Tensor:
    """V_match (Eq. 8), for one kind of images: paired with another caption c^, they are to be called fake.

    In D's step for real and for generated (detached) images; in G's step, if it is switched on, for generated ones,
    where minimising softplus(D(G(c), c^)) asks for pictures that do not pass for another caption.

    ``rows`` [B] is 0 for an image for which the batch holds no caption of another meaning.
    """
    return called_fake(mismatched, weights, rows)


def clip_contrastive(images: Tensor, texts: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """L_CLIP (Eq. 9): cross-entropy of each picture against the captions of the whole batch, and any further ones.

    Deviation: a temperature, which Eq. 9 does not print; all captions of the same meaning as positives; and, where a
    batch is small, further training captions, the same in every step.

    images [B, E] and texts [N, E] of unit norm, positives [B, N] bool: the captions that mean what picture b was asked
    for; all of them count as right.
    """
    logits = images @ texts.T / temperature
    right = logits.masked_fill(~positives, -torch.inf)
    return (logits.logsumexp(1) - right.logsumexp(1)).mean()


def r1_penalty(logits: Tensor, images: list[Tensor], gamma: float) -> Tensor:
    """R1 (Mescheder et al. 2018): gamma / 2 * E |d sum D / d x|^2, over all levels' inputs together.

    logits [B] (each image's own sum of predictions), images: the inputs [B, 3, r, r] with gradients enabled.
    """
    gradients = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * sum((g.square().sum((1, 2, 3)) for g in gradients), torch.zeros_like(logits)).mean()
