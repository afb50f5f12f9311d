"""Any set of pictures to score: a folder, a zip or a plain tar, with captions where there are any.

Pictures stand in the natural order of their names (``2.png`` before ``10.png``), which is how GigaGAN's evaluation code
pairs them with the lines of ``captions.txt``. They are decoded as clean-fid decodes them, by Pillow's
``convert("RGB")`` alone: EXIF rotation and transparency count in training, and in no reference implementation of FID.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import re
import threading
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluation import mlperf_log
from gigagan.data import captions as words
from gigagan.data import tar
from gigagan.data.folder import files_below
from gigagan.data.images import FORMATS, SUFFIXES
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError

Read = Callable[[str], bytes]


class ImageSet:
    """The pictures below a path, read one by one and in any order, by several threads at once.

    Attributes:
        path: what was opened.
        names: of the pictures, in natural order.
        captions: one each, or nothing where none were found.

    Args:
        path: a folder, a ``.zip``, an uncompressed ``.tar``, or an accuracy log of MLPerf's
            (evaluation/mlperf_log.py). Files that are no pictures by their suffix are left out, and so are hidden ones.
        captions: a file of captions instead of those beside the pictures: a line each (``.txt``), ``.jsonl``, a table
            with a head (``.tsv``, ``.csv``) or COCO's ``captions_*.json``.

    Raises:
        UserError: nothing there, no pictures, an archive that cannot be read, captions of another number than pictures
            (which one is missing or too much).
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
        if captions is not None:
            given = Path(captions)
            try:
                self.captions = _parsed(given.name, given.read_bytes(), self.names, str(given))
            except OSError as e:
                raise UserError(f"--captions {given}: {e.strerror}") from None
        else:
            self.captions = self._found(set(files))

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
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # each would copy it again
        except UnidentifiedImageError:
            what = "is empty" if not data else "is not an image, whatever its name says"
            raise UserError(f"{self.where(index)}: {what}: take it out, or bring the right file") from None
        except Exception as e:  # Pillow's decoders raise nearly every type there is on damaged bytes
            raise UserError(f"{self.where(index)}: broken image ({type(e).__name__}: {e}): make it again") from None

    def where(self, index: int) -> str:
        return f"{self.path}: {self.names[index]}"

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

    def _found(self, files: set[str]) -> list[str] | None:
        """The captions that lie beside the pictures, in whichever of the known ways."""
        above = PurePosixPath(os.path.commonpath([f"./{PurePosixPath(name).parent}" for name in self.names]))
        for folder in (above, *above.parents):
            for table in ("captions.txt", "captions.jsonl", "prompts.jsonl"):
                if (name := str(folder / table)) in files:
                    return _parsed(table, self._read(name), self.names, f"{self.path}: {name}")
        texts = [str(PurePosixPath(name).with_suffix(".txt")) for name in self.names]
        missing = [name for name, text in zip(self.names, texts, strict=True) if text not in files]
        if len(missing) == len(self.names):
            return None
        if missing:
            raise UserError(
                f"{self.path}: {len(missing):,} of {len(self.names):,} images have no caption, the first is "
                f"{missing[0]} (no {PurePosixPath(missing[0]).with_suffix('.txt').name}): add theirs, or take all out"
            )
        return [_line(self._read(text), f"{self.path}: {text}") for text in texts]


def natural(name: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """A key that sorts ``2.png`` before ``10.png``, and small letters with capitals."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if i % 2 else (1, part.lower()) for i, part in enumerate(parts)), name


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
    if head[257:262] == b"ustar":
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


# ------------------------------------------------------------------------------------------------------------- captions


def read_captions(path: str | Path) -> list[str]:
    """All captions of a file that names no pictures: a line each, a table with a head, or JSON lines, in order.

    Raises UserError for a file that cannot be read.
    """
    path = Path(path)
    try:
        return _parsed(path.name, path.read_bytes(), None, str(path))
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None


def _parsed(kind: str, data: bytes, names: list[str] | None, where: str) -> list[str]:
    """One caption for each name, from a file whose own name says how it is written; without names, all of them."""
    suffix = PurePosixPath(kind).suffix.lower()
    readers = {".txt": _lines, ".jsonl": _json_lines, ".tsv": _table, ".csv": _table, ".json": _coco}
    if suffix not in readers:
        raise UserError(f"{where}: captions come as {', '.join(readers)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where}: is not UTF-8") from None
    return readers[suffix](text, names, where)


def _line(data: bytes, where: str) -> str:
    try:
        return words.from_text(data)
    except Unusable as e:
        raise UserError(f"{where}: {e}") from None


def _matched(found: list[str], names: list[str] | None, where: str) -> list[str]:
    """Captions in the order of the pictures. Raises UserError, with the first that is left over, for other numbers."""
    names = [f"number {i + 1}" for i in range(len(found))] if names is None else names
    n, m = len(names), len(found)
    if n != m:
        left = f"the first image without one is {names[m]}" if m < n else f"the first too much is {found[n]!r:.60}"
        raise UserError(f"{where}: {m:,} captions for {n:,} images: {left}")
    for i, caption in enumerate(found):
        if not caption.strip():
            raise UserError(f"{where}: the caption of {names[i]} (number {i + 1}) is empty")
    return found


def _lines(text: str, names: list[str] | None, where: str) -> list[str]:
    return _matched(text.splitlines(), names, where)


def _table(text: str, names: list[str] | None, where: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if where.lower().endswith(".tsv") else ",")
    column = next((c for c in rows.fieldnames or () if c.lower() in ("caption", "prompt")), None)
    if column is None:
        raise UserError(f"{where}: a table of captions needs a head with a column called caption or prompt")
    return _matched([row[column] or "" for row in rows], names, where)


def _json_lines(text: str, names: list[str] | None, where: str) -> list[str]:
    """Lines that name their picture (``file``, ``file_name``), or whose order is the pictures'."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            caption, name = row.get("caption", row.get("text")), row.get("file", row.get("file_name"))
        except (ValueError, RecursionError, AttributeError):
            raise UserError(f"{where}: line {number} is no JSON object") from None
        if not isinstance(caption, str):
            raise UserError(f"{where}: line {number} has no caption")
        rows.append((name, caption))
    if names is None or any(name is None for name, _ in rows):
        return _matched([caption for _, caption in rows], names, where)
    return _by_name({str(name): caption for name, caption in reversed(rows)}, names, where)


def _coco(text: str, names: list[str] | None, where: str) -> list[str]:
    """COCO's annotations: of several captions of an image, the one with the lowest id."""
    if names is None:
        raise UserError(f"{where}: COCO's annotations hold several captions of each image: draw a list from them first")
    try:
        content = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for a in content["annotations"]:
            found[files[a["image_id"]]].append((a["id"], a["caption"]))
    except (ValueError, RecursionError, KeyError, TypeError) as e:
        raise UserError(f"{where}: not COCO's captions ({type(e).__name__}: {e})") from None
    return _by_name({name: words.one_line(min(several)[1]) for name, several in found.items()}, names, where)


def _by_name(found: dict[str, str], names: list[str], where: str) -> list[str]:
    """By whole name, or by the file's own without its suffix, as generated pictures of JPEGs are PNGs as a rule."""
    own: dict[str, list[str]] = defaultdict(list)
    for name, caption in found.items():
        own[PurePosixPath(name).stem].append(caption)
    chosen = []
    for name in names:
        alike = own.get(PurePosixPath(name).stem, [])
        if name not in found and len(alike) > 1:
            raise UserError(f"{where}: several images are called {PurePosixPath(name).stem}: name their folders, too")
        chosen.append(found.get(name) or next(iter(alike), None))
    if missing := [name for name, caption in zip(names, chosen, strict=True) if caption is None]:
        raise UserError(
            f"{where}: {len(missing):,} of {len(names):,} images have no caption, the first is {missing[0]}"
        )
    return _matched([caption or "" for caption in chosen], names, where)
