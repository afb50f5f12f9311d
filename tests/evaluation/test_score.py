"""The scorer as a person meets it: any images, any reference, any mistake."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import protocols, records
from evaluation.declared import PAIRED
from evaluation.metrics import MEASURES
from gigagan import pretrained as weights
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError
from tests.evaluation.scoring import Difference, picture, values

SCENES = Scenes(16, (0.75, 0.25, 0.0), "test")


# What it says --------------------------------------------------------------------------------------------------------


def test_the_table_says_what_was_scored_and_how(command, sets) -> None:
    found = command("blind@1", *sets)
    for words in ("blind@1", found["protocol_sha"], "40 of 16x16 px", "30 images", "FD", "precision", "recall"):
        assert words in found["table"]
    assert values(found).keys() == {"fd", "precision", "recall", "density", "coverage"}
    assert found["scores"]["fd"]["higher_is_better"] is False
    assert found["images"]["n"] == 40
    assert found["made"]["git_sha"]
    assert "covariance is singular" in found["said"]  # 40 images, 68 features
    assert "far too large" in found["said"]


def test_folder_zip_tar_and_statistics_give_the_same(command, sets, tmp_path: Path) -> None:
    images, _reference = sets
    plain = values(command("blind@1", *sets))
    for kind in ("zip", "tar"):
        a, b = (Path(shutil.make_archive(str(tmp_path / folder.name), kind, folder)) for folder in sets)
        assert values(command("blind@1", a, b)) == plain
    features = command("blind-fd@1", *sets, "--save-reference", tmp_path / "r.npz")
    assert features["scores"]["fd"]["value"] == pytest.approx(plain["fd"], rel=1e-9)
    again = command("blind-fd@1", images, tmp_path / "r.npz")
    assert again["scores"] == features["scores"]
    assert again["protocol_sha"] == features["protocol_sha"]  # the same reference, however it comes
    assert again["reference"] == {"path": str(tmp_path / "r.npz"), "n": 30, "sha256": features["reference"]["sha256"]}


def test_no_score_depends_on_batch_threads_or_the_order_of_files(command, sets, tmp_path: Path) -> None:
    images, reference = sets
    first = command("blind@1", *sets)
    others = [command("blind@1", *sets, "--batch", 7, "--threads", 3)]
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, file in enumerate(sorted(images.glob("*.png"), key=lambda path: path.read_bytes())):
        shutil.copy(file, renamed / f"{i}.png")
    others.append(command("blind@1", renamed, reference))
    for other in others:
        assert values(other) == pytest.approx(values(first), rel=1e-5, abs=1e-9)
        assert other["images"]["sha256"] == first["images"]["sha256"]
        assert other["protocol_sha"] == first["protocol_sha"]
    again = command("blind@1", *sets)
    assert again["scores"] == first["scores"]


def test_features_are_kept_in_a_cache(command, sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = command("blind@1", *sets, "--cache", tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.reading.decoded", lambda *_: pytest.fail("read again"))
        assert command("blind@1", *sets, "--cache", tmp_path / "cache")["scores"] == first["scores"]
    picture(7).rotate(90).save(sets[0] / "3.png")  # another picture: other features
    assert command("blind@1", *sets, "--cache", tmp_path / "cache")["scores"] != first["scores"]
    assert not list((tmp_path / "cache").glob(".*"))


def test_pictures_of_one_colour_are_counted_and_said_from_the_cache_too(command, sets, tmp_path: Path) -> None:
    out, cache = tmp_path / "rows.jsonl", ("--cache", tmp_path / "cache")
    recorded = ("--record", out, "--suite", "mine", "--variant", "real", *cache)
    assert command("blind@1", *sets, *recorded)["images"]["n_constant"] == 0
    assert all("n_constant" not in row for row in records.read([out]))
    for name in ("11", "3"):
        Image.new("RGB", (16, 16), (9, 8, 7)).save(sets[0] / f"{name}.png")
    for _ in range(2):
        found = command("blind@1", *sets, *recorded)
        assert found["images"]["n_constant"] == 2
        wanted = "2 of 40 images are of one colour throughout, the first is 3.png: they are scored as they are"
        assert any(wanted in line for line in found["warnings"])
        assert {row["n_constant"] for row in records.read([out])} == {2}
    for note in (tmp_path / "cache").glob("*/about.json"):  # as it was before pictures were counted: read again
        note.write_text(json.dumps({k: v for k, v in json.loads(note.read_text()).items() if k != "constant"}))
    assert command("blind@1", *sets, *recorded)["images"]["n_constant"] == 2


def test_rows_can_be_recorded(command, sets, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    found = command("blind@1", *sets, "--record", out, "--suite", "mine", "--variant", "real")
    rows = {row["metric"]: row for row in records.read([out])}
    assert {name: row["value"] for name, row in rows.items()} == values(found)
    assert rows["fd"]["protocol_sha"] == found["protocol_sha"]
    assert (rows["fd"]["resolution"], rows["fd"]["n_images"], rows["fd"]["seed"]) == (16, 40, None)
    with pytest.raises(UserError, match="--record wants --suite and --variant"):
        command("blind@1", *sets, "--record", out)
    with pytest.raises(UserError, match="--run and --seed belong to every variant but"):
        command("blind@1", *sets, "--record", out, "--suite", "mine", "--variant", "gigagan")


def test_a_suite_s_protocol_scores_folders_too(command, tmp_path: Path, monkeypatch, clip_folder) -> None:
    for name, start, n in (("images", 0, 30), ("reference", 30, 40)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.fromarray(SCENES[start + i].image).save(tmp_path / name / f"{i}.png")
            (tmp_path / name / f"{i}.txt").write_text(SCENES[start + i].caption)
    load = protocols.load
    small = dataclasses.replace(load("scenes@2"), images=30, reference=40)
    monkeypatch.setattr(protocols, "load", lambda name: small)
    with pytest.raises(UserError, match="scenes@2 is scored by a judge: name it with --judge"):
        command("scenes@2", tmp_path / "images", tmp_path / "reference")
    found = values(command("scenes@2", tmp_path / "images", tmp_path / "reference", "--judge", clip_folder))
    assert found["object_color_accuracy"] > 0.9
    assert found.keys() >= {"fd", "clip_score", "clip_score_shuffled", "shape_accuracy"}
    assert "fid" not in found


def test_gates_are_ranges(command, sets, monkeypatch: pytest.MonkeyPatch) -> None:
    value = command("blind-fd@1", *sets)["scores"]["fd"]["value"]
    plain = protocols.load("blind-fd@1")
    for low, high, met in (
        (0, value, True),
        (value, value + 1, True),
        (0, value - 1e-6, False),
        (value + 1, 1e9, False),
    ):
        gated = dataclasses.replace(plain, gates={"fd": (low, high)})
        monkeypatch.setattr(protocols, "load", lambda name, gated=gated: gated)
        found = command("blind-fd@1", *sets)
        assert found["scores"]["fd"]["gate_met"] is met
        assert ("met: " in found["table"], "MISSED: " in found["table"]) == (met, not met)


def test_pairs_are_compared_with_their_truth(command, sets, tmp_path: Path, monkeypatch) -> None:
    load = protocols.load
    plain = dataclasses.replace(load("blind@1"), metrics=("fd", "psnr", "ssim"))
    monkeypatch.setattr(protocols, "load", lambda name: plain)
    truth = tmp_path / "truth"
    truth.mkdir()
    for i in range(40):
        noisy = np.asarray(picture(i)).astype(int) + np.random.default_rng(i).integers(-9, 10, (16, 16, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(truth / f"{i}.png")
    found = values(command("blind@1", *sets, "--truth", truth))
    assert 30 < found["psnr"] < 40
    assert 0.9 < found["ssim"] < 1
    with pytest.raises(UserError, match="psnr wants each image's ground truth: name them with --truth"):
        command("blind@1", *sets)
    (truth / "39.png").unlink()
    with pytest.raises(UserError, match="39 images for the 40 of"):
        command("blind@1", *sets, "--truth", truth)


# All of them ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", protocols.names(speeds=False))
def test_every_protocol_has_networks_for_all_its_metrics(name: str, monkeypatch, clip) -> None:
    from evaluation import extractors, scorer

    protocol = protocols.load(name)
    asked: list[str] = []
    stub = SimpleNamespace(sha="00", width=1024, to=lambda device: stub)
    inception = SimpleNamespace(base=SimpleNamespace(output=SimpleNamespace(weight=torch.zeros(1008, 2048))))
    for module in (extractors, scorer):
        monkeypatch.setattr(module, "find", lambda known, folder: asked.append(known) or Path(known))
    monkeypatch.setattr(extractors, "load_inception", lambda *_, **__: inception)
    monkeypatch.setattr(extractors.InceptionPytorch, "__init__", lambda self, *_: None)
    monkeypatch.setattr(extractors.dinov2, "DinoV2", lambda path: stub)
    monkeypatch.setattr(extractors.Clip, "load", lambda model: clip)
    monkeypatch.setattr(scorer, "Lpips", lambda path: Difference())
    made = scorer.Scorer(protocol, judge="judge", progress=False)
    given = {feature for network in made.networks for feature in network.gives}
    of_pairs = {*PAIRED, "lpips_diversity"}
    assert {*made.wanted} - of_pairs <= given
    assert {*made.of_reference} <= given
    assert all(known in weights.KNOWN for known in asked)
    if protocol.clip and protocol.clip.startswith("clip-"):
        assert protocol.clip in asked
    for metric in protocol.metrics:
        assert metric in MEASURES


@pytest.fixture
def distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.scorer.Lpips", lambda path: Difference())
    monkeypatch.setattr("evaluation.scorer.find", lambda name, folder: Path(name))


def test_diversity_is_of_pictures_of_one_caption(command, sets, distances, monkeypatch) -> None:
    images, reference = sets
    plain = dataclasses.replace(protocols.load("blind@1"), metrics=("fd", "lpips_diversity"))
    monkeypatch.setattr(protocols, "load", lambda name: plain)
    (images / "captions.txt").write_text("".join(f"caption {i // 4}\n" for i in range(40)))
    found = command("blind@1", images, reference, "--batch", 7)["scores"]["lpips_diversity"]
    assert found["n_images"] == 10  # captions
    assert 0.1 < found["value"] < 1
    (images / "captions.txt").write_text("".join(f"caption {i}\n" for i in range(40)))
    with pytest.raises(UserError, match="'caption 0' has one picture: diversity is of several of each caption"):
        command("blind@1", images, reference)


def test_lpips_is_of_pairs(command, sets, distances, monkeypatch) -> None:
    plain = dataclasses.replace(protocols.load("blind@1"), metrics=("fd", "lpips", "psnr"))
    monkeypatch.setattr(protocols, "load", lambda name: plain)
    found = command("blind@1", *sets, "--truth", sets[0])
    assert values(found)["lpips"] == 0  # its own truth
    assert found["weights"]["lpips"] == Difference.sha
