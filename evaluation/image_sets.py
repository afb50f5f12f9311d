"""Any set of pictures to score: a folder, a zip or a plain tar, with captions where there are any.

Pictures stand in the natural order of their names (``2.png`` before ``10.png``), which is how GigaGAN's evaluation code
pairs them with the lines of ``captions.txt``. They are decoded as clean-fid decodes them, by Pillow's
``convert("RGB")`` alone: EXIF rotation and transparency count in training, and in no reference implementation of FID.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluation import mlperf_log
from evaluation.caption_files import of_one, parsed
from gigagan.data import tar
from gigagan.data.folder import files_below
from gigagan.data.images import FORMATS, SUFFIXES
from gigagan.errors import UserError

Read = Callable[[str], bytes]
DEEP = ("I", "F")
"""Pillow's modes of 32 bits; those of 16 begin with I;16."""


class ImageSet:
    """The pictures below a path, read one by one and in any order, by several threads at once.

    Attributes:
        path: what was opened.
        names: of the pictures, in natural order.

    Args:
        path: a folder, a ``.zip``, an uncompressed ``.tar``, or an accuracy log of MLPerf's
            (evaluation/mlperf_log.py). Files that are no pictures by their suffix are left out, and so are hidden ones.
        captions: a file of captions instead of those beside the pictures: a line each (``.txt``), ``.jsonl``, a table
            with a head (``.tsv``, ``.csv``) or COCO's ``captions_*.json``.

    Raises:
        UserError: nothing there, no pictures, an archive that cannot be read, given captions that do not fit.
    """

    def __init__(self, path: str | Path, captions: str | Path | None = None) -> None:
        self.path = Path(path)
        files, self._read = _opened(self.path)
        pictures = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not pictures:
            raise UserError(
                f"{self.path}: no images there ({len(files):,} other files; known: {', '.join(sorted(SUFFIXES))})"
            )
        self.names = sorted(pictures, key=natural)
        self._files, self._given = set(files), captions and Path(captions)
        if self._given:
            _ = self.captions  # what was named is looked at even where nothing wants it

    def __len__(self) -> int:
        return len(self.names)

    def data(self, index: int) -> bytes:
        """A picture's file. Raises UserError where it cannot be read."""
        try:
            return self._read(self.names[index])
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as e:  # encrypted, or a strange method
            raise UserError(f"{self.where(index)}: cannot be read: {e}") from None

    def decode(self, index: int, data: bytes | None = None) -> np.ndarray:
        """A picture as uint8 [H, W, 3]. Raises UserError for a file that is empty, broken, or no image at all."""
        data = self.data(index) if data is None else data
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.mode in DEEP or image.mode.startswith("I;16"):
                    raise UserError(
                        f"{self.where(index)}: has more than 8 bits a channel (Pillow's mode {image.mode}), which "
                        "would be cut off at white: save it with 8 bits"
                    )
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # each would copy it again
        except UnidentifiedImageError:
            what = "is empty" if not data else "is not an image, whatever its name says"
            raise UserError(f"{self.where(index)}: {what}: take it out, or bring the right file") from None
        except UserError:
            raise
        except Exception as e:  # Pillow's decoders raise nearly every type there is on damaged bytes
            raise UserError(f"{self.where(index)}: broken image ({type(e).__name__}: {e}): make it again") from None

    def where(self, index: int) -> str:
        return f"{self.path}: {self.names[index]}"

    def sha256(self) -> str:
        """Of the pictures' files in order, whatever their names; reads them all."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(hashlib.sha256(self.data(index)).digest())
        return digest.hexdigest()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of what the file system says of the pictures (names, sizes, times of change), without reading them all."""
        files = [self.path / name for name in self.names] if self.path.is_dir() else [self.path]
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        for stat in (file.stat() for file in files):
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    @functools.cached_property
    def captions(self) -> list[str] | None:
        """One for each picture, or None where there are none. Raises UserError where they do not fit the pictures."""
        if not self._given:
            return self._found(self._files)
        try:
            return parsed(self._given.name, self._given.read_bytes(), self.names, str(self._given))
        except OSError as e:
            raise UserError(f"--captions {self._given}: {e.strerror}") from None

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """What an archive of held-out images says of its data (gigagan.archive); empty for any other set."""
        if "about.json" not in self._files:
            return {}
        try:
            found = json.loads(self._read("about.json"))
        except (ValueError, OSError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _found(self, files: set[str]) -> list[str] | None:
        """The captions that lie beside the pictures, in whichever of the known ways."""
        above = PurePosixPath(os.path.commonpath([f"./{PurePosixPath(name).parent}" for name in self.names]))
        for folder in (above, *above.parents):
            for table in ("captions.txt", "captions.jsonl", "prompts.jsonl"):
                if (name := str(folder / table)) in files:
                    return parsed(table, self._read(name), self.names, f"{self.path}: {name}")
        texts = [str(PurePosixPath(name).with_suffix(".txt")) for name in self.names]
        missing = [name for name, text in zip(self.names, texts, strict=True) if text not in files]
        if len(missing) == len(self.names):
            return None
        if missing:
            raise UserError(
                f"{self.path}: {len(missing):,} of {len(self.names):,} images have no caption, the first is "
                f"{missing[0]} (no {PurePosixPath(missing[0]).with_suffix('.txt').name}): add theirs, or take all out"
            )
        return [of_one(self._read(text), f"{self.path}: {text}") for text in texts]


def natural(name: str) -> tuple[tuple[tuple[int, Any], ...], str]:
    """A key that sorts ``2.png`` before ``10.png``, and small letters with capitals."""
    parts = re.split(r"(\d+)", name)
    return tuple(_number(part) if i % 2 else (1, part.lower()) for i, part in enumerate(parts)), name


def _number(digits: str) -> tuple[int, tuple[int, str]]:
    """Orders numbers by their size, however many digits they have."""
    own = digits.lstrip("0")
    return 0, (len(own), own)


Changed = TypeVar("Changed")


def decoded(
    images: ImageSet, change: Callable[[np.ndarray, int], Changed], threads: int
) -> Iterator[tuple[Changed, str]]:
    """What ``change`` makes of each picture and its index, and its file's hash, in order; ``threads`` work ahead, a few
    pictures each, so that memory does not grow with the set.

    Raises UserError as ``ImageSet.decode``.
    """

    def one(index: int) -> tuple[Changed, str]:
        data = images.data(index)
        return change(images.decode(index, data), index), hashlib.sha256(data).hexdigest()

    ahead = 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[Changed, str]]] = deque()
        try:
            for index in range(len(images)):
                waiting.append(pool.submit(one, index))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the first broken picture, or a caller that stops, ends the work ahead
            pool.shutdown(wait=False, cancel_futures=True)


# ------------------------------------------------------------------------------------------------------- what is there


def _opened(path: Path) -> tuple[list[str], Read]:
    """The names of all files, with slashes, and what reads one."""
    if path.is_dir():
        files = [file.relative_to(path).as_posix() for file in files_below(path)]
        return files, lambda name: (path / name).read_bytes()
    if not path.exists():
        raise UserError(f"{path}: there is nothing there: give a folder, a zip or a tar of images")
    try:
        with open(path, "rb") as file:
            head = file.read(262)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None
    if head[:2] == b"PK":
        return _zipped(path)
    if head[257:262] == b"ustar" or path.suffix.lower() == ".tar":
        return _tarred(path)
    if head[:1] == b"[":
        return mlperf_log.opened(path)
    if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0":
        raise UserError(f"{path}: is compressed, so its images cannot be read in any order: unpack it first")
    raise UserError(f"{path}: neither a folder, a zip, a tar nor an accuracy log of MLPerf's")


def _visible(name: str) -> bool:
    return not name.endswith("/") and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _zipped(path: Path) -> tuple[list[str], Read]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as e:
        raise UserError(f"{path}: not a whole zip file ({e}): fetch or make it again") from None
    names = [name for name in archive.namelist() if _visible(name)]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: holds {next(n for n in names if names.count(n) > 1)} more than once")
    lock = threading.Lock()

    def read(name: str) -> bytes:
        with lock:
            return archive.read(name)

    return names, read


def _tarred(path: Path) -> tuple[list[str], Read]:
    members = {m.name.removeprefix("./"): m for m in tar.members(path)}  # what was appended later wins, as in tar
    handle = os.open(path, os.O_RDONLY)

    def read(name: str) -> bytes:
        member = members[name]
        return os.pread(handle, member.size, member.offset)

    return [name for name in members if _visible(name)], read
