"""Webdataset shards, as img2dataset writes them: tars with ``KEY.jpg`` and ``KEY.txt`` or ``KEY.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gigagan.data import captions, images, tar
from gigagan.data.captioned import CaptionedImages, existing_folder, in_split, size_of
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError

# Offsets and sizes in bytes; a part that is missing has offset 0. Held in one array, not in Python objects: large sets
# have 10^8 samples, and loader processes share the array's memory.
_PARTS = ("image", "txt", "json")
_SAMPLE = np.dtype([("shard", "i4"), ("again", "?"), *((part, "i8", 2) for part in _PARTS)])


class Shards(CaptionedImages):
    """All samples of the tars in a folder, in the order of the tars' names.

    ``train-*.tar`` and ``test-*.tar`` are the splits; if no tar is named so, every tenth sample of ``*.tar`` is the
    test split. The tars' headers are read once, at the start; samples are then read where they lie. The caption is
    ``KEY.txt``, or else ``caption`` in ``KEY.json``. A sample whose key is another's in its tar is skipped.

    Raises:
        UserError: no such folder or no tars of the split in it, a truncated or damaged tar, no usable sample.
    """

    name = "shards"

    def __init__(self, path: str, split: str, resolution: int) -> None:
        folder = existing_folder(self.name, path)
        tars = sorted(folder.glob("*.tar"))
        if not tars:
            raise UserError(f"data set shards: {folder} holds no *.tar files")
        named = [p for p in tars if p.name.startswith(("train-", "test-"))]
        self._tars = [p for p in named if p.name.startswith(f"{split}-")] if named else tars
        if not self._tars:
            raise UserError(
                f"data set shards: {folder} has {named[0].name} but no {split}-*.tar; add one, or rename the "
                "tars so that none is named by split, and every tenth sample is held out"
            )
        parts = [_index(shard, file) for shard, file in enumerate(self._tars)]
        self._samples = np.concatenate(parts)
        if not named:
            self._samples = self._samples[[in_split(i, split) for i in range(len(self._samples))]]
        super().__init__(folder, split, resolution, len(self._samples), len(self._tars))

    def read(self, index: int) -> tuple[bytes, str]:
        sample = self._samples[index]
        # Opened anew each time: threads and forked processes would share an open file's position.
        with open(self._tars[sample["shard"]], "rb") as file:

            def part(name: str) -> bytes:
                offset, size = sample[name].tolist()
                file.seek(offset)
                data = file.read(size) if offset else b""
                if len(data) < size:
                    raise Unusable("shard was cut while in use")
                return data

            if sample["again"]:
                raise Unusable("key of an earlier sample")
            if not sample["image"][0]:
                raise Unusable("no image")
            text = part("txt")
            if text.strip():
                return part("image"), captions.from_text(text)
            if sample["json"][0]:
                return part("image"), captions.from_json(part("json"))
            raise Unusable("empty caption" if sample["txt"][0] else "no caption")

    def contents(self) -> Iterator[tuple[str, int | None]]:
        return ((file.name, size_of(file)) for file in self._tars)

    def where(self, index: int) -> str:
        sample = self._samples[index]
        file = self._tars[sample["shard"]]
        offset = next(int(sample[part][0]) for part in _PARTS if sample[part][0])
        try:
            return f"{file.name}/{tar.name_before(file, offset)}"
        except OSError:  # the shard itself may be what is gone
            return f"{file.name}, byte {offset:,}"


def _index(shard: int, file: Path) -> np.ndarray:
    """The samples of one tar, as ``_SAMPLE`` ``[N]``, in the order in which their keys appear.

    As in webdataset, the key is a member's path up to the first dot of its last part. A name that comes again begins a
    sample of its own, marked ``again``: webdataset refuses it, and mixed into the first one it would miscaption it.
    """
    found: list[tuple[bool, dict[str, tuple[int, int]]]] = []  # by extension
    latest: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for path, offset, size in tar.members(file):
        folder, _, name = path.rpartition("/")
        key, _, extension = name.partition(".")
        extension = extension.lower()
        if not key or _part(extension) not in _PARTS:  # no key: a hidden file, such as a Mac's "._name"
            continue
        again = (folder, key) in latest
        if not again or extension in latest[folder, key]:
            latest[folder, key] = {}
            found.append((again, latest[folder, key]))
        latest[folder, key][extension] = (offset, size)
    rows = []
    for again, places in found:
        parts = {_part(extension): place for extension, place in places.items()}
        rows.append((shard, again, *(parts.get(part, (0, 0)) for part in _PARTS)))
    return np.array(rows, _SAMPLE)


def _part(extension: str) -> str:
    return "image" if f".{extension}" in images.SUFFIXES else extension
