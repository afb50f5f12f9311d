from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from evaluation import extractors, feature_file, features, protocols, pyramid, reference
from evaluation import rows as scoring
from evaluation.metrics.frechet import frechet_distance
from evaluation.records import read
from gigagan import pretrained as weights
from gigagan.archive import read_prompts, write_images
from gigagan.config import DataConfig
from gigagan.data import Item
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError

SCENES = Scenes(16, (0.75, 0.25, 0.0), "test")


def pictures(n: int, start: int = 0) -> np.ndarray:
    return np.stack([SCENES[i].image for i in range(start, start + n)])


# The pyramid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "width"), [(8, 58), (16, 68), (32, 78), (64, 88)])
def test_the_pyramid_has_the_declared_width_and_is_finite(side: int, width: int) -> None:
    images = np.zeros((2, side, side, 3), np.uint8)
    images[1] = np.random.default_rng(0).integers(0, 256, (side, side, 3))
    values = pyramid.features(images)
    assert values.shape == (2, width)
    assert values.dtype == torch.float32
    assert values.isfinite().all()


def test_the_pyramid_of_a_flat_picture_is_what_its_definition_says() -> None:
    flat = pyramid.features(np.full((1, 16, 16, 3), 255, np.uint8))[0]
    light, red, blue = flat[:48].view(3, 16)
    assert torch.allclose(light, torch.tensor(1.5 * 3**0.5))
    assert torch.allclose(torch.stack([red, blue]), torch.tensor(0.0), atol=1e-6)
    energy, sparsity, orientation = flat[48:54], flat[54:60], flat[60:]
    assert torch.allclose(torch.cat([energy, orientation]), torch.tensor(1 / 255).log2(), atol=1e-3)
    assert torch.allclose(sparsity, torch.tensor(0.0), atol=1e-3)


def test_stripes_stand_out_in_their_orientation() -> None:
    x = np.zeros((2, 16, 16, 3), np.uint8)
    x[0, :, ::2], x[1, ::2] = 255, 255
    along_rows, _, along_columns, _ = pyramid.features(x)[:, 60:64].T
    assert along_rows[0] > along_columns[0] + 4
    assert along_columns[1] > along_rows[1] + 4


@pytest.mark.parametrize(
    ("disturb", "least"),
    [
        (lambda x: x + np.random.default_rng(0).normal(0, 0.05 * 255, x.shape), 10),
        (lambda x: np.stack([np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(0.7))) for i in x]), 4),
        (lambda x: 127.5 + 0.8 * (x - 127.5), 3),
    ],
    ids=["noise", "blur", "contrast"],
)
def test_the_pyramid_sees_what_a_judge_hardly_does(disturb, least: float) -> None:
    real, there = pyramid.features(pictures(1000)).numpy(), pictures(500, 1000)
    disturbed = disturb(there).clip(0, 255).astype(np.uint8)
    floor, distance = (frechet_distance(pyramid.features(x).numpy(), real) for x in (there, disturbed))
    assert distance > least * floor


def test_the_pyramid_takes_squares_of_a_power_of_two_only() -> None:
    for shape in ((1, 16, 32, 3), (1, 24, 24, 3), (1, 4, 4, 3)):
        with pytest.raises(UserError, match="power of two"):
            pyramid.features(np.zeros(shape, np.uint8))


# Inception -----------------------------------------------------------------------------------------------------------


class FakeInception(torch.nn.Module):
    """As much of the TorchScript file as clean-fid touches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2048))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def inception_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file in Inception's own format, with another network in it."""

    def save(network: torch.nn.Module) -> Path:
        known = weights.KNOWN["inception"]
        file = tmp_path / known.file
        torch.jit.script(network).save(str(file))
        monkeypatch.setitem(weights.KNOWN, "inception", dataclasses.replace(known, sha256=features.sha256(file)))
        return file

    return save


def test_inception_goes_through_clean_fid(inception_file, monkeypatch: pytest.MonkeyPatch) -> None:
    file = inception_file(FakeInception())
    extractor = extractors.Inception(file, torch.device("cpu"))
    found = extractors.extract([(pictures(2), ["a", "b"])], [extractor])
    assert found["inception"].shape == (2, 2048)
    with open(file, "ab") as f:
        f.write(b"0")
    with pytest.raises(UserError, match="checksum is wrong"):
        extractors.Inception(file, torch.device("cpu"))


def test_patches_are_seen_at_inception_s_own_size(inception_file) -> None:
    class MeanColour(FakeInception):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3)).repeat(1, 683)[:, :2048]

    network = MeanColour()
    network.layers = MeanColour()
    file = inception_file(network)
    images = np.random.default_rng(0).integers(0, 256, (3, 310, 300, 3), dtype=np.uint8)
    extractor = extractors.InceptionPatch(file, torch.device("cpu"))
    whole = extractors.extract([(images, "abc")], [extractor])["inception_patch"]
    assert whole.shape == (3, 2048)
    for image, found in zip(images, whole, strict=True):  # some square of 299 px, uncopied
        every = np.stack([image[y : y + 299, x : x + 299].mean(axis=(0, 1)) for y in range(12) for x in range(2)])
        assert np.abs((every - 128) / 128 - found[:3]).max(axis=1).min() < 1e-5
    backwards = extractors.extract([(images[i : i + 1], "a") for i in (2, 1, 0)], [extractor])["inception_patch"]
    np.testing.assert_allclose(backwards[::-1], whole, atol=1e-6)  # wherever a picture stands in its set
    with pytest.raises(UserError, match="no crops of 299 px"):
        extractors.extract([(images[:, :298], "abc")], [extractor])


def test_inception_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the path of clean-fid's inception"):
        extractors.Inception(tmp_path / "inception-2015-12-05.pt", torch.device("cpu"))


# The file ------------------------------------------------------------------------------------------------------------


def test_a_feature_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    arrays = {"judge": np.eye(3, dtype=np.float32), "pyramid": np.ones((3, 2), np.float32)}
    about = {"weights": {"judge": "aa"}, "images": {}, "prefix": "", "size": [8, 8]}
    for name in ("1", "2"):
        feature_file.write(tmp_path / name, arrays, about)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    there, said = feature_file.read(tmp_path / "1")
    assert all((there[name] == array).all() for name, array in arrays.items())
    assert said == {"schema": feature_file.SCHEMA, **about}


def test_a_bad_feature_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; extract the features again"):
        feature_file.read(tmp_path / "none")
    (tmp_path / "cut").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match=r"truncated or no safetensors file.*extract the features again"):
        feature_file.read(tmp_path / "cut")
    feature_file.write(tmp_path / "old", {}, {"schema": 0})
    with pytest.raises(UserError, match=f"no feature file of schema {feature_file.SCHEMA}"):
        feature_file.read(tmp_path / "old")


# From held-out images to rows ----------------------------------------------------------------------------------------


class FakeJudge:
    """Embeds captions and images by their mean colour: enough to run the commands without a CLIP."""

    scale = torch.zeros(1)
    sha = "aa"
    image_size = 16

    def to(self, device: torch.device) -> FakeJudge:
        return self

    def tokenize(self, captions: list[str], prefix: str = "") -> torch.Tensor:
        return torch.tensor([[float(len(prefix + caption)), 1.0, 0.0] for caption in captions])

    def embed_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(tokens)

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    def embed_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)))


def run(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
    module.main()


def extract(monkeypatch: pytest.MonkeyPatch, images: Path, out: Path) -> None:
    run(monkeypatch, features, "--images", images, "--judge", "judge", "--out", out)


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Held-out images and their features in tmp_path, and a function that scores them."""
    monkeypatch.setattr(features.Clip, "load", lambda name: FakeJudge())
    data = ("data.name=scenes", "data.resolution=16", "--n-reference", 150, "--n-real", 100)
    run(monkeypatch, reference, *data, "--reference", tmp_path / "reference.zip", "--real", tmp_path / "real.zip")
    for name in ("reference", "real"):
        extract(monkeypatch, tmp_path / f"{name}.zip", tmp_path / f"{name}.safetensors")

    def call(*more: object, images: str = "real.zip") -> list[dict]:
        arguments = ("--features", tmp_path / "real.safetensors", "--images", tmp_path / images,
                     "--reference-features", tmp_path / "reference.safetensors", "--suite", "demo",
                     "--out", tmp_path / "metrics.jsonl")  # fmt: skip
        run(monkeypatch, scoring, *arguments, *more)
        return read([tmp_path / "metrics.jsonl"])

    return call


def test_pictures_of_one_colour_stand_in_the_header_and_in_rows(scored, tmp_path: Path, monkeypatch, capsys) -> None:
    names = ("--protocols", "two-scenes@1", "--variant", "real")
    protocol = replace(protocols.load("scenes-blind@1"), name="two-scenes@1", images=100, reference=150)
    monkeypatch.setattr(protocols, "load", lambda name: protocol)
    assert all("n_constant" not in row for row in scored(*names))
    images = pictures(100)
    images[[4, 7, 8]] = 77
    write_images(tmp_path / "real.zip", images, [SCENES[i].caption for i in range(100)], range(100))
    capsys.readouterr()
    extract(monkeypatch, tmp_path / "real.zip", tmp_path / "real.safetensors")
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / 'real.zip'}: 3 of 100 pictures are of one colour throughout\n"
    )
    assert feature_file.read(tmp_path / "real.safetensors")[1]["n_constant"] == 3
    assert {row["n_constant"] for row in scored(*names)} == {3}


def test_diversity_is_a_column_of_the_features(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Difference(FakeJudge):
        def __init__(self, path: Path) -> None:
            self.path = path

        def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean((1, 2, 3))

    monkeypatch.setattr(features, "Lpips", Difference)
    captions = [f"a {size} red circle on green" for size in ("big", "small") for _ in range(3)]
    write_images(tmp_path / "samples.zip", pictures(6), captions, range(6))
    out = tmp_path / "samples.safetensors"
    drawn = ("--images", tmp_path / "samples.zip", "--judge", "judge", "--out", out)
    run(monkeypatch, features, *drawn, "--diversity", "--lpips", "vgg", "--batch", 4)
    there, about = feature_file.read(out)
    assert there["lpips_diversity"].shape == (6, 1)
    assert (there["lpips_diversity"] > 0).all()
    assert about["weights"]["lpips_diversity"] == Difference.sha
    with pytest.raises(UserError, match="--diversity: is measured by LPIPS"):
        run(monkeypatch, features, *drawn, "--diversity")
    with pytest.raises(UserError, match="--lpips: compares with the ground truth, or within a caption"):
        run(monkeypatch, features, *drawn, "--lpips", "vgg")


def test_features_do_not_depend_on_the_batch_size() -> None:
    images, captions = pictures(10), [SCENES[i].caption for i in range(10)]
    both = [extractors.Judge(FakeJudge()), extractors.Pyramid()]
    whole = extractors.extract([(images, captions)], both)
    parts = extractors.extract([(images[:7], captions[:7]), (images[7:], captions[7:])], both)
    assert whole.keys() == parts.keys() == {"judge", "judge_image", "judge_text", "pyramid"}
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-5, atol=1e-5)


def test_real_images_are_scored_by_both_protocols(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smaller(monkeypatch)
    rows = scored("--variant", "real", "--protocols", "scenes@2,scenes-blind@1")
    assert {(row["metric"], row["protocol"]) for row in rows} >= {
        ("fd", "scenes@2"), ("fd", "scenes-blind@1"), ("clip_score", "scenes@2"), ("clip_score_shuffled", "scenes@2"),
        ("shape_accuracy", "scenes@2"), ("background_color_accuracy", "scenes@2"),
    }  # fmt: skip
    assert {(row["dataset"], row["variant"], row["seed"], row["resolution"]) for row in rows} == {
        ("scenes", "real", None, 16)
    }
    assert len({row["protocol_sha"] for row in rows}) == 2
    held_out, real = (
        {prompt["seed"] for prompt in read_prompts(tmp_path / f"{name}.zip")} for name in ("reference", "real")
    )
    assert (len(held_out), len(real), held_out & real) == (150, 100, set())


def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocols with 100 images against 150."""
    load = protocols.load
    monkeypatch.setattr(protocols, "load", lambda name: dataclasses.replace(load(name), images=100, reference=150))


def test_a_run_gives_its_columns(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smaller(monkeypatch)
    folder = tmp_path / "gigagan" / "seed3"
    arguments = ("--variant", "gigagan", "--seed", 3, "--run", folder, "--protocols", "scenes-blind@1")
    with pytest.raises(UserError, match=r"no .*run\.json: train the run"):
        scored(*arguments)
    folder.mkdir(parents=True)
    facts = {"recipe_sha": "ab", "kimg": 20.0, "params_m": 0.5, "seconds": 60.0, "dtype": "fp32", "device": "a CPU",
             "threads": 1, "git_sha": "cd", "git_dirty": False, "torch": "2.11", "started": "2026-01-01"}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.json").write_text(json.dumps({"config": {"data": {"name": "scenes"}}}))
    (row,) = scored(*arguments)
    facts["git_dirty"] = row["git_dirty"]  # whether this tree is
    assert row.items() >= {**facts, "family": "gigagan", "seed": 3, "metric": "fd"}.items()
    (row,) = scored(*arguments, "--kimg", 5)
    assert (row["kimg"], row["seconds"]) == (5, None)


def test_what_does_not_fit_the_protocol_is_one_clear_line(scored, monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scores 1000 images against 4000, here are 100 and 150"):
        scored("--variant", "real", "--protocols", "scenes@2")
    with pytest.raises(UserError, match="did you mean 'scenes@2'"):
        scored("--variant", "real", "--protocols", "scene@1")
    with pytest.raises(UserError, match="belong to every variant but 'real'"):
        scored("--variant", "gigagan", "--protocols", "scenes@2")
    with pytest.raises(UserError, match="same 'inception' on both sides"):
        scored("--variant", "real", "--protocols", "photos-inception@1")
    with pytest.raises(UserError, match=r"is not of .*reference\.zip"):
        scored("--variant", "real", "--protocols", "scenes@2", images="reference.zip")


def test_photographs_are_known_by_their_contents_and_scenes_by_their_settings() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    items = [Item(picture, "a cat"), Item(picture + 1, "a dog")]
    photos = DataConfig(name="folder", path="here", resolution=8)
    known = reference.describe(photos, items)
    assert known == reference.describe(replace(photos, path="there"), items)
    assert known != reference.describe(photos, [items[0], Item(picture + 2, "a dog")])
    assert known != reference.describe(photos, [items[0], Item(picture + 1, "a log")])
    scenes = DataConfig(resolution=8)
    assert reference.describe(scenes, items) == reference.describe(scenes, items[:1])
    assert reference.describe(scenes, items) != reference.describe(replace(scenes, objects=(1, 0, 0)), items)


def test_the_reference_holds_each_picture_once_or_says_that_there_are_too_few() -> None:
    class Repeating:
        name = "folder"

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int):
            return SCENES[index // 2]  # every picture under two indices

    drawn = list(reference.draw(Repeating(), 20))
    assert len({item.image.tobytes() for _, item in drawn}) == 20
    with pytest.raises(UserError, match="has 20 different pictures, 21 are wanted"):
        list(reference.draw(Repeating(), 21))


def test_features_of_a_set_with_another_judge_are_refused(scored, monkeypatch, tmp_path: Path) -> None:
    smaller(monkeypatch)
    monkeypatch.setattr(FakeJudge, "sha", "bb")
    write_images(tmp_path / "copy.zip", pictures(100), ["a big red circle on green"] * 100, range(100))
    extract(monkeypatch, tmp_path / "copy.zip", tmp_path / "real.safetensors")
    with pytest.raises(UserError, match="same 'judge' on both sides"):
        scored("--variant", "real", "--protocols", "scenes@2", images="copy.zip")
    assert scored("--variant", "real", "--protocols", "scenes-blind@1", images="copy.zip")
