"""COCO captions: a folder of images and a ``captions_*.json``, read through pycocotools."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from gigagan.data import captions
from gigagan.data.captioned import CaptionedImages, existing_folder, in_split, size_of
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError
from gigagan.files import sha256

_SPLIT_NAMES = {"train": "train", "test": "val"}  # COCO's own test images have no public captions


class Coco(CaptionedImages):
    """Every (image, caption) pair, in the order of image and annotation ids.

    ``path`` is COCO's folder (``train2017/``, ``val2017/``, ``annotations/``), or one of its image folders. The train
    split is ``annotations/captions_train*.json`` and its images, the test split ``captions_val*.json`` and its images.
    Where ``annotations`` names a file, that file describes the images in ``path``, and every tenth is for testing.

    Raises:
        UserError: no such folder or annotations file, several that fit, one that holds no captions or names images that
            are not in the folder, no usable sample.
    """

    name = "coco"

    def __init__(self, path: str, annotations: str, split: str, resolution: int) -> None:
        folder = existing_folder(self.name, path)
        if annotations:
            file = Path(annotations).expanduser()
            table = [row for i, row in enumerate(_read(file)) if in_split(i, split)]
        else:
            file, folder = _find(folder, split)
            table = _read(file)
        there = {entry.name for entry in os.scandir(folder)}
        missing = [name for name, _, _ in table if name and name not in there and not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"{file} names {len(missing):,} images that are not in {folder}, the first is {missing[0]}; add "
                "the images or set data.path to their folder"
            )
        self._table = file
        self._samples = [(name, number, caption) for name, number, texts in table for caption in texts]
        super().__init__(folder, split, resolution, len(self._samples), len(table))

    def read(self, index: int) -> tuple[Path, str]:
        name, _, caption = self._samples[index]
        if not name:
            raise Unusable("no file name")
        if isinstance(caption, Unusable):
            raise caption
        return self.path / name, captions.clean(caption)

    def contents(self) -> Iterator[tuple[str, int | str | None]]:
        yield "", sha256(self._table)
        for name in dict.fromkeys(name for name, _, _ in self._samples if name):
            yield name, size_of(self.path / name)

    def where(self, index: int) -> str:
        name, number, _ = self._samples[index]
        return name or f"image {number}"


def _find(folder: Path, split: str) -> tuple[Path, Path]:
    """The annotations file of ``split`` and its folder of images, given COCO's folder or one of images in it."""
    base = folder if (folder / "annotations").is_dir() else folder.parent
    pattern = f"captions_{_SPLIT_NAMES[split]}*.json"
    files = sorted((base / "annotations").glob(pattern))
    if len(files) > 1:  # COCO 2014 beside 2017: take the year of the image folder
        files = [f for f in files if f.stem[-4:] == folder.name[-4:]]
    if len(files) != 1:
        raise UserError(
            f"data set coco: {base / 'annotations'} holds no {pattern}, or several of which none ends on the "
            f"year of {folder.name}; set data.annotations to the file, and data.path to its images"
        )
    images = base / files[0].stem.removeprefix("captions_")
    return files[0], images if images.is_dir() else folder


def _read(file: Path) -> list[tuple[str, int, list[object]]]:
    """File name ("" where there is none), id and captions of each image, in the order of ids."""
    from pycocotools.coco import COCO  # some releases load matplotlib with it

    if not file.is_file():
        what = "is a folder; it must be the file (captions_*.json)" if file.is_dir() else "does not exist"
        raise UserError(f"data set coco: data.annotations={file} {what}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            coco = COCO(str(file))
        if any("caption" in a for a in coco.anns.values()) and any("file_name" in i for i in coco.imgs.values()):
            return [
                (_name(coco.imgs[i]), i, [_caption(a) for a in sorted(coco.imgToAnns[i], key=lambda a: a["id"])])
                for i in sorted(coco.imgs)
            ]
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError):
        pass
    raise UserError(f"{file} is not a COCO captions file (captions_*.json)")


def _name(image: dict[str, object]) -> str:
    name = image.get("file_name")
    return name if isinstance(name, str) else ""


def _caption(annotation: dict[str, object]) -> object:
    """What stands as the caption, unchecked, or why nothing does."""
    if "caption" in annotation:
        return annotation["caption"]
    return Unusable("no caption", f"annotation {annotation['id']}")
