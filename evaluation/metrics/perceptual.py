"""How close enlarged pictures are to the ground truth, each to its own: PSNR, SSIM (Table 5), LPIPS (Table 4), and the
same on the features of the judge, which is not LPIPS and has a name of its own.

They are measured picture by picture where the features are extracted, as columns [N, 1] of the same file; a score is a
column's mean. Pictures are compared as bytes, as they are written.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

LEVELS = 255
MOST_PSNR = 10 * float(np.log10(12 * LEVELS**2))  # 58.9 dB: an error no larger than that of rounding to bytes


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 [B, H, W, 3], in dB, [B]: over all channels of a picture at once, and at most
    ``MOST_PSNR``, where two pictures are equal."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    x, y = _channels_first(a), _channels_first(b)
    found = peak_signal_noise_ratio(x, y, data_range=(0, LEVELS), reduction="none", dim=(1, 2, 3))
    return found.clamp(max=MOST_PSNR)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of uint8 [B, H, W, 3], [B]: Gaussian windows of 11 px with sigma 1.5,
    channels averaged."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = _channels_first(a), _channels_first(b)
    return structural_similarity_index_measure(x, y, data_range=(0, LEVELS), reduction="none")


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().contiguous()
