"""The scorer as a person meets it: any images, any reference, any mistake."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evaluation import protocols, records, score, statistics
from evaluation.declared import PAIRED
from evaluation.image_sets import ImageSet
from evaluation.metrics import MEASURES
from evaluation.metrics.frechet import frechet_distance, moments
from gigagan import pretrained as weights
from gigagan.archive import write_images
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError
from gigagan.files import sha256

SCENES = Scenes(16, (0.75, 0.25, 0.0), "test")


class Small(nn.Module):
    """As much of Inception's TorchScript file as is used, of eight features that 40 images span; the others are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2048)
        )
        self.output = nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    torch.jit.script(Small()).save(str(folder / weights.KNOWN["inception"].file))
    return folder


@pytest.fixture
def command(inception: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> Callable[..., dict[str, Any]]:
    """``command("blind@1", images, reference, *options)``: what it writes as JSON, with what it prints."""
    known = weights.KNOWN["inception"]
    monkeypatch.setitem(weights.KNOWN, "inception", dataclasses.replace(known, sha256=sha256(inception / known.file)))

    def run(protocol: str, images: Path, reference: Path | None, *more: object) -> dict[str, Any]:
        out = tmp_path / "out" / "scores.json"
        shutil.rmtree(out.parent, ignore_errors=True)
        against = () if reference is None else ("--reference", reference)
        arguments = ("--protocol", protocol, "--images", images, *against, "--weights", inception)
        monkeypatch.setattr("sys.argv", ["score", *map(str, (*arguments, "--json", out, *more))])
        try:
            score.main()
        except UserError:
            assert not out.exists()
            raise
        found, printed = json.loads(out.read_text()), capsys.readouterr()
        return {**found, "table": printed.out, "said": printed.err}

    return run


def picture(i: int, side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """40 images with captions, and 30 to compare with."""
    images, reference = tmp_path / "images", tmp_path / "reference"
    for folder, indices in ((images, range(40)), (reference, range(100, 130))):
        folder.mkdir()
        for i in indices:
            picture(i).save(folder / f"{i}.png")
    (images / "captions.txt").write_text("".join(f"picture {i}\n" for i in range(40)))
    return images, reference


def values(found: dict[str, Any]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in found["scores"].items()}


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
        patch.setattr(ImageSet, "decode", lambda *_: pytest.fail("read again"))
        assert command("blind@1", *sets, "--cache", tmp_path / "cache")["scores"] == first["scores"]
    picture(7).rotate(90).save(sets[0] / "3.png")  # another picture: other features
    assert command("blind@1", *sets, "--cache", tmp_path / "cache")["scores"] != first["scores"]
    assert not list((tmp_path / "cache").glob(".*"))


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
    there, about = statistics.read(file)
    statistics.write(file, there, {})  # as clean-fid, pytorch-fid and StudioGAN write them
    foreign = command("blind-fd@1", images, file)
    assert "r.npz does not say how it was made" in foreign["said"]
    assert "statistics, of how many images they do not say" in foreign["table"]
    assert values(foreign) == values(first)
    assert foreign["protocol_sha"] != first["protocol_sha"]
    for change in ({"pictures": "crop centre, lanczos to 256 px"}, {"weights": "0" * 64}, {"features": "dinov2"}):
        statistics.write(file, there, about | change)
        with pytest.raises(UserError, match=f"was made in another way than blind-fd@1 does it: {next(iter(change))}"):
            command("blind-fd@1", images, file)
    statistics.write(file, there, about)
    numbered = dataclasses.replace(protocols.load("blind-fd@1"), reference=31)
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "load", lambda name: numbered)
        with pytest.raises(UserError, match=r"is against 31 images .* these statistics are of 30"):
            command("blind-fd@1", images, file)
    statistics.write(file, moments(np.random.default_rng(0).normal(size=(50, 64))), {})
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
    statistics.write(file, moments(np.random.default_rng(0).normal(size=(300, 68))), {})
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


# All of them ---------------------------------------------------------------------------------------------------------


class Difference:
    """A perceptual distance that needs no weights."""

    sha = "0" * 64

    def to(self, device: torch.device) -> Difference:
        return self

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))


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
