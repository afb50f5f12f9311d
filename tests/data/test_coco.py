from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gigagan.config import DataConfig
from gigagan.data import Dataset, open_dataset
from gigagan.errors import UserError

Picture = Callable[[int], bytes]


def write(file: Path, images: dict[str, bytes], captions: list[tuple[int, Any]]) -> None:
    """An annotations file, and its images in the folder that goes with it (``captions_X.json``: ``X``)."""
    folder = file.parent.parent / file.stem.removeprefix("captions_")
    for name, data in images.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(images)][::-1],
        "annotations": [{"id": i, "image_id": image, "caption": text} for i, (image, text) in enumerate(captions)][
            ::-1
        ],
    }
    file.write_text(json.dumps(table))


def opened(folder: Path, split: str = "train", annotations: Path | str = "") -> Dataset:
    return open_dataset(DataConfig(name="coco", path=str(folder), annotations=str(annotations), resolution=8), split)


def content(dataset: Dataset) -> list[tuple[int, str]]:
    """Grey level and caption of each item."""
    items = [dataset[i] for i in range(len(dataset))]
    return [(int(item.image[0, 0, 0]), item.caption) for item in items]


@pytest.fixture
def coco(tmp_path: Path, picture: Picture) -> Path:
    """COCO's own layout."""
    annotations = tmp_path / "annotations"
    captions = [(1, "b"), (0, "first of a"), (0, "second\nof a ")]
    write(annotations / "captions_train2017.json", {"a.png": picture(0), "b.png": picture(1)}, captions)
    write(annotations / "captions_val2017.json", {"c.png": picture(2)}, [(0, "c")])
    return tmp_path


@pytest.mark.parametrize("below", ["", "train2017", "val2017"])
def test_every_caption_of_every_image(coco: Path, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = opened(coco / below), opened(coco / below, "test")
    assert content(train) == [(0, "first of a"), (0, "second of a"), (1, "b")]
    assert content(test) == [(2, "c")]
    assert train.describe() == "coco: 3 images, 2 files, 8 px, 0 skipped"
    assert capsys.readouterr().out == ""


def test_the_image_folder_tells_the_year(coco: Path, picture: Picture) -> None:
    write(coco / "annotations/captions_train2014.json", {"d.png": picture(4)}, [(0, "d")])
    assert content(opened(coco / "train2014")) == [(4, "d")]
    assert len(opened(coco / "train2017")) == 3
    with pytest.raises(UserError, match=r"set data\.annotations"):
        opened(coco)


def test_named_annotations_hold_every_tenth_image_out(tmp_path: Path, picture: Picture) -> None:
    file = tmp_path / "annotations/captions_mine.json"
    images = {f"{i:02}.png": picture(i) for i in range(12)}
    write(file, images, [(i, f"{i}{letter}") for i in range(12) for letter in "ab"])
    assert content(opened(tmp_path / "mine", "test", file)) == [(0, "0a"), (0, "0b"), (10, "10a"), (10, "10b")]
    assert {level for level, _ in content(opened(tmp_path / "mine", "train", file))} == {*range(1, 10), 11}


def test_bad_samples_are_replaced_by_the_next_good_one(tmp_path: Path, picture: Picture) -> None:
    images = {"a.png": picture(0), "b.png": b"", "c.png": picture(2)}
    captions = [(0, ""), (0, None), (1, "b"), (2, "c")]
    write(tmp_path / "annotations/captions_train2017.json", images, captions)
    dataset = opened(tmp_path)
    assert content(dataset) == [(2, "c")] * 4
    assert dict(dataset.skipped) == {"empty caption": 1, "caption is not a string": 1, "empty file": 1}


def test_entries_without_caption_or_file_name_are_skipped(coco: Path) -> None:
    file = coco / "annotations/captions_train2017.json"
    table = json.loads(file.read_text())
    table["images"] += [{"id": 7}, {"id": 8, "file_name": None}, {"id": 9, "file_name": 3}]
    table["annotations"] += [{"id": 90 + i, "image_id": i, "caption": "c"} for i in (7, 8, 9)]
    table["annotations"].append({"id": 17, "image_id": 0})
    file.write_text(json.dumps(table))
    dataset = opened(coco)
    assert content(dataset) == [(0, "first of a"), (0, "second of a"), (1, "b"), (1, "b")] + [(0, "first of a")] * 3
    assert dataset.skipped.summary() == "4 skipped: 1 no caption (a.png: annotation 17), 3 no file name (image 7)"


def test_captions_without_their_images(coco: Path) -> None:
    (coco / "train2017/b.png").unlink()
    with pytest.raises(UserError, match=r"names 1 images that are not in .*train2017, the first is b\.png"):
        opened(coco)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}',
        '{"images": [], "annotations": [{"id": 1, "image_id": 1, "bbox": []}]}',
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [3]}',
        "[" * 200_000,
    ],
)
def test_not_a_captions_file(coco: Path, text: str) -> None:
    file = coco / "annotations/captions_train2017.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"train2017.json is not a COCO captions file"):
        opened(coco)


def test_no_annotations(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.annotations=.*nowhere.json does not exist"):
        opened(coco, annotations=tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=r"data.annotations=.*annotations is a folder; it must be the file"):
        opened(coco, annotations=tmp_path / "annotations")
    (coco / "annotations/captions_val2017.json").unlink()
    with pytest.raises(UserError, match=r"holds no captions_val\*.json"):
        opened(coco, "test")
