from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigagan.archive import read_about, read_batches, read_images, read_prompts, write_images
from gigagan.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
CAPTIONS = ["a cat", "«ein Hund»", "a cat", "猫", ""]


def written(path: Path, **more: object) -> Path:
    write_images(path, IMAGES, CAPTIONS, range(5), **more)
    return path


def png(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "samples.zip", about={"dataset": "scenes"})
    images, captions = read_images(path)
    assert (images == IMAGES).all()
    assert captions == CAPTIONS
    assert [prompt["seed"] for prompt in read_prompts(path)] == [0, 1, 2, 3, 4]
    assert read_about(path) == {"dataset": "scenes"}
    assert [len(batch) for batch, _ in read_batches(path, 2)] == [2, 2, 1]


def test_the_same_content_gives_the_same_uncompressed_bytes(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.zip"), written(tmp_path / "2.zip")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_nothing_is_left_where_images_and_captions_differ_in_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_images(tmp_path / "samples.zip", IMAGES, CAPTIONS[:3], range(5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param({"000000.png": png()}, "has no prompts.jsonl", id="no prompts"),
        pytest.param({"prompts.jsonl": b"{"}, "cannot be read", id="broken prompts"),
        pytest.param({"prompts.jsonl": b"[]\n"}, "cannot be read", id="prompts that are no objects"),
        pytest.param({"prompts.jsonl": b""}, "0 images but 0 prompts", id="empty"),
        pytest.param({"prompts.jsonl": 2, "000000.png": png()}, "1 images but 2 prompts", id="count"),
        pytest.param({"prompts.jsonl": 1, "0.png": png()}, "000000.png is missing", id="other name"),
        pytest.param({"prompts.jsonl": 1, "000000.png": png()[:45]}, "missing or broken", id="broken image"),
        pytest.param(
            {"prompts.jsonl": 2, "000000.png": png(), "000001.png": png(16)}, "000001.png is 16x16", id="size"
        ),
    ],
)
def test_bad_archives_are_one_clear_line(tmp_path: Path, members: dict[str, bytes | int], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name, data in members.items():
            if isinstance(data, int):
                lines = [json.dumps({"index": i, "caption": "a", "seed": i}) for i in range(data)]
                data = "\n".join(lines).encode()
            archive.writestr(name, data)
    with pytest.raises(UserError, match=message):
        read_images(tmp_path / "bad.zip")


def test_what_is_no_zip_or_is_cut_or_missing_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "cut.zip").write_bytes(written(tmp_path / "whole.zip").read_bytes()[:-100])
    for name, message in (("text", "not a whole zip"), ("cut", "not a whole zip"), ("none", "no image set")):
        with pytest.raises(UserError, match=message):
            read_images(tmp_path / f"{name}.zip")
