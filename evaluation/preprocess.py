"""What is done to a picture before a network scores it, byte for byte as the reference implementations do it.

All of it is Pillow's work on one picture, uint8 [H, W, 3], so that threads can share it out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Change = Callable[[np.ndarray], np.ndarray]

INCEPTION_SIDE = 299
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


def centre_crop(image: np.ndarray) -> np.ndarray:
    """The largest square in the middle: uint8 [H, W, 3] -> [s, s, 3]. An odd remainder is halved as torchvision's
    ``center_crop`` rounds it: to the even side."""
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = round((h - side) / 2), round((w - side) / 2)
    return image[top : top + side, left : left + side]


def resize(image: np.ndarray, side: int, how: str) -> np.ndarray:
    """uint8 [H, W, 3] -> [side, side, 3] by one of ``FILTERS``, rounded to bytes; antialiased, as Pillow always is."""
    return np.asarray(Image.fromarray(image).resize((side, side), FILTERS[how]))


def clean_resize(image: np.ndarray) -> np.ndarray:
    """clean-fid's mode "clean": uint8 [H, W, 3] -> float32 [3, 299, 299] in [0, 255], bicubic and antialiased in
    floating point (Parmar et al. 2022, https://arxiv.org/abs/2104.11222)."""
    size = (INCEPTION_SIDE, INCEPTION_SIDE)
    out, picture = np.empty((3, *size), np.float32), Image.fromarray(image)
    for channel in range(3):  # planes are what Inception wants, and quicker to write than every third number
        out[channel] = picture.getchannel(channel).convert("F").resize(size, Image.Resampling.BICUBIC)
    return out.clip(0, 255, out=out)


def through_tensor(image: np.ndarray) -> np.ndarray:
    """What is left of a picture that was a tensor in [-1, 1] in between, as in GigaGAN's CLIP score: its way back to
    bytes cuts the fraction off, so that all values from 1 to 63 are one less. uint8 [H, W, 3] -> the same"""
    return _THROUGH_TENSOR[image]


def _table() -> np.ndarray:
    """float32 all the way: x / 255, (x - 0.5) / 0.5, (x + 1) * 127.5, cut off."""
    half, one = np.float32(0.5), np.float32(1)
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    return (((x - half) / half + one) * np.float32(127.5)).clip(0, 255).astype(np.uint8)


_THROUGH_TENSOR = _table()


def clip_input(image: np.ndarray, side: int) -> np.ndarray:
    """CLIP's own preprocessing before it normalises: the shorter side to ``side``, bicubic and rounded to bytes, then
    the middle. uint8 [H, W, 3] -> [side, side, 3]"""
    h, w = image.shape[:2]
    scale = side / min(h, w)
    size = (side, int(scale * h)) if w <= h else (int(scale * w), side)
    if (w, h) != size:
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = round((size[1] - side) / 2), round((size[0] - side) / 2)
    return image[top : top + side, left : left + side]
