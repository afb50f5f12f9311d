from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gigagan.config import DataConfig
from gigagan.data import Dataset, open_dataset
from gigagan.errors import UserError

Files = dict[str, bytes | str]
Picture = Callable[[int], bytes]


def write(folder: Path, files: Files) -> None:
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)


def opened(folder: Path, split: str = "train") -> Dataset:
    return open_dataset(DataConfig(name="folder", path=str(folder), resolution=8), split)


def content(dataset: Dataset) -> list[tuple[int, str]]:
    """Grey level and caption of each item."""
    items = [dataset[i] for i in range(len(dataset))]
    assert all(item.image.shape == (8, 8, 3) for item in items)
    return [(int(item.image[0, 0, 0]), item.caption) for item in items]


def test_same_named_texts_in_any_subfolder(tmp_path: Path, picture: Picture) -> None:
    files: Files = {}
    for i in range(20):
        files |= {f"{i % 2}/{i:02}.png": picture(i), f"{i % 2}/{i:02}.txt": f"number\n{i}"}
    write(tmp_path, files | {".hidden/a.png": b"", "0/._00.png": b"", "README.md": "x", "0/thumbs.db": "x"})
    by_path = [(i, f"number {i}") for i in [*range(0, 20, 2), *range(1, 20, 2)]]
    train, test = opened(tmp_path, "train"), opened(tmp_path, "test")
    assert content(test) == [by_path[0], by_path[10]]
    assert content(train) == by_path[1:10] + by_path[11:]
    assert content(opened(tmp_path)) == content(train)
    assert train.describe() == "folder: 18 images, 18 files, 8 px, 0 skipped"


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path, picture: Picture) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "far/elsewhere"
    write(root / "train", {"a.png": picture(1), "a.txt": "a"})
    write(elsewhere, {"b.png": picture(2), "b.txt": "b", "../c.png": picture(3), "../c.txt": "c"})
    (root / "train/linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root / "train")
    (elsewhere / "itself").symlink_to(".")
    (elsewhere / "nowhere").symlink_to(tmp_path / "nowhere")
    (elsewhere / "root").symlink_to(tmp_path)
    (elsewhere / "up").symlink_to("..")
    assert content(opened(root)) == [(1, "a"), (2, "b"), (3, "c")]


def test_split_folders(tmp_path: Path, picture: Picture) -> None:
    write(tmp_path, {f"{s}/a.png": picture(i) for i, s in enumerate(("train", "test"))})
    write(tmp_path, {f"{s}/a.txt": f"a {s}" for s in ("train", "test")})
    assert content(opened(tmp_path, "train")) == [(0, "a train")]
    assert content(opened(tmp_path, "test")) == [(1, "a test")]


def test_captions_jsonl(tmp_path: Path, picture: Picture) -> None:
    rows = [
        {"file_name": "train/b.png", "text": "b"},
        {"file": "./train/a.png", "caption": "first of a"},
        {"file": "train/a.png", "caption": "second of a"},
        {"file": "test/c.png", "caption": "c"},
    ]
    table = "\n\n".join(map(json.dumps, rows))
    write(tmp_path, {"captions.jsonl": table, "train/deep/captions.jsonl": '{"file": "d.png", "caption": "d"}'})
    write(tmp_path, {f"train/{name}.png": picture(i) for i, name in enumerate(["a", "b", "deep/d", "e"])})
    write(tmp_path, {"test/c.png": picture(9), "train/e.txt": "e", "train/a.txt": "the table wins"})
    assert content(opened(tmp_path, "train")) == [(0, "first of a"), (0, "second of a"), (1, "b"), (2, "d"), (3, "e")]
    assert content(opened(tmp_path, "test")) == [(9, "c")]


def test_bad_samples_are_replaced_by_the_next_good_one(
    tmp_path: Path, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    good, broken = picture(7), picture(7)[:-30]
    write(
        tmp_path / "train",
        {"a.png": good, "b.png": good, "b.txt": " \n", "c.png": broken, "c.txt": "c", "d.png": broken, "d.txt": "d"}
        | {"e.png": picture(1), "e.txt": "e", "f.png": b"", "f.txt": "f", "g.jpg": "<html>", "g.txt": "g"}
        | {"h.png": good, "captions.jsonl": '{"file": "h.png", "caption": 3}'},
    )
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
        assert content(dataset) == [(1, "e")] * 8
    assert len(caplog.records) == 6
    assert dict(dataset.skipped) == {
        "no caption": 1,
        "empty caption": 1,
        "broken image": 2,
        "empty file": 1,
        "not an image": 1,
        "caption is not a string": 1,
    }
    content(dataset)
    assert dataset.skipped.total == 7
    summary = dataset.skipped.summary()
    assert summary.startswith("7 skipped: 1 no caption (a.png), 1 empty caption (b.png), 2 broken image (c.png: ")
    assert dataset.describe().startswith("folder: 8 images, 8 files, 8 px, 7 skipped: ")
    with pytest.raises(IndexError):
        dataset[8]


def test_a_file_that_vanishes_is_skipped(tmp_path: Path, picture: Picture) -> None:
    write(tmp_path / "train", {"a.png": picture(1), "a.txt": "a", "b.png": picture(2), "b.txt": "b"})
    dataset = opened(tmp_path)
    (tmp_path / "train/b.png").unlink()
    assert content(dataset) == [(1, "a")] * 2
    assert dict(dataset.skipped) == {"unreadable file": 1}


BAD: list[tuple[Files, str]] = [
    ({}, "holds no images"),
    ({"a.txt": "a", "b.txt": "b"}, r"holds captions \(2 files\) but no images"),
    ({"captions.jsonl": '{"file": "a.png", "caption": "a"}'}, r"names 1 images that do not exist, the first is a.png"),
    ({"a.png": "x", "captions.jsonl": '{"file": "a.png"}\n{"file"'}, "captions.jsonl, line 2: not of the form"),
    ({"a.png": "x", "captions.jsonl": '["a.png", "a"]'}, "line 1: not of the form"),
    ({"a.png": "x", "captions.jsonl": '{"caption": "a"}'}, "line 1: not of the form"),
    (
        {"a.png": "x", "a.txt": "a", "b.png": "x"},
        r"none of the 1 samples in .* can be used: 1 skipped: 1 no caption \(b.p",
    ),
    ({"test/a.png": "x"}, "has a subfolder test but no train"),
    ({"a.png": "x"}, "nothing in .* belongs to the train split"),
]


@pytest.mark.parametrize(("files", "message"), BAD)
def test_one_clear_line(tmp_path: Path, files: Files, message: str) -> None:
    write(tmp_path, files)
    with pytest.raises(UserError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_settings(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": ""})
    for config, split, message in [
        (DataConfig(name="foldr"), "train", "unknown data set data.name=foldr .did you mean 'folder'"),
        (DataConfig(name="folder"), "train", "set data.path"),
        (DataConfig(name="folder", path=str(tmp_path / "b")), "train", "does not exist"),
        (DataConfig(name="folder", path=str(tmp_path / "a.png")), "train", "is a file"),
        (DataConfig(name="folder", path=str(tmp_path)), "tset", "did you mean 'test'"),
    ]:
        with pytest.raises(UserError, match=message):
            open_dataset(config, split)


def test_captions_in_capital_letters_and_pipes_that_nobody_writes_to(tmp_path: Path, picture: Picture) -> None:
    """Reading a pipe would wait for ever."""
    write(
        tmp_path, {f"train/{i}.png": picture(i) for i in range(3)} | {f"train/{i}.TXT": f"number {i}" for i in range(3)}
    )
    write(tmp_path, {"test/0.png": picture(0), "test/0.txt": "number 0"})
    os.mkfifo(tmp_path / "train" / "pipe.jpg")
    assert content(opened(tmp_path)) == [(i, f"number {i}") for i in range(3)]
