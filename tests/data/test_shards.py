from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gigagan.config import DataConfig
from gigagan.data import Dataset, open_dataset, tar
from gigagan.errors import UserError

Picture = Callable[[int], bytes]
PHOTOS = Path(os.environ.get("GIGAGAN_SHARDS", Path(__file__).parents[3] / "shared/data/cifar10"))


def write(path: Path, files: dict[str, bytes | str], kind: int = tarfile.PAX_FORMAT, mtime: float = 0.5) -> Path:
    """A tar; in pax format a fractional time gives each member an extended header, as webdataset's writer does."""
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in files.items():
            data = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return path


def opened(folder: Path, split: str = "train") -> Dataset:
    return open_dataset(DataConfig(name="shards", path=str(folder), resolution=8), split)


def content(dataset: Dataset) -> list[tuple[int, str]]:
    """Grey level and caption of each item."""
    items = [dataset[i] for i in range(len(dataset))]
    return [(int(item.image[0, 0, 0]), item.caption) for item in items]


def samples(picture: Picture, numbers: range) -> dict[str, bytes | str]:
    """As img2dataset writes them."""
    files: dict[str, bytes | str] = {}
    for i in numbers:
        metadata = json.dumps({"caption": f"number {i}", "key": str(i)})
        files |= {f"{i:05}.png": picture(i), f"{i:05}.txt": f"number {i}", f"{i:05}.json": metadata}
    return files


def test_named_splits(tmp_path: Path, picture: Picture) -> None:
    write(tmp_path / "train-1.tar", samples(picture, range(3, 5)))
    write(tmp_path / "train-0.tar", samples(picture, range(3)))
    write(tmp_path / "test-0.tar", samples(picture, range(5, 7)))
    write(tmp_path / "other.tar", samples(picture, range(9)))
    train, test = opened(tmp_path), opened(tmp_path, "test")
    assert content(train) == [(i, f"number {i}") for i in range(5)]
    assert content(test) == [(i, f"number {i}") for i in range(5, 7)]
    assert train.describe() == "shards: 5 images, 2 files, 8 px, 0 skipped"


def test_every_tenth_sample_is_held_out_where_no_splits_are_named(tmp_path: Path, picture: Picture) -> None:
    write(tmp_path / "00000.tar", samples(picture, range(7)))
    write(tmp_path / "00001.tar", samples(picture, range(7, 21)))
    assert [level for level, _ in content(opened(tmp_path, "test"))] == [0, 10, 20]
    assert [level for level, _ in content(opened(tmp_path))] == [i for i in range(21) if i % 10]


def test_which_members_are_samples(tmp_path: Path, picture: Picture) -> None:
    files = {
        "a.PNG": picture(1),
        "a.json": '{"caption": "json", "url": "x"}',
        "b.txt": " ",
        "b.json": '{"caption": "json where the txt is empty"}',
        "b.webp": picture(2),
        "c.jpeg": picture(3),
        "c.txt": "txt before json",
        "c.json": "{}",
        "d.jpg": picture(4),
        "d.seg.png": picture(9),
        "d.cls": "5",
        "d.txt": "d",
        "._d.jpg": b"\0\5\x16\7",
        "README": "x",
        "deep/d.jpg": picture(5),
        "deep/d.txt": "another d",
    }
    write(tmp_path / "train-0.tar", files)
    expected = ["json", "json where the txt is empty", "txt before json", "d", "another d"]
    assert content(opened(tmp_path)) == list(enumerate(expected, 1))


def test_bad_samples_are_replaced_by_the_next_good_one(tmp_path: Path, picture: Picture) -> None:
    files = {
        "a.jpg": picture(9),
        "b.txt": "b",
        "c.jpg": picture(9),
        "c.json": "{",
        "d.jpg": picture(9)[:-30],
        "d.txt": "d",
        "e.jpg": picture(1),
        "e.txt": "e",
        "f.jpg": picture(9),
        "f.txt": "",
    }
    write(tmp_path / "train-0.tar", files)
    dataset = opened(tmp_path)
    assert content(dataset) == [(1, "e")] * 6
    reasons = ["no caption", "no image", "caption file is not JSON", "broken image", "empty caption"]
    assert dict(dataset.skipped) == dict.fromkeys(reasons, 1)
    assert (
        "1 no image (train-0.tar/b.txt), 1 caption file is not JSON (train-0.tar/c.jpg: " in dataset.skipped.summary()
    )


def test_a_key_that_comes_again_is_skipped_and_never_mixed(tmp_path: Path, picture: Picture) -> None:
    first = {"a.png": picture(1), "a.txt": " "}
    write(tmp_path / "train-0.tar", first | {"b.png": picture(2), "b.txt": "b", "c.jpg": picture(3)})
    with tarfile.open(tmp_path / "train-0.tar", "a") as archive:
        for name, data in {"a.png": picture(4), "a.txt": b"another a", "a.json": b'{"caption": "a"}'}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    dataset = opened(tmp_path)
    assert content(dataset) == [(2, "b")] * 4
    assert dataset.skipped.summary() == (
        "3 skipped: 1 empty caption (train-0.tar/a.png), 1 no caption (train-0.tar/c.jpg), "
        "1 key of an earlier sample (train-0.tar/a.png)"
    )


def test_loader_processes_get_the_same_items(tmp_path: Path, picture: Picture) -> None:
    write(tmp_path / "train-0.tar", samples(picture, range(4)))
    dataset = opened(tmp_path)
    assert content(pickle.loads(pickle.dumps(dataset))) == content(dataset)


def test_a_shard_that_changes_under_way_is_skipped(tmp_path: Path, picture: Picture) -> None:
    file = write(tmp_path / "train-0.tar", samples(picture, range(4)))
    dataset = opened(tmp_path)
    with open(file, "r+b") as shard:
        shard.truncate(int(dataset._samples["image"][3, 0]) + 20)
    assert content(dataset)[3] == (0, "number 0")
    file.unlink()
    with pytest.raises(UserError, match="none of the 4 samples"):
        dataset[0]
    assert dict(dataset.skipped) == {"shard was cut while in use": 1, "unreadable file": 3}


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_as_tarfile_sees_them(tmp_path: Path, kind: int) -> None:
    long = "folder/" * 20 + "ä" * 20 + ".txt"
    names = ["a.txt", "ä.txt", "b" * 100, long] if kind != tarfile.USTAR_FORMAT else ["a.txt", "f/" * 60 + "b" * 90]
    file = write(tmp_path / "a.tar", {name: "x" * 400 * i for i, name in enumerate(names)}, kind)
    with tarfile.open(file, "a", format=kind) as archive:
        for number, special in enumerate((tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"{number}" * 120 if kind != tarfile.USTAR_FORMAT else f"{number}")
            member.type, member.linkname = special, "a.txt"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("last"))
    with tarfile.open(file) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive if m.isreg()]
    assert len(expected) == len(names) + 1
    assert list(tar.members(file)) == expected
    assert tar.name_before(file, expected[0][1]) == "a.txt"


def test_a_tar_cut_anywhere_is_told_from_a_whole_one(tmp_path: Path, picture: Picture) -> None:
    file = write(tmp_path / "train-0.tar", samples(picture, range(2)))
    data = file.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    assert len(list(tar.members(file))) == 6
    for length in (0, 1, 511, *range(512, end + 512, 256)):
        file.write_bytes(data[:length])
        with pytest.raises(UserError, match=f"train-0.tar breaks off at byte {length:,}, ") as caught:
            opened(tmp_path)
        assert "\n" not in str(caught.value)
    assert "after 00001.json; fetch or write this shard again" in str(caught.value)
    file.write_bytes(data[: end + 512])  # all that is missing is padding
    assert len(opened(tmp_path)) == 2


def test_zeros_in_place_of_members_are_no_end(tmp_path: Path, picture: Picture) -> None:
    file = write(tmp_path / "train-0.tar", samples(picture, range(40)), tarfile.USTAR_FORMAT, mtime=0)
    data = file.read_bytes()
    second = list(tar.members(file))[1].offset - 512
    for broken in (
        data[:second] + bytes(len(data) - second),  # an interrupted download that had set aside its room
        data[:second] + bytes(512) + data[second + 512 :],
        data[:second] + bytes(1024) + data[second + 1024 :],
        bytes(len(data)),
        data + data,
    ):
        file.write_bytes(broken)
        with pytest.raises(UserError, match=r"train-0.tar has a block of zeros at byte .*, but does not end there"):
            opened(tmp_path)


@pytest.mark.parametrize(
    ("zeros", "whole"), [(512, True), (1024, True), (1024 + 10240, True), (1024 + 10240 + 512, False), (1 << 20, False)]
)
def test_a_tar_may_be_padded_to_a_record(tmp_path: Path, picture: Picture, zeros: int, whole: bool) -> None:
    file = write(tmp_path / "train-0.tar", samples(picture, range(2)))
    data = file.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    file.write_bytes(data[:end] + bytes(zeros))
    if whole:
        assert len(opened(tmp_path)) == 2
    else:
        with pytest.raises(UserError, match=f"at byte {end:,}, after 00001.json, but does not end there; fetch"):
            opened(tmp_path)


def test_damaged_tars(tmp_path: Path, picture: Picture) -> None:
    file = write(tmp_path / "train-0.tar", samples(picture, range(2)), tarfile.USTAR_FORMAT, mtime=0)
    data = file.read_bytes()
    second = list(tar.members(file))[1].offset - 512
    file.write_bytes(data[: second + 3] + b"?" + data[second + 4 :])
    with pytest.raises(UserError, match=f"is damaged at byte {second:,}, after 00000.png; fetch"):
        opened(tmp_path)
    file.write_bytes(b"\x1f\x8b" + bytes(range(256)) * 4)
    with pytest.raises(UserError, match="is not a plain tar"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "body", [b"x" * 40, b"0 path=a\n", b"-5 path=a\n", b"99 path=a\n", b"12 size=zz\n\n", b"15 size=-1024\n\n"]
)
def test_damaged_extended_headers(tmp_path: Path, body: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(body)
    file = tmp_path / "train-0.tar"
    file.write_bytes(
        member.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0") + tarfile.TarInfo("a.txt").tobuf() + bytes(1024)
    )
    with pytest.raises(UserError, match="is damaged at byte "):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("tars", "message"),
    [
        ([], "holds no .*tar files"),
        (["test-0.tar"], "has test-0.tar but no train-"),
        (["train-0.tar"], "nothing in .* belongs to the train split"),
    ],
)
def test_one_clear_line(tmp_path: Path, tars: list[str], message: str) -> None:
    for name in tars:
        write(tmp_path / name, {})
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_a_folder_named_like_a_shard(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar").mkdir()
    with pytest.raises(UserError, match=r"train-0\.tar is a folder, not a tar; fetch"):
        opened(tmp_path)


def test_real_photographs() -> None:
    if not PHOTOS.is_dir():
        pytest.skip("no folder of photographs: set GIGAGAN_SHARDS to the CIFAR-10 shards")
    for split, size in (("train", 50_000), ("test", 10_000)):
        dataset = open_dataset(DataConfig(name="shards", path=str(PHOTOS), resolution=16), split)
        assert len(dataset) == size
        meanings = Counter(dataset.meaning(dataset.read(i)[1]) for i in range(0, size, 5))
        assert len(meanings) == 10
        assert dataset[size - 1].image.shape == (16, 16, 3)
        assert dataset.skipped.total == 0
