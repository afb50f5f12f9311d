from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gigagan.config import DataConfig
from gigagan.data import open_dataset
from gigagan.files import write_json

GOOD, ODD = "a.png", os.fsdecode(b"caf\xe9\x1b.png")


def folder(root: Path, pictures: dict[str, bytes]) -> DataConfig:
    (root / "train").mkdir()
    for name, data in pictures.items():
        (root / "train" / name).write_bytes(data)
        (root / "train" / name).with_suffix(".txt").write_text("a")
    return DataConfig(name="folder", path=str(root))


def coco(root: Path, pictures: dict[str, bytes]) -> DataConfig:
    folder(root, pictures)
    (root / "annotations").mkdir()
    images = [{"id": i, "file_name": name} for i, name in enumerate(pictures)]
    annotations = [{"id": i, "image_id": i, "caption": "a"} for i in range(len(images))]
    table = json.dumps({"images": images, "annotations": annotations})
    (root / "annotations/captions_train.json").write_text(table)
    return DataConfig(name="coco", path=str(root))


def shards(root: Path, pictures: dict[str, bytes]) -> DataConfig:
    with tarfile.open(root / "train-0.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in pictures.items():
            for member, content in ((name, data), (Path(name).stem + ".txt", b"a")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return DataConfig(name="shards", path=str(root))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take only Unicode as names")
@pytest.mark.parametrize("write", [folder, coco, shards])
def test_names_that_are_not_unicode_can_be_printed_and_written(
    tmp_path: Path, picture: Callable[[int], bytes], write: Callable[[Path, dict[str, bytes]], DataConfig]
) -> None:
    dataset = open_dataset(write(tmp_path, {GOOD: picture(1), ODD: b"no image"}), "train")
    assert dataset[1].caption == "a"
    assert dict(dataset.skipped) == {"not an image": 1}
    about = dataset.describe()
    assert "caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.png)" in about
    write_json(tmp_path / "run.json", {"data": about})
    print(about)
