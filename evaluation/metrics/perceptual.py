"""How close enlarged pictures are to the ground truth, each to its own: PSNR, SSIM (Table 5), LPIPS (Table 4), and the
same on the features of the judge, which is not LPIPS and has a name of its own.

They are measured picture by picture where the features are extracted, as columns [N, 1] of the same file; a score is a
column's mean. Pictures are compared as bytes, as they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gigagan.archive import read_batches
from gigagan.errors import UserError
from gigagan.perceptual import Perceptual
from gigagan.pixels import to_tensor

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


class Pairs:
    """An extractor of ``evaluation.features`` for pictures whose ground truth lies in another archive, in their order.

    Args:
        truth: the archive of ground truths.
        networks: perceptual distances by their metric's name: ``lpips``, ``judge_distance``.
        device: where the networks are.
    """

    def __init__(self, truth: Path, networks: dict[str, Perceptual], device: torch.device) -> None:
        self.path, self.networks, self.device = truth, networks, device
        self._truth: Iterator[tuple[np.ndarray, list[str]]] = read_batches(truth, 1)
        self._n = 0

    def __call__(self, images: np.ndarray, captions: list[str]) -> dict[str, Tensor]:
        """{metric: [B, 1]}.

        Raises UserError where the next pictures of the ground truth have other captions or another size, or are not
        there.
        """
        truth = np.stack([self._next(image, caption) for image, caption in zip(images, captions, strict=True)])
        a, b = torch.from_numpy(images), torch.from_numpy(truth)
        values = {"psnr": psnr(a, b), "ssim": ssim(a, b)}
        if self.networks:
            x, y = to_tensor(a, self.device), to_tensor(b, self.device)
            values |= {name: network.distance(x, y) for name, network in self.networks.items()}
        return {name: value[:, None] for name, value in values.items()}

    def _next(self, image: np.ndarray, caption: str) -> np.ndarray:
        found = next(self._truth, None)
        k, self._n = self._n, self._n + 1
        if found is None:
            raise UserError(f"{self.path}: has {k} pictures, and more are to be compared with them")
        (truth,), (own,) = found
        if own != caption:
            raise UserError(f"{self.path}: picture {k} is {own!r:.60}, and the one to compare is {caption!r:.60}")
        if truth.shape != image.shape:
            (h, w, _), (h0, w0, _) = image.shape, truth.shape
            raise UserError(f"{self.path}: pictures of {w0}x{h0} px do not compare with enlarged ones of {w}x{h} px")
        return truth
