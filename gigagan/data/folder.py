"""A folder of images with their captions, in same-named ``.txt`` files or in ``captions.jsonl``."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gigagan.data import captions, images
from gigagan.data.captioned import CaptionedImages, existing_folder, in_split, size_of
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError
from gigagan.files import sha256


class Folder(CaptionedImages):
    """All images below a folder, in the order of their paths.

    A ``captions.jsonl``, in any folder, has lines like ``{"file": "a.jpg", "caption": "..."}`` (``file_name`` and
    ``text`` do as well), relative to its own folder; an image that several lines name is as many samples. An image that
    no line names has its caption in the ``.txt`` file of the same name. Subfolders ``train`` and ``test`` are the
    splits; where there is neither, every tenth image is the test split. Hidden files and folders are left out, links
    are followed.

    Raises:
        UserError: no such folder or split, captions without images, a line of captions.jsonl that is no JSON object or
            names no file, no usable sample.
    """

    name = "folder"

    def __init__(self, path: str, split: str, resolution: int) -> None:
        folder = existing_folder(self.name, path)
        splits = [s for s in ("train", "test") if (folder / s).is_dir()]
        if splits and split not in splits:
            raise UserError(
                f"data set folder: {folder} has a subfolder {splits[0]} but no {split}; add it, or rename "
                f"{splits[0]}, and every tenth image is held out"
            )
        root = folder / split if splits else folder
        files = files_below(root)
        tables = [f for f in files if f.name == "captions.jsonl"]
        rows = [row for table in tables for row in _rows(table)]
        if splits and (folder / "captions.jsonl").is_file():  # one table for both splits
            rows += [row for row in _rows(folder / "captions.jsonl") if row[0].is_relative_to(root)]
            tables.append(folder / "captions.jsonl")
        written: dict[Path, list[object]] = defaultdict(list)
        for image, caption in rows:
            written[image].append(caption)
        found = sorted({f for f in files if f.suffix.lower() in images.SUFFIXES} | set(written))
        if not found:
            texts = sum(f.suffix == ".txt" for f in files) + len(tables)
            what = f"captions ({texts:,} files) but no images" if texts else "no images"
            raise UserError(f"data set folder: {root} holds {what} ({', '.join(sorted(images.SUFFIXES))})")
        if not splits:
            found = [p for i, p in enumerate(found) if in_split(i, split)]
        self._tables = tables
        # None stands for "in the .txt file", which is read with the image.
        self._samples = [(p, text) for p in found for text in written.get(p, [None])]
        super().__init__(root, split, resolution, len(self._samples), len(found))

    def read(self, index: int) -> tuple[Path, str]:
        image, caption = self._samples[index]
        if caption is not None:
            return image, captions.clean(caption)
        try:
            return image, captions.from_text(_text_of(image).read_bytes())
        except FileNotFoundError:
            raise Unusable("no caption") from None

    def contents(self) -> Iterator[tuple[str, int | str | None]]:
        for table in self._tables:
            yield self.below(table), sha256(table)
        for image, caption in dict(self._samples).items():
            yield self.below(image), size_of(image)
            if caption is None:
                yield self.below(_text_of(image)), size_of(_text_of(image))

    def where(self, index: int) -> str:
        return self.below(self._samples[index][0])


def _text_of(image: Path) -> Path:
    """The file of an image's caption, which may be there or not: ``.txt``, or ``.TXT`` as cameras write names."""
    loud = image.with_suffix(".TXT")
    return loud if loud.is_file() and not image.with_suffix(".txt").is_file() else image.with_suffix(".txt")


def files_below(root: Path) -> list[Path]:
    """All files but hidden ones, following links."""
    files = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and not _leads_back(Path(folder, n)))
        here = [Path(folder, name) for name in names if not name.startswith(".")]
        files += [f for f in here if not f.is_fifo() and not f.is_socket()]  # reading these would wait for ever
    return files


def _leads_back(folder: Path) -> bool:
    """Whether ``folder`` is, by way of links, one of those above it: the walk would go round for ever."""
    return any(folder.samefile(above) for above in folder.parents)


def _rows(table: Path) -> list[tuple[Path, object]]:
    """Each line of a ``captions.jsonl``: the image, which exists, and what stands as its caption, unchecked."""
    rows, missing = [], []
    with open(table, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name = row.get("file", row.get("file_name"))
                image = Path(os.path.normpath(table.parent / name))
            except (ValueError, RecursionError, AttributeError, TypeError):
                raise UserError(
                    f'{table}, line {number}: not of the form {{"file": "a.jpg", "caption": "..."}}'
                ) from None
            if not image.is_file():
                missing.append(f"{name} (line {number})")
            rows.append((image, row.get("caption", row.get("text")) or ""))
    if missing:
        raise UserError(
            f"{table} names {len(missing):,} images that do not exist, the first is {missing[0]}; add the "
            "images or take the lines out"
        )
    return rows
