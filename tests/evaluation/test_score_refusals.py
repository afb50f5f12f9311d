"""What the scorer refuses, and what it warns of."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import protocols, score, statistics_file
from evaluation.image_sets import ImageSet
from evaluation.metrics.frechet import frechet_distance, moments
from gigagan import pretrained as weights
from gigagan.errors import UserError
from gigagan.files import sha256
from tests.evaluation.scoring import picture, values

# What it refuses -----------------------------------------------------------------------------------------------------


def test_numbers_that_do_not_compare(command, sets) -> None:
    with pytest.raises(UserError, match="gigagan-coco30k@1 scores 30,000 images, here are 40: figures at other"):
        command("gigagan-coco30k@1", *sets)
    images, _ = sets
    for file in list(images.glob("*.png"))[1:]:
        file.unlink()
    (images / "captions.txt").unlink()
    with pytest.raises(UserError, match="one image has no spread"):
        command("blind@1", *sets)
    next(images.glob("*.png")).unlink()
    with pytest.raises(UserError, match="no images there"):
        command("blind@1", *sets)


def test_too_few_images_for_a_metric_are_said_before_any_work(command, sets, monkeypatch) -> None:
    monkeypatch.setattr(ImageSet, "decode", lambda *_: pytest.fail("worked"))
    with pytest.raises(UserError, match="fid_infinity wants 5,015 images or more, here are 40"):
        command("fid-infinity@1", *sets)


def test_mixed_sizes(command, sets) -> None:
    images, reference = sets
    picture(3, 24).save(reference / "103.png")
    with pytest.raises(UserError, match=r"reference: 103\.png is 24x24 px, the first is 16x16: images of mixed sizes"):
        command("blind@1", *sets)
    command("fid@1", *sets)  # photographs are of any size, and Inception's resize makes them alike
    picture(3, 24).save(images / "3.png")
    with pytest.raises(UserError, match=r"images: 3\.png is 24x24 px, the first is 16x16: images of mixed sizes"):
        command("fid@1", *sets)
    assert command("fid@1", *sets, "--photographs")["scores"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "7.png: is empty"),
        (b"<html>404</html>", "7.png: is not an image, whatever its name says"),
        (None, "7.png: broken image"),
    ],
)
def test_broken_files(command, sets, content, words) -> None:
    file = sets[0] / "7.png"
    file.write_bytes(file.read_bytes()[:400] if content is None else content)
    with pytest.raises(UserError, match=words):
        command("blind@1", *sets)


def test_captions(command, sets, tmp_path: Path, monkeypatch) -> None:
    images, reference = sets
    load = protocols.load
    small = dataclasses.replace(load("gigagan-coco30k@1"), images=40, reference=30)
    monkeypatch.setattr(protocols, "load", lambda name: small)
    (images / "captions.txt").write_text("one\n" * 39)
    with pytest.raises(UserError, match=r"39 captions for 40 images: the first image without one is 39\.png"):
        command("gigagan-coco30k@1", images, reference)
    (images / "captions.txt").unlink()
    monkeypatch.setattr("evaluation.scorer.networks", lambda *_: [])
    with pytest.raises(UserError, match=r"wants captions, and there are none: put a captions\.txt"):
        command("gigagan-coco30k@1", images, reference)
    (tmp_path / "list.tsv").write_text("id\tcaption\n" + "".join(f"{i}\tpicture {i}\n" for i in range(40)))
    pinned = dataclasses.replace(small, list="mlperf-5k")
    monkeypatch.setattr(protocols, "load", lambda name: pinned)
    with pytest.raises(UserError, match=r"the captions are not MLPerf Inference's 5,000 captions .* scores no others"):
        command("gigagan-coco30k@1", images, reference, "--captions", tmp_path / "list.tsv")


def test_copies_are_counted_and_scored(command, sets) -> None:
    images, reference = sets
    for i in (5, 6):
        shutil.copy(images / "4.png", images / f"{i}.png")
    shutil.copy(images / "1.png", reference / "101.png")
    found = command("blind@1", *sets)
    assert "2 of 40 images are copies of others, as 5.png is of 4.png" in found["said"]
    assert "1 of its images are in the reference, too" in found["said"]
    assert found["warnings"]


def test_nan_is_an_error_with_the_image_s_name(command, sets, inception, monkeypatch) -> None:
    from evaluation.extractors import Inception

    usual = Inception.features

    def features(self: Any, prepared: np.ndarray, captions: Any) -> dict[str, torch.Tensor]:
        found = usual(self, prepared, captions)
        dark = torch.from_numpy(prepared).mean((1, 2, 3)) < 2
        return {name: torch.where(dark[:, None], torch.nan, rows) for name, rows in found.items()}

    monkeypatch.setattr(Inception, "features", features)
    command("fid@1", *sets)
    Image.new("RGB", (16, 16)).save(sets[0] / "33.png")
    with pytest.raises(UserError, match=r"33\.png: its features \(inception\) hold NaN or infinity"):
        command("fid@1", *sets)


def test_statistics_that_do_not_fit(command, sets, tmp_path: Path, monkeypatch) -> None:
    images, _reference = sets
    file = tmp_path / "r.npz"
    first = command("blind-fd@1", *sets, "--save-reference", file)
    there, about = statistics_file.read(file)
    statistics_file.write(file, there, {})  # as clean-fid, pytorch-fid and StudioGAN write them
    foreign = command("blind-fd@1", images, file)
    assert "r.npz does not say how it was made" in foreign["said"]
    assert "statistics, of how many images they do not say" in foreign["table"]
    assert values(foreign) == values(first)
    assert foreign["protocol_sha"] != first["protocol_sha"]
    for change in ({"pictures": "crop centre, lanczos to 256 px"}, {"weights": "0" * 64}, {"features": "dinov2"}):
        statistics_file.write(file, there, about | change)
        with pytest.raises(UserError, match=f"was made in another way than blind-fd@1 does it: {next(iter(change))}"):
            command("blind-fd@1", images, file)
    statistics_file.write(file, there, about)
    numbered = dataclasses.replace(protocols.load("blind-fd@1"), reference=31)
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "load", lambda name: numbered)
        with pytest.raises(UserError, match=r"is against 31 images .* these statistics are of 30"):
            command("blind-fd@1", images, file)
    statistics_file.write(file, moments(np.random.default_rng(0).normal(size=(50, 64))), {})
    with pytest.raises(UserError, match="statistics of 64 features, inception has 2,048"):
        command("fid@1", images, file)
    with pytest.raises(UserError, match="statistics of 64 features do not compare with images of 68"):
        command("blind-fd@1", images, file)
    with pytest.raises(UserError, match="precision_recall wants the reference's images"):
        command("blind@1", images, file)
    with pytest.raises(UserError, match=r"--save-reference: blind@1 wants more of its reference"):
        command("blind@1", *sets, "--save-reference", file)


def test_a_pinned_reference_is_that_one_file(command, sets, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "val.npz"
    statistics_file.write(file, moments(np.random.default_rng(0).normal(size=(300, 68))), {})
    import subprocess

    blob = subprocess.run(["git", "hash-object", str(file)], capture_output=True, text=True, check=True).stdout.strip()
    plain = protocols.load("blind-fd@1")
    for pin, fits in ((f"git {blob}", True), (sha256(file), True), ("git " + "0" * 40, False)):
        pinned = dataclasses.replace(plain, reference_pin=pin)
        monkeypatch.setattr(protocols, "load", lambda name, pinned=pinned: pinned)
        if fits:
            assert "does not say" not in command("blind-fd@1", sets[0], file)["said"]
        else:
            with pytest.raises(UserError, match="wrong checksum: blind-fd@1 is against as given"):
                command("blind-fd@1", sets[0], file)
    with pytest.raises(UserError, match="is against as given and nothing else"):
        command("blind-fd@1", *sets)


def test_weights_that_are_not_there_or_others(command, sets, inception, monkeypatch, tmp_path: Path) -> None:
    known = weights.KNOWN["inception"]
    elsewhere = dataclasses.replace(known, cached=lambda file: None)
    monkeypatch.setitem(weights.KNOWN, "inception", elsewhere)
    with pytest.raises(UserError, match=rf"{known.file} .*MB, sha256 .* fetch it from .* put it into {tmp_path}"):
        command("fid@1", *sets, "--weights", tmp_path)
    monkeypatch.setitem(weights.KNOWN, "inception", dataclasses.replace(elsewhere, sha256="0" * 64))
    with pytest.raises(UserError, match="wrong checksum"):
        command("fid@1", *sets)


def test_what_is_not_there(command, sets, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: there is nothing there"):
        command("blind@1", tmp_path / "gone", sets[1])
    with pytest.raises(UserError, match=r"gone\.npz: there is no such file of statistics"):
        command("blind-fd@1", sets[0], tmp_path / "gone.npz")
    with pytest.raises(UserError, match=r"unknown protocol 'clean-fid@2' \(did you mean 'clean-fid@1'\?\)"):
        command("clean-fid@2", *sets)
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("1.png", b"x" * 1000)
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(UserError, match=r"broken\.zip: not a whole zip file"):
        command("blind@1", broken, sets[1])


def test_protocols_are_listed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["score", "--protocol", "list"])
    score.main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("gigagan-coco30k@1", "mlperf-sdxl@1", "stylegan-t-coco30k-64@1"))


def test_a_distance_of_kept_features_is_that_of_all_at_once(command, sets, inception) -> None:
    from evaluation.extractors import Inception, extract

    network = Inception(inception / weights.KNOWN["inception"].file, torch.device("cpu"))
    both = []
    for folder in sets:
        names = sorted(folder.glob("*.png"))
        both.append(extract([(np.stack([np.asarray(Image.open(name)) for name in names]), [])], [network])["inception"])
    with pytest.warns(UserWarning, match="singular"):
        wanted = frechet_distance(*both)
    assert values(command("fid@1", *sets))["fid"] == pytest.approx(wanted, rel=1e-6)
