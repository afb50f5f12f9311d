"""What the data sets of captioned image files (shards, folder, coco) share: whatever is wrong with a file, go on."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from gigagan.data import captions
from gigagan.data.images import decode
from gigagan.data.item import Item
from gigagan.data.skipped import Skipped, Unusable
from gigagan.errors import UserError


class CaptionedImages(ABC):
    """A map-style data set over image files.

    A sample that cannot be used is counted in ``skipped`` (once, however often it is asked for), and its index yields
    the next usable sample instead: index and files alone determine the item, so that training resumes exactly.

    Args:
        path: the folder, for messages.
        split: "train" or "test".
        resolution: side of the pictures in pixels.
        size: number of samples.
        files: number of files they lie in, for the log.

    Raises:
        UserError: there is no sample, or none that can be used.
    """

    name: str

    def __init__(self, path: Path, split: str, resolution: int, size: int, files: int) -> None:
        if not size:
            raise UserError(f"data set {self.name}: nothing in {path} belongs to the {split} split")
        self.path = path
        self.split = split
        self.resolution = resolution
        self.skipped = Skipped()
        self._size = size
        self._files = files
        self[0]  # a data set with nothing usable fails here and now

    @abstractmethod
    def read(self, index: int) -> tuple[bytes | Path, str]:
        """The image (its file's bytes or path) and the caption of one sample; may raise ``Unusable`` or ``OSError``."""

    @abstractmethod
    def where(self, index: int) -> str:
        """The sample's file, for messages."""

    @abstractmethod
    def contents(self) -> Iterator[tuple[str, int | str | None]]:
        """What the samples are read from, in order: name below the folder, and size or, of a table, its sha256."""

    def below(self, file: Path) -> str:
        """A file's name as seen from the data set's folder."""
        return os.path.relpath(file, self.path)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._size:
            raise IndexError(f"{index} of {self._size}")
        for i in chain(range(index, self._size), range(index)):
            if i in self.skipped.reasons:
                continue
            try:
                image, caption = self.read(i)
                return Item(decode(image, self.resolution), caption)
            except Unusable as e:
                self.skipped.add(i, e, self.where(i))
            except OSError as e:
                self.skipped.add(i, Unusable("unreadable file", e.strerror or str(e)), self.where(i))
        raise UserError(
            f"data set {self.name}: none of the {self._size:,} samples in {self.path} can be used: "
            f"{self.skipped.summary()}"
        )

    def classes(self) -> list[str]:
        return []

    def meaning(self, caption: str) -> str:
        return captions.meaning(caption)

    def flippable(self, caption: str) -> bool:
        return captions.flippable(caption)

    def describe(self) -> str:
        """One line for the log: ``shards: 50,000 images, 5 files, 32 px, 0 skipped``."""
        files = "1 file" if self._files == 1 else f"{self._files:,} files"
        return f"{self.name}: {self._size:,} images, {files}, {self.resolution} px, {self.skipped.summary()}"

    def fingerprint(self) -> str:
        """Of the split and the names and sizes of its files: one that changes without changing size goes unnoticed."""
        digest = hashlib.sha256(self.split.encode())
        for name, what in self.contents():
            digest.update(f"\0{name}\0{what}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:12]


def size_of(file: Path) -> int | None:
    """In bytes; None where there is no such file."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def existing_folder(name: str, path: str) -> Path:
    """``path`` of the data set ``name``, checked."""
    if not path:
        raise UserError(f"data set {name} needs a folder: set data.path")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file; it must be the folder" if folder.exists() else "does not exist"
        raise UserError(f"data set {name}: data.path={path} {what}")
    return folder


def in_split(sample: int, split: str) -> bool:
    """Where the files name no splits, every tenth sample is held out as the test split."""
    return (sample % 10 == 0) == (split == "test")
