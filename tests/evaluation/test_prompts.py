"""Lists of captions: drawn by one rule, known by their checksum, and the photographs that go with them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from evaluation import prompts, protocols
from evaluation.image_sets import ImageSet
from gigagan.archive import read_prompts
from gigagan.errors import UserError

N = 12


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Twelve images of two captions each, one of one caption on two lines, and one without any; not in order."""
    images = [{"id": 10 * k, "file_name": f"val_{10 * k:04d}.jpg"} for k in range(N + 2)][::-1]
    found = [
        {"id": 100 - 2 * k - j, "image_id": 10 * k, "caption": f"picture {k}, in words {j}"}
        for k in range(N)
        for j in (0, 1)
    ]
    found.append({"id": 200, "image_id": 10 * N, "caption": " on two\nlines "})
    path = tmp_path / "captions_val.json"
    path.write_text(json.dumps({"images": images, "annotations": found}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The photographs: what is in them does not matter here."""
    folder = tmp_path / "val"
    folder.mkdir()
    for k in range(N + 1):
        (folder / f"val_{10 * k:04d}.jpg").write_bytes(b"photo %d" % k)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["prompts", *map(str, words)])
    prompts.main()


def test_a_draw_is_of_different_images_in_order_and_always_the_same(annotations):
    photos = prompts.read_photos(annotations)
    assert [photo.id for photo in photos] == [10 * k for k in range(N + 1)]
    assert photos[0].captions == ("picture 0, in words 1", "picture 0, in words 0")
    assert photos[-1].captions == ("on two lines",)
    drawn = prompts.draw(photos, 8, 0)
    assert drawn == prompts.draw(photos, 8, 0) != prompts.draw(photos, 8, 1)
    ids = [prompt["image_id"] for prompt in drawn]
    assert ids == sorted(set(ids))
    assert [(p["index"], p["seed"]) for p in drawn] == [(k, k) for k in range(8)]
    captions = {photo.id: photo.captions for photo in photos}
    assert all(p["caption"] in captions[p["image_id"]] for p in drawn)
    # The rule itself, whatever Python: other lists would be other protocols.
    assert ids == [0, 20, 30, 40, 60, 70, 80, 120]


def test_the_reference_shares_no_image_with_the_prompts(annotations):
    photos = prompts.read_photos(annotations)
    drawn = prompts.draw(photos, 8, 0)
    left = prompts.others(photos, drawn, 5, 0)
    assert {photo.id for photo in left} == {photo.id for photo in photos} - {p["image_id"] for p in drawn}
    with pytest.raises(UserError, match=r"--n-reference 6: 5 of the 13 images .* are left beside those of the 8"):
        prompts.others(photos, drawn, 6, 0)


def test_the_command_writes_a_list_and_says_which_it_is(annotations, tmp_path, monkeypatch, capsys):
    out = tmp_path / "prompts.jsonl"
    run(monkeypatch, "draw", "--annotations", annotations, "--n", 8, "--seed", 3, "--out", out)
    captions = [p["caption"] for p in read_prompts(out)]
    assert len(captions) == 8
    said = capsys.readouterr().out
    assert f"8 captions, sha256 {protocols.captions_sha(captions)}, no list of" in said


def test_a_known_list_is_known_whatever_file_it_stands_in(shared, tmp_path, monkeypatch, capsys):
    for name, known in (
        ("coco2014_val_captions_30k.csv", "coco2014-30k"),
        ("coco2014_val_captions_5k.tsv", "mlperf-5k"),
    ):
        out = tmp_path / f"{known}.jsonl"
        run(monkeypatch, "draw", "--list", shared / "prompts" / name, "--out", out)
        assert f"the known list {known}: " in capsys.readouterr().out
        captions = [p["caption"] for p in read_prompts(out)]
        assert protocols.list_of(captions) == protocols.load_list(known)


def test_photographs_are_collected_as_they_are_with_their_captions(annotations, folder, tmp_path, monkeypatch):
    out, real, reference = (tmp_path / name for name in ("prompts.jsonl", "real.zip", "reference.zip"))
    run(monkeypatch, "draw", "--annotations", annotations, "--n", 8, "--out", out)
    words = ["photos", "--prompts", out, "--annotations", annotations, "--images", folder]
    words += ["--real", real, "--n-reference", 4, "--reference", reference]
    run(monkeypatch, *words)
    drawn = read_prompts(out)
    shown = ImageSet(real)
    assert shown.names == [p["photo"] for p in drawn]
    assert shown.captions == [p["caption"] for p in drawn]
    assert shown.data(0) == (folder / drawn[0]["photo"]).read_bytes()
    with zipfile.ZipFile(reference) as archive:
        assert len(archive.namelist()) == 4
        assert not set(archive.namelist()) & set(shown.names)
    before = real.read_bytes(), reference.read_bytes()
    run(monkeypatch, *words)
    assert (real.read_bytes(), reference.read_bytes()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["draw", "--annotations", "{annotations}", "--out", "{tmp}/p.jsonl"], "say how many are to be drawn: --n"),
        (["draw", "--annotations", "{annotations}", "--n", 14, "--out", "{tmp}/p.jsonl"], "captions of 13 images"),
        (["draw", "--annotations", "{tmp}/no.json", "--n", 1, "--out", "{tmp}/p.jsonl"], "No such file"),
        (["draw", "--annotations", "{tmp}/list.txt", "--n", 1, "--out", "{tmp}/p.jsonl"], "not COCO's captions"),
        (["draw", "--list", "{tmp}/list.txt", "--n", 3, "--out", "{tmp}/p.jsonl"], "has 2 captions, not 3"),
        (["draw", "--list", "{annotations}", "--out", "{tmp}/p.jsonl"], "draw a list from them first"),
        (["draw", "--list", "{tmp}/list.txt", "--out", "{tmp}/p.txt"], r"a list of prompts is a \.jsonl"),
        (["photos", "--prompts", "{tmp}/listed.jsonl"], "no list that `draw --annotations` made"),
        (["photos", "--prompts", "{tmp}/no.jsonl"], "no list that `draw --annotations` made"),
        (["photos", "--prompts", "{tmp}/drawn.jsonl"], "No such file or directory: the annotations name it"),
    ],
)
def test_mistakes_are_one_line(annotations, tmp_path, monkeypatch, words, said):
    (tmp_path / "list.txt").write_text("a cat\na dog\n")
    run(monkeypatch, "draw", "--list", tmp_path / "list.txt", "--out", tmp_path / "listed.jsonl")
    run(monkeypatch, "draw", "--annotations", annotations, "--n", 2, "--out", tmp_path / "drawn.jsonl")
    if words[0] == "photos":
        words = [*words, "--annotations", "{annotations}", "--images", "{tmp}", "--n-reference", 1]
        words += ["--real", "{tmp}/real.zip", "--reference", "{tmp}/reference.zip"]
    with pytest.raises(UserError, match=said) as error:
        run(monkeypatch, *(str(word).format(annotations=annotations, tmp=tmp_path) for word in words))
    assert "\n" not in error.value.message
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no prompts, or not in order"),
        ('{"index": 1, "caption": "x", "seed": 1}\n', "no prompts, or not in order"),
        ("[]\n", "no list of prompts"),
        ("x\n", "no list of prompts"),
    ],
)
def test_a_list_that_is_none_is_refused_where_it_is_read(tmp_path, text, said):
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_prompts(path)
