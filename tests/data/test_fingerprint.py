from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gigagan.config import DataConfig
from gigagan.data import open_dataset

Picture = Callable[[int], bytes]
Write = Callable[[Path, Picture], DataConfig]


def shards(root: Path, picture: Picture) -> DataConfig:
    root.mkdir()
    with tarfile.open(root / "0.tar", "w") as archive:
        for i in range(20):
            for name, data in ((f"{i:02}.png", picture(i)), (f"{i:02}.txt", b"a")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return DataConfig(name="shards", path=str(root))


def pictures(root: Path, picture: Picture) -> None:
    root.mkdir(parents=True)
    for i in range(20):
        (root / f"{i:02}.png").write_bytes(picture(i))


def texts(root: Path, picture: Picture) -> DataConfig:
    pictures(root, picture)
    for i in range(20):
        (root / f"{i:02}.txt").write_text("a")
    odd = "café" if sys.platform == "darwin" else os.fsdecode(b"caf\xe9")  # whose file systems take only Unicode
    (root / f"{odd}.txt").write_text("a")
    (root / f"{odd}.png").write_bytes(picture(1))
    return DataConfig(name="folder", path=str(root))


def table(root: Path, picture: Picture) -> DataConfig:
    pictures(root / "train", picture)
    pictures(root / "test", picture)
    lines = [json.dumps({"file": f"train/{i:02}.png", "caption": "a"}) for i in (*range(20), 3)]
    (root / "captions.jsonl").write_text("\n".join(lines))
    (root / "test/01.txt").write_text("a")
    return DataConfig(name="folder", path=str(root))


def coco(root: Path, picture: Picture) -> DataConfig:
    pictures(root / "images", picture)
    images: list[dict[str, Any]] = [{"id": i, "file_name": f"{i:02}.png"} for i in range(20)]
    images.append({"id": 20})
    annotations = [{"id": i, "image_id": i % 21, "caption": "a"} for i in range(42)]
    (root / "mine.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return DataConfig(name="coco", path=str(root / "images"), annotations=str(root / "mine.json"))


def fingerprint(config: DataConfig, split: str = "train") -> str:
    return open_dataset(config, split).fingerprint()


@pytest.mark.parametrize("write", [shards, texts, table, coco])
def test_it_follows_the_data_wherever_they_lie(tmp_path: Path, picture: Picture, write: Write) -> None:
    config = write(tmp_path / "here", picture)
    first = fingerprint(config)
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert fingerprint(config, "test") != first
    elsewhere = write(tmp_path / "elsewhere", picture)
    for file in (tmp_path / "elsewhere").rglob("*"):
        os.utime(file, (1, 1))
    assert fingerprint(elsewhere) == first


@pytest.mark.parametrize(
    ("write", "changed"),
    [
        (shards, "0.tar"),
        (texts, "01.png"),
        (texts, "01.txt"),
        (table, "train/01.png"),
        (table, "captions.jsonl"),
        (coco, "images/01.png"),
        (coco, "mine.json"),
    ],
)
def test_it_changes_with_any_file(tmp_path: Path, picture: Picture, write: Write, changed: str) -> None:
    config = write(tmp_path / "here", picture)
    first = fingerprint(config)
    path = tmp_path / "here" / changed
    if path.suffix in (".json", ".jsonl"):  # these count with all their bytes
        path.write_text(path.read_text().replace('"a"', '"b"', 1))
    else:
        path.write_bytes(path.read_bytes() + bytes(1))
    assert fingerprint(config) != first


def test_it_changes_with_the_names_and_the_number_of_files(tmp_path: Path, picture: Picture) -> None:
    config = shards(tmp_path / "here", picture)
    seen = {fingerprint(config)}
    shutil.copy(tmp_path / "here/0.tar", tmp_path / "here/1.tar")
    seen.add(fingerprint(config))
    (tmp_path / "here/1.tar").rename(tmp_path / "here/2.tar")
    seen.add(fingerprint(config))
    assert len(seen) == 3


def test_scenes_are_told_apart_by_their_settings_alone() -> None:
    assert fingerprint(DataConfig(name="scenes", resolution=16)) == ""
