"""CMMD: maximum mean discrepancy of CLIP's image embeddings (Jayasumana et al. 2024, https://arxiv.org/abs/2401.09603).

k(x, y) = exp(-|x - y|^2 / (2 * 10^2)) on unit-norm embeddings; the estimate is the biased one, the mean over all pairs
with those of a row with itself, times 1000, as in the authors' code (google-research/cmmd, distance.py). Theirs adds up
in float32, which at this scale leaves three digits after the point; here it is float64. The paper's CLIP is ViT-L/14 at
336 px; a figure of another CLIP says so by its protocol.

Bias: too large by about 1/N, small for the images of either side in the thousands.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import check_features
from evaluation.metrics.mmd import kernel_sums
from evaluation.metrics.score import Score
from gigagan.errors import UserError

SIGMA, SCALE = 10.0, 1000.0
UNIT = 1e-3  # how far from 1 an embedding's norm may be


def cmmd(image: np.ndarray, reference: np.ndarray) -> Score:
    """CMMD between unit-norm embeddings ``image`` [N, E] and ``reference`` [M, E], never negative; the interval is over
    images of both sides.

    Raises UserError where they do not fit, or are not of unit norm.
    """
    check_features("CMMD", 2, images=image, reference=reference)
    for of, embeddings in (("images", image), ("reference", reference)):
        norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
        if (off := np.abs(norms - 1)).max() > UNIT:
            raise UserError(
                f"CMMD is of unit-norm CLIP embeddings: row {off.argmax()} of the {of} has the norm "
                f"{norms[off.argmax()]:.4g}; give the embeddings that the CLIP score is of"
            )
    sums = kernel_sums(image, reference, _gaussian)
    value, n, low, high = sums.score(sums.biased())
    return Score(max(0.0, SCALE * value), n, SCALE * low, SCALE * high)  # rounding may leave -1e-13 of equal sets


def _gaussian(product: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-(x + y - 2 * product) / (2 * SIGMA**2))
