"""Any folder, zip or tar of pictures, and its captions."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.image_sets import ImageSet, decoded, natural
from gigagan.archive import write_images
from gigagan.errors import UserError


def png(value: int, side: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 255 - value)).save(out, "PNG")
    return out.getvalue()


FILES = {f"{i}.png": png(i) for i in (10, 2, 1)}


def put(root: Path, files: dict[str, bytes], kind: str) -> Path:
    """The same files as a folder, a zip or a tar."""
    if kind == "folder":
        for name, data in files.items():
            (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "set" / name).write_bytes(data)
        return root / "set"
    path = root / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


KINDS = ("folder", "zip", "tar")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_stand_in_natural_order_whatever_holds_them(tmp_path, kind):
    files = {**FILES, "notes.md": b"x", ".hidden.png": b"x", "sub/.DS_Store": b"x", "captions.txt": b"one\ntwo\nten\n"}
    images = ImageSet(put(tmp_path, files, kind))
    assert images.names == ["1.png", "2.png", "10.png"]
    assert images.captions == ["one", "two", "ten"]
    assert [images.decode(i)[0, 0, 0] for i in range(3)] == [1, 2, 10]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert ImageSet(put(elsewhere, {**files, "1.png": png(7, 9)}, kind)).fingerprint != images.fingerprint
    assert ImageSet(images.path).fingerprint == images.fingerprint


def test_natural_order():
    assert sorted(["b", "B", "a", "C"], key=natural) == ["a", "B", "b", "C"]
    assert sorted(["b/2", "a10.png", "a9.png", "b/10", "a"], key=natural) == ["a", "a9.png", "a10.png", "b/2", "b/10"]


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_are_decoded_in_order_by_any_number_of_threads(tmp_path, threads):
    images = ImageSet(put(tmp_path, {f"{i}.png": png(i) for i in range(40)}, "zip"))
    found = list(decoded(images, lambda image, index: (index, image[:1, :1]), threads))
    assert [index for (index, _), _ in found] == list(range(40))
    assert [int(pixel[0, 0, 0]) for (_, pixel), _ in found] == list(range(40))
    assert len({digest for _, digest in found}) == 40


def test_pictures_are_decoded_as_clean_fid_decodes_them(tmp_path):
    from cleanfid.utils import ResizeDataset

    grey, rotated = (
        Image.linear_gradient("L").resize((6, 4)),
        Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3)),
    )
    grey.convert("LA").save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated.save(tmp_path / "rotated.jpg", exif=exif)
    images = ImageSet(tmp_path)
    theirs = ResizeDataset([tmp_path / name for name in images.names], "clean")
    theirs.fn_resize = lambda image: image.astype(np.float32)
    for i in range(2):
        assert np.array_equal(images.decode(i), theirs[i].permute(1, 2, 0).numpy())


COCO = {
    "images": [{"id": 7, "file_name": "2.jpg"}, {"id": 8, "file_name": "1.jpg"}, {"id": 9, "file_name": "10.jpg"}],
    "annotations": [
        {"id": 5, "image_id": 7, "caption": "two, again"},
        {"id": 4, "image_id": 7, "caption": "two"},
        {"id": 6, "image_id": 8, "caption": "one\n"},
        {"id": 1, "image_id": 9, "caption": "ten"},
    ],
}
LINES = [{"file": f"{n}.png", "caption": c} for n, c in ((2, "two"), (10, "ten"), (1, "one"))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "one\ntwo\nten"),
        ("c.jsonl", "\n".join(map(json.dumps, LINES))),
        ("c.jsonl", "\n".join(json.dumps({"index": i, "caption": c}) for i, c in enumerate(["one", "two", "ten"]))),
        ("c.tsv", "id\tcaption\n1\tone\n2\ttwo\n3\tten\n"),
        ("c.csv", 'Prompt,seed\none,1\n"two",2\nten,3\n'),
        ("c.json", json.dumps(COCO)),
    ],
)
def test_captions_come_in_any_of_the_known_ways(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert ImageSet(put(tmp_path, FILES, "tar"), tmp_path / name).captions == ["one", "two", "ten"]


def test_captions_beside_the_pictures(tmp_path):
    texts = {"1.txt": b"one", "2.txt": b"two", "10.txt": b"ten"}
    assert ImageSet(put(tmp_path, {**FILES, **texts}, "zip")).captions == ["one", "two", "ten"]
    assert ImageSet(put(tmp_path, FILES, "folder")).captions is None
    write_images(tmp_path / "own.zip", np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"], [0, 1])
    assert ImageSet(tmp_path / "own.zip").captions == ["a", "b"]
    below = {f"fake_images/{name}": data for name, data in FILES.items()}
    official = put(tmp_path, {**below, "captions.txt": b"one\ntwo\nten\n"}, "tar")
    assert ImageSet(official).captions == ["one", "two", "ten"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no images there"),
        ({"a.md": b"x"}, "no images there (1 other files"),
        ({**FILES, "1.txt": b"one"}, "2 of 3 images have no caption, the first is 2.png (no 2.txt)"),
        ({**FILES, "captions.txt": b"one\ntwo"}, "2 captions for 3 images: the first image without one is 10.png"),
        ({**FILES, "captions.txt": b"a\nb\nc\nd"}, "4 captions for 3 images: the first too much is 'd'"),
        ({**FILES, "captions.txt": b"a\n\nc"}, "the caption of 2.png (number 2) is empty"),
        ({**FILES, "captions.txt": b"\xff\xfe"}, "captions.txt: is not UTF-8"),
        ({**FILES, "captions.jsonl": b'{"file": "1.png", "caption": "one"}'}, "2 of 3 images have no caption"),
        ({**FILES, "captions.jsonl": b"[]"}, "line 1 is no JSON object"),
        ({**FILES, "captions.jsonl": b'{"caption": 3}'}, "line 1 has no caption"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_line(tmp_path, files, words):
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError) as error:
        _ = ImageSet(put(tmp_path, files, "folder")).captions
    assert words in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image, whatever its name says"),
        (png(3, 64)[:-40], "broken image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image"),
    ],
)
def test_a_file_that_is_no_picture_is_named(tmp_path, data, words):
    images = ImageSet(put(tmp_path, {"1.png": png(1), "2.png": data}, "zip"))
    assert images.decode(0).shape == (4, 4, 3)
    with pytest.raises(UserError, match=r"2\.png: .*" + words):
        list(decoded(images, lambda image, _: image, 2))


def test_what_is_no_set_is_one_clear_line(tmp_path):
    (tmp_path / "text.zip").write_bytes(b"hello")
    (tmp_path / "cut.zip").write_bytes(put(tmp_path, FILES, "zip").read_bytes()[:100])
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    whole = put(tmp_path, FILES, "tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1500])
    for name, words in {
        "nothing": "there is nothing there",
        "text.zip": "neither a folder, a zip, a tar nor an accuracy log",
        "cut.zip": "not a whole zip file",
        "set.tar.gz": "is compressed",
        "cut.tar": "breaks off",
    }.items():
        with pytest.raises(UserError, match=words):
            ImageSet(tmp_path / name)
    with pytest.raises(UserError, match=r"captions come as"):
        ImageSet(put(tmp_path, FILES, "zip"), put(tmp_path, FILES, "tar"))
    with pytest.raises(UserError, match=r"--captions .*none\.txt: No such file"):
        ImageSet(put(tmp_path, FILES, "zip"), tmp_path / "none.txt")


def entry(index: int, data: bytes) -> str:
    return json.dumps({"seq_id": index, "qsl_idx": index, "data": data.hex().upper(), "token_count": 0})


def test_an_accuracy_log_of_mlperfs_is_a_set_of_images(tmp_path):
    pictures = {i: np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in (2, 1, 0)}
    lines = [entry(i, picture.tobytes()) for i, picture in pictures.items()] + [entry(2, bytes(192))]
    log = tmp_path / "mlperf_log_accuracy.json"
    log.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    images = ImageSet(log)
    assert images.names == ["0.bmp", "1.bmp", "2.bmp"]  # of two answers to one caption the first counts
    for i, index in enumerate((0, 1, 2)):
        assert np.array_equal(images.decode(i), pictures[index])
    for lines, words in (
        ([entry(0, bytes(100))], "entry 0: 100 bytes are no square picture"),
        ([entry(0, bytes(192))[:90]], "entry 0: broken"),
        ([entry(0, bytes(192)), entry(2, bytes(192))], "has no picture of caption 1"),
        ([], "without a picture"),
        (['{"a": 1}'], "not an accuracy log"),
    ):
        log.write_text("[\n" + ",\n".join(lines) + "\n]\n")
        with pytest.raises(UserError, match=words):
            ImageSet(log).decode(0)


def coco(identity: object, caption: object) -> bytes:
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": identity, "image_id": 1, "caption": caption}],
    }
    return json.dumps(content).encode()


def test_captions_are_paired_by_name_or_refused(tmp_path):
    folder = put(tmp_path, FILES, "folder")

    def read(name: str, text: str) -> list[str]:
        (tmp_path / name).write_text(text)
        return ImageSet(folder, tmp_path / name).captions

    assert read("c.csv", "file,caption\n10.png,ten\n1.png,one\n2.png,two\n") == ["one", "two", "ten"]
    assert read("c.tsv", "file_name\tcaption\nCOCO_1.jpg\tone\nCOCO_2.jpg\ttwo\nCOCO_3.jpg\tten\n") == [
        "one", "two", "ten",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"1 of 3 images have no caption, the first is 2\.png"):
        read("d.csv", "file,caption\n10.png,ten\n1.png,one\nother.png,two\n")
    lines = [{"file": "1.png", "caption": "a"}, {"file": "2.png", "caption": "b"}, {"caption": "c"}]
    mixed = "".join(json.dumps(line) + "\n" for line in lines)
    with pytest.raises(UserError, match="2 of 3 lines name their image: name them all, or none"):
        read("e.jsonl", mixed)
    below = put(tmp_path / "below", {"y/1.png": png(1), "z/1.png": png(2)}, "folder")
    (tmp_path / "f.jsonl").write_text(json.dumps({"file": "x/1.png", "caption": "a"}) + "\n")
    with pytest.raises(UserError, match=r"several images are called 1, and none of its captions is of y/1\.png"):
        ImageSet(below, tmp_path / "f.jsonl")


def test_lines_end_where_lines_end(tmp_path):
    folder = put(tmp_path, {**FILES, "captions.txt": "a\u2028b\r\nc\x0cd\ne\n\n\n".encode()}, "folder")
    assert ImageSet(folder).captions == ["a\u2028b", "c\x0cd", "e"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b'caption\n"' + b"x" * 200_000 + b'"\n', "not a table that can be read"),
        ("a.jsonl", b'{"caption": "\\ud800"}\n' * 3, "holds half a character"),
        ("a.json", coco(1, None), "not COCO's captions"),
        ("a.json", coco({}, "a"), "not COCO's captions"),
    ],
)  # fmt: skip
def test_strange_captions_are_one_clear_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        ImageSet(put(tmp_path, FILES, "folder"), tmp_path / name)
    assert "\n" not in error.value.message


def test_numbers_of_any_length_are_ordered(tmp_path):
    long = "9" * 6000
    names = [f"{long}1.png", f"{long}0.png", "007.png", "8.png", "x.png"]
    assert sorted(names, key=natural) == ["007.png", "8.png", f"{long}0.png", f"{long}1.png", "x.png"]


def test_a_list_is_known_whatever_spaces_its_file_keeps():
    from evaluation.protocols import captions_sha

    assert captions_sha(["a  cat ", "b"]) == captions_sha(["a cat", "b"]) != captions_sha(["a cat b"])
