"""Of what a score is: hashes, caches, and what is paired with what."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from evaluation import protocols, records, score
from gigagan.archive import write_images
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError
from tests.evaluation.scoring import Difference, picture, values

# Of what a score is --------------------------------------------------------------------------------------------------


def test_the_hash_is_of_everything_but_the_scored_images(command, sets, tmp_path: Path) -> None:
    images, reference = sets
    first = command("blind-fd@1", images, reference)["protocol_sha"]
    others = tmp_path / "others"
    others.mkdir()
    for i in range(40):
        picture(500 + i).save(others / f"{i}.png")
    assert command("blind-fd@1", others, reference)["protocol_sha"] == first  # their scores compare
    large = tmp_path / "large"
    large.mkdir()
    for i in range(40):
        picture(i, 32).save(large / f"{i}.png")
    assert command("fid@1", large, reference)["protocol_sha"] == command("fid@1", images, reference)["protocol_sha"]
    picture(99).save(reference / "130.png")
    assert command("blind-fd@1", images, reference)["protocol_sha"] != first


def test_a_suite_s_archives_have_the_hash_of_the_suite_s_rows(command, tmp_path: Path) -> None:
    """As committed: scenes of the demo suite, their caption-blind scores."""
    root = Path(__file__).parents[2] / "results" / "records"
    row = next(
        row
        for row in records.read([root / "demo.jsonl"])
        if row["protocol"] == "scenes-blind@1" and row["variant"] == "real"
    )
    about = {"dataset": "scenes", "resolution": 16, "objects": [0.85, 0.15, 0.0], "placed": 1.0}
    scenes = Scenes(16, (0.85, 0.15, 0.0), "test")
    items = [scenes[i] for i in range(5000)]
    for name, some in (("reference", slice(0, 4000)), ("real", slice(4000, 5000))):
        of = items[some]
        write_images(tmp_path / f"{name}.zip", [x.image for x in of], [x.caption for x in of], range(len(of)), about)
    out = tmp_path / "rows.jsonl"
    more = ("--record", out, "--suite", "demo", "--variant", "real")
    found = command("scenes-blind@1", tmp_path / "real.zip", tmp_path / "reference.zip", *more)
    assert found["protocol_sha"] == row["protocol_sha"]
    (own,) = records.read([out])
    assert (own["dataset"], own["resolution"]) == ("scenes", 16)


def test_rows_of_a_suite_s_protocol_need_the_suite_s_data(command, sets, tmp_path: Path, monkeypatch) -> None:
    load = protocols.load
    monkeypatch.setattr(
        protocols, "load", lambda n: dataclasses.replace(load("scenes-blind@1"), images=40, reference=30)
    )
    out = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="--record: scenes-blind@1 does not say what its reference is"):
        command("scenes-blind@1", *sets, "--record", out, "--suite", "mine", "--variant", "real")
    assert not out.exists()


def test_ground_truths_are_part_of_the_hash_and_paired_in_order(command, sets, tmp_path: Path) -> None:
    images, _ = sets
    first = command("pairs-psnr@1", images, None, "--truth", images)
    assert first["truth"]["sha256"]
    assert "paired in order" not in first["said"]
    assert values(first)["psnr"] > 58
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for i in range(40):
        shutil.copy(images / f"{i}.png", shuffled / f"x{(i + 1) % 40}.png")
    other = command("pairs-psnr@1", images, None, "--truth", shuffled)
    assert "images and truths are paired in order, as 0.png with x0.png: their names differ" in other["said"]
    assert values(other)["psnr"] < 20
    assert other["protocol_sha"] != first["protocol_sha"]
    with pytest.raises(UserError, match="pairs-psnr@1 has no reference"):
        command("pairs-psnr@1", images, images, "--truth", images)
    with pytest.raises(UserError, match="--reference is missing"):
        command("blind@1", images, None)


def test_patches_do_not_depend_on_names(command, tmp_path: Path) -> None:
    a, b, reference = (tmp_path / name for name in ("a", "b", "reference"))
    for folder, offset, step in ((a, 0, 1), (b, 0, 7), (reference, 50, 1)):
        folder.mkdir()
        for i in range(12):
            picture(offset + i, 320).save(folder / f"{(i * step) % 12}.png")
    first, second = (values(command("patches@1", folder, reference)) for folder in (a, b))
    assert second == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("damage", ["empty", "about", "list", "missing", "cut", "files"])
def test_a_damaged_cache_is_made_again(command, sets, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    first = command("blind@1", *sets, "--cache", cache)
    (cache / ".abc.999999999.tmp").mkdir()  # of a scoring that was killed
    for entry in cache.glob("[!.]*"):
        about = entry / "about.json"
        match damage:
            case "empty":
                (entry / "pyramid.npy").write_bytes(b"")
            case "about":
                about.write_text("{}")
            case "list":
                about.write_text("[]")
            case "missing":
                (entry / "pyramid.npy").unlink()
            case "cut":
                (entry / "pyramid.npy").write_bytes((entry / "pyramid.npy").read_bytes()[:-9])
            case "files":
                content = json.loads(about.read_text())
                about.write_text(json.dumps(content | {"files": content["files"][:-1]}))
    again = command("blind@1", *sets, "--cache", cache)
    assert again["scores"] == first["scores"]
    assert again["protocol_sha"] == first["protocol_sha"]
    assert not list(cache.glob(".*"))


def test_two_judges_do_not_share_a_cache(command, sets, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("evaluation.scorer.find", lambda name, folder: Path(name))
    plain = dataclasses.replace(protocols.load("pairs@1"), metrics=("lpips",))
    monkeypatch.setattr(protocols, "load", lambda name: plain)
    found = []
    for sha, scale in (("1" * 64, 1.0), ("2" * 64, 2.0)):
        network = Difference()
        network.sha = sha
        network.distance = lambda a, b, scale=scale: scale * (a - b).abs().mean((1, 2, 3))
        monkeypatch.setattr("evaluation.scorer.Lpips", lambda path, network=network: network)
        found.append(
            command("pairs@1", sets[0], None, "--truth", shifted(tmp_path, sets[0]), "--cache", tmp_path / "c")
        )
    assert values(found[1])["lpips"] == pytest.approx(2 * values(found[0])["lpips"])
    assert found[0]["protocol_sha"] != found[1]["protocol_sha"]


def shifted(tmp_path: Path, images: Path) -> Path:
    folder = tmp_path / "shifted"
    if not folder.exists():
        folder.mkdir()
        for i in range(40):
            shutil.copy(images / f"{(i + 1) % 40}.png", folder / f"{i}.png")
    return folder


def test_captions_that_nothing_wants_stop_nothing(command, sets) -> None:
    images, reference = sets
    (reference / "captions.txt").write_text("a note")
    (images / "captions.txt").write_text("another")
    assert command("blind@1", images, reference)["captions"] == {"sha256": None, "list": None}


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pictures_of_more_than_eight_bits_are_refused(command, sets, mode: str) -> None:
    suffix = "png" if mode == "I;16" else "tif"
    (sets[0] / "7.png").unlink()
    Image.new(mode, (16, 16), 900).save(sets[0] / f"7.{suffix}")
    with pytest.raises(UserError, match=rf"7\.{suffix}: has more than 8 bits a channel"):
        command("blind@1", *sets)


def test_small_values_are_legible(command, sets) -> None:
    assert score._digits(3.9e-6, "") == "3.9e-06"
    assert score._digits(0.0, "") == "0.0000"
    assert score._digits(0.5, " %") == "50.0"
    found = command("blind@1", *sets)
    assert "bias of precision, recall: " in found["table"]
    assert found["made"]["threads"] >= 1


def test_places_that_cannot_be(command, sets, tmp_path: Path, capsys) -> None:
    with pytest.raises(UserError, match="is a folder, not a file to write"):
        command("blind@1", *sets, "--json", tmp_path)
    with pytest.raises(SystemExit):
        command("blind@1", "", sets[1])
    assert "is empty: name a file or a folder" in capsys.readouterr().err
