"""A folder with one folder of images a class, as ImageNet comes: the class's name is the caption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gigagan.data import captions, images
from gigagan.data.captioned import CaptionedImages, existing_folder, in_split, size_of
from gigagan.data.folder import files_below
from gigagan.errors import UserError


class Classes(CaptionedImages):
    """All images below the classes' folders, which are numbered in the order of their names.

    Subfolders ``train`` and ``test`` are the splits, with the same classes in both; where there is neither, every tenth
    image is the test split. Hidden files and folders are left out, links are followed.

    Raises:
        UserError: no such folder or split, no folders in it, no images in one of them, no usable sample.
    """

    name = "classes"

    def __init__(self, path: str, split: str, resolution: int) -> None:
        folder = existing_folder(self.name, path)
        splits = [s for s in ("train", "test") if (folder / s).is_dir()]
        if splits and len(splits) < 2:
            raise UserError(
                f"data set classes: {folder} has a subfolder {splits[0]} but not the other of train and test"
            )
        root = folder / split if splits else folder
        self._names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not self._names:
            raise UserError(f"data set classes: {root} holds no folders: one for each class, with its images")
        found: list[tuple[Path, str]] = []
        for name in self._names:
            mine = sorted(f for f in files_below(root / name) if f.suffix.lower() in images.SUFFIXES)
            if not mine:
                raise UserError(
                    f"data set classes: {root / name} holds no images ({', '.join(sorted(images.SUFFIXES))})"
                )
            found += [(file, name) for file in mine]
        self._samples = found if splits else [pair for i, pair in enumerate(found) if in_split(i, split)]
        super().__init__(root, split, resolution, len(self._samples), len(self._samples))

    def classes(self) -> list[str]:
        return [captions.clean(name) for name in self._names]

    def read(self, index: int) -> tuple[Path, str]:
        image, name = self._samples[index]
        return image, captions.clean(name)

    def meaning(self, caption: str) -> str:
        return caption  # names that differ are other classes, whatever their words

    def flippable(self, caption: str) -> bool:
        return True

    def contents(self) -> Iterator[tuple[str, int | str | None]]:
        for image, _ in self._samples:
            yield self.below(image), size_of(image)

    def where(self, index: int) -> str:
        return self.below(self._samples[index][0])
