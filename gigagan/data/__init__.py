"""Captioned pictures: each data set is one file here and one line in ``DATASETS``."""

from __future__ import annotations

from collections.abc import Callable

from gigagan.config import DataConfig
from gigagan.data.classes import Classes
from gigagan.data.coco import Coco
from gigagan.data.folder import Folder
from gigagan.data.item import Dataset, Item
from gigagan.data.scenes import Scenes
from gigagan.data.shards import Shards
from gigagan.errors import UserError, nearest

__all__ = ["DATASETS", "Dataset", "Item", "open_dataset"]

DATASETS: dict[str, Callable[[DataConfig, str], Dataset]] = {
    "scenes": lambda config, split: Scenes(config.resolution, config.objects, split, placed=config.placed),
    "shards": lambda config, split: Shards(config.path, split, config.resolution),
    "folder": lambda config, split: Folder(config.path, split, config.resolution),
    "classes": lambda config, split: Classes(config.path, split, config.resolution),
    "coco": lambda config, split: Coco(config.path, config.annotations, split, config.resolution),
}


def open_dataset(config: DataConfig, split: str) -> Dataset:
    """The data set that ``config`` names; ``split`` is "train" or "test".

    Raises:
        UserError: unknown name or split, or whatever is wrong with its files.
    """
    if config.name not in DATASETS:
        raise UserError(f"unknown data set data.name={config.name}{nearest(config.name, DATASETS)}")
    if split not in ("train", "test"):
        raise UserError(f"data set {config.name}: no split {split!r}{nearest(split, ('train', 'test'))}")
    return DATASETS[config.name](config, split)
