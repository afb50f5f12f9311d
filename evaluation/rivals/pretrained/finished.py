"""Finished pictures as a Sampler: a folder (or zip, or tar) of them, each with its caption."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.image_sets import ImageSet
from evaluation.rivals.pretrained import folder as folders
from evaluation.rivals.pretrained.settings import Pretrained
from gigagan.errors import short
from gigagan.pixels import to_tensor


class Look(NamedTuple):
    """What would be loaded: the digest of its files, and a line for logs."""

    sha: str
    description: str


class FinishedPictures:
    """Hands out the picture that a caption has; where several have it, the one whose number is the seed, or else that
    which the seed comes to, counted around.

    Attributes as PipelineSampler's. Nothing is drawn, so there is nothing to time or to count.
    """

    separable = timeable = False
    nfe: int | None = None
    params_m: float | None = None
    n_blackened = 0
    networks: tuple[nn.Module, ...] = ()
    encoders: tuple[nn.Module, ...] = ()
    dtype = "fp32"

    def __init__(self, settings: Pretrained, models: Path, name: str, device: torch.device) -> None:
        """``name``: of the pictures' folder or archive. Raises UserError where they lack, lack captions, are not square
        or of another size than is configured, or are not
        the expected ones."""
        path = folders.below(models, name, "the pictures, with a captions.txt (a line each) or a .txt beside each,")
        captions = folders.below(models, settings.captions, "the captions") if settings.captions else None
        self.settings, self.device = settings, device
        self._set = ImageSet(path, captions)
        if self._set.captions is None:
            raise settings.wrong(f"{path}: the pictures have no captions: put captions.txt (a line each) beside them")
        self._of: dict[str, list[int]] = defaultdict(list)
        for index, caption in enumerate(self._set.captions):
            self._of[caption].append(index)
        height, width, _ = self._set.decode(0).shape
        asked = settings.resolution if settings.adapter == "images" else 0
        if height != width or asked not in (0, height):
            wanted = f"{asked} x {asked}" if asked else "square"
            raise settings.wrong(f"{self._set.where(0)}: is {width} x {height} px, not {wanted}")
        self.resolution = height
        both = json.dumps([self._set.sha256(), self._set.captions])
        self.sha = hashlib.sha256(both.encode()).hexdigest()
        if settings.adapter == "images":
            settings.check_files(self.sha)
        self.description = f"{len(self._set):,} finished pictures of {path.name}, {height} px: nothing to time"

    def encode(self, captions: list[str]) -> list[str]:
        """The captions themselves."""
        return list(captions)

    def generate(self, condition: list[str], seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1]. Raises UserError for a caption without a picture, and for one of another size."""
        return to_tensor(self(condition, seeds), self.device)

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]; errors as ``generate``."""
        pictures = []
        for caption, seed in zip(captions, seeds, strict=True):
            index = self._index(caption, seed)
            pictures.append(self._set.decode(index))
            height, width, _ = pictures[-1].shape
            if height != self.resolution or width != self.resolution:
                size = f"{width} x {height} px, the first {self.resolution} x {self.resolution}"
                raise self.settings.wrong(f"{self._set.where(index)}: is {size}: a set has one size")
        return np.stack(pictures)

    def _index(self, caption: str, seed: int) -> int:
        of = self._of.get(caption, [])
        if not of:
            raise self.settings.wrong(f"{self._set.path}: has no picture for the caption {short(caption)}")
        return seed if seed in of else of[seed % len(of)]


def look(settings: Pretrained, models: Path) -> Look:
    """Raises UserError as FinishedPictures."""
    found = FinishedPictures(settings, models, settings.folder, torch.device("cpu"))
    return Look(found.sha, found.description)


def load(settings: Pretrained, models: Path, device: torch.device) -> FinishedPictures:
    """Raises UserError as FinishedPictures."""
    return FinishedPictures(settings, models, settings.folder, device)
