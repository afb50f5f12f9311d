"""Pictures that are none: of one colour throughout, or with values that are no numbers. They are counted wherever
pictures are drawn, timed or scored, and said: in an average they would only look like somewhat worse pictures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gigagan.pixels import to_uint8

HEAD = 256  # pixels: what differs nearly always does so within these, and the rest need not be read


def constant(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> [N] bool: whether all of a picture's pixels are of one colour."""
    n, height, width, channels = pictures.shape
    flat = pictures.reshape(n, height * width, channels)
    found = (flat[:, :HEAD] == flat[:, :1]).all((1, 2))
    for i in np.flatnonzero(found):
        found[i] = (flat[i] == flat[i, 0]).all()
    return found


def non_finite(images: Tensor) -> np.ndarray:
    """[N, C, H, W] -> [N] bool: whether a picture holds NaN or infinity, which bytes would hide."""
    return (~images.isfinite()).flatten(1).any(1).cpu().numpy()


@dataclass
class Tally:
    """How many pictures were looked at, and how many of them are none. What holds NaN is not constant as well."""

    n: int = 0
    n_constant: int = 0
    n_non_finite: int = 0

    def to_uint8(self, images: Tensor) -> np.ndarray:
        """``gigagan.pixels.to_uint8`` of [N, 3, H, W] in [-1, 1], counted."""
        pictures, spoilt = to_uint8(images), non_finite(images)
        self.n += len(pictures)
        self.n_constant += int((constant(pictures) & ~spoilt).sum())
        self.n_non_finite += int(spoilt.sum())
        return pictures

    def look(self, pictures: np.ndarray | Tensor) -> None:
        """Count pictures as ``to_uint8`` takes them, or bytes, uint8 [N, H, W, 3], which hide NaN."""
        if isinstance(pictures, Tensor):
            self.to_uint8(pictures)
            return
        self.n += len(pictures)
        self.n_constant += int(constant(pictures).sum())

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.n += other.n
        self.n_constant += other.n_constant
        self.n_non_finite += other.n_non_finite

    def add_whole(self, parts: Tally) -> None:
        """Count one picture that came in several parts."""
        self.n += 1
        self.n_constant += parts.n_constant == parts.n
        self.n_non_finite += parts.n_non_finite > 0

    def lines(self) -> list[str]:
        """What a reader should know; nothing where all is well."""
        of = f"of {self.n:,} pictures"
        found = []
        if self.n_non_finite:
            found.append(f"{self.n_non_finite:,} {of} held NaN or infinity, which bytes cannot show")
        if self.n_constant:
            found.append(f"{self.n_constant:,} {of} are of one colour throughout")
        return found

    def warn(self, where: object) -> None:
        """Say ``lines`` on stderr."""
        for line in self.lines():
            print(f"warning: {where}: {line}", file=sys.stderr)
