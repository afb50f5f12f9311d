"""From enlarged pictures to rows: what the commands make of a run, of plain filters and of the truth itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation import extractors, features, protocols, reference, tables, upsampling
from evaluation import rows as scoring
from evaluation.records import read
from evaluation.summary import summarise
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.pixels import to_tensor

N, N_REFERENCE = 40, 60
RUN = {"recipe_sha": "ab", "kimg": 20.0, "params_m": 0.5, "seconds": 60.0, "dtype": "fp32", "device": "a CPU",
       "threads": 1, "git_sha": "cd", "git_dirty": False, "torch": "2.11", "started": "2026-01-01"}  # fmt: skip


class Difference:
    """In LPIPS's place, whose weights are not at hand."""

    def __init__(self, path: Path) -> None:
        self.sha = path.name

    def to(self, device: torch.device) -> Difference:
        return self

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))


@pytest.fixture
def scored(tmp_path, monkeypatch, clip_folder) -> Callable[..., list[dict]]:
    """``scored("bicubic", protocol, "--lpips", ...)``: the rows of scenes of 16 px enlarged from 8 px."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(features, "Lpips", Difference)
    load = protocols.load
    monkeypatch.setattr(
        protocols, "load", lambda name: dataclasses.replace(load(name), images=N, reference=N_REFERENCE)
    )

    def run(module: object, *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
        module.main()

    data = ("data.resolution=16", "--n-reference", N_REFERENCE, "--n-real", N)
    run(reference, *data, "--reference", "reference.zip", "--real", "real.zip")
    run(upsampling, "shrink", "--real", "real.zip", "--side", 8, "--out", "small.zip")
    for name in upsampling.FILTERS:
        run(upsampling, "enlarge", "--small", "small.zip", "--side", 16, "--filter", name, "--out", f"{name}.zip")
    judge = ("--judge", clip_folder)
    run(features, "--images", "reference.zip", *judge, "--out", "reference.safetensors")

    def call(variant: str, chosen: str, *more: object, images: str = "", run_folder: str = "") -> list[dict]:
        images = images or variant
        run(features, "--images", f"{images}.zip", *judge, "--out", "s.safetensors", *more)
        of = ("--run", run_folder, "--seed", 0) if run_folder else ()
        run(scoring, "--features", "s.safetensors", "--images", f"{images}.zip", "--reference-features",
            "reference.safetensors", "--protocols", chosen, "--suite", "up", "--variant", variant, "--out", "m.jsonl",
            *of)  # fmt: skip
        return read(["m.jsonl"])

    return call


TRUTH = ("--truth", "real.zip")


def test_filters_are_reference_rows_with_all_metrics(scored):
    rows = {name: {row["metric"]: row for row in scored(name, "upsampled-scenes@1", *TRUTH)} for name in ("bicubic",)}
    row = rows["bicubic"]
    assert set(row) == {"fd", "judge_distance", "psnr", "ssim", "clip_score"}
    assert {(r["family"], r["seed"], r["recipe_sha"], r["resolution"]) for r in row.values()} == {
        ("reference", None, None, 16)
    }
    assert 15 < row["psnr"]["value"] < 50
    assert row["psnr"]["low"] < row["psnr"]["value"] < row["psnr"]["high"]
    assert 0 < row["judge_distance"]["value"] < 1
    assert len({r["protocol_sha"] for r in row.values()}) == 1


def test_the_truth_itself_is_not_compared_with_itself(scored):
    assert {row["metric"] for row in scored("real", "upsampled-scenes@1")} == {"fd", "clip_score"}


def test_lpips_has_its_weights_in_the_protocol_s_hash(scored):
    shas = []
    for name in ("one", "two", "two"):
        rows = scored("lanczos", "upsampled-photos-lpips@1", *TRUTH, "--lpips", name)
        assert "lpips" in {row["metric"] for row in rows}
        shas.append({row["protocol_sha"] for row in rows})
    assert shas[0] != shas[1] == shas[2]
    with pytest.raises(UserError, match=r"upsampled-photos-lpips@1 needs lpips: .* with --lpips"):
        scored("lanczos", "upsampled-photos-lpips@1", *TRUTH)
    with pytest.raises(UserError, match="--lpips: compares with the ground truth"):
        scored("lanczos", "upsampled-photos-lpips@1", "--lpips", "one")


def test_without_a_truth_there_is_no_score(scored):
    with pytest.raises(UserError, match=r"upsampled-scenes@1 needs judge_distance: .* with --truth"):
        scored("bicubic", "upsampled-scenes@1")
    with pytest.raises(UserError, match=r"small\.zip: pictures of 8x8 px do not compare"):
        scored("bicubic", "upsampled-scenes@1", "--truth", "small.zip")


def test_no_network_scores_a_run_that_it_has_trained(scored, clip_folder, monkeypatch):
    folder = Path("up/seed0")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(RUN))
    judge = Clip.load(str(clip_folder)).sha
    about = {"config": {"data": {"name": "scenes"}}, "clip_sha": "11", "trained_by": ["22", "33"]}
    arguments = ("gigagan", "upsampled-scenes@1", *TRUTH)
    (folder / "config.json").write_text(json.dumps(about))
    rows = scored(*arguments, images="bicubic", run_folder=folder)
    assert {row["variant"] for row in rows} == {"gigagan"}
    assert np.isfinite([row["value"] for row in rows]).all()
    for own in ({"clip_sha": judge}, {"trained_by": ["22", judge]}):
        (folder / "config.json").write_text(json.dumps(about | own))
        with pytest.raises(UserError, match="the judge that is to score this run has trained it"):
            scored(*arguments, images="bicubic", run_folder=folder)
    # ... unless the protocol says that such scores are marked: then every table shows it.
    marking = dataclasses.replace(protocols.load("upsampled-scenes@1"), marks=True)
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "load", lambda name: marking)
        marked = scored(*arguments, images="bicubic", run_folder=folder)
    assert all(row["judge_trained"] for row in marked)
    assert {row["protocol_sha"] for row in marked} == {row["protocol_sha"] for row in rows}
    table = tables.markdown(summarise(marked, "up"))
    assert table.count("†") == len(marked) + 1
    assert "The network that scores has also trained the run" in table
    (folder / "config.json").write_text(json.dumps(about | {"trained_by": ["vgg"]}))
    with pytest.raises(UserError, match="the lpips that is to score this run has trained it"):
        scored("gigagan", "upsampled-photos-lpips@1", *TRUTH, "--lpips", "vgg", images="bicubic", run_folder=folder)


def test_crops_are_of_the_judge_s_own_size_each_at_its_place(clip):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 24, 3), dtype=np.uint8)
    captions = ["a"] * 12
    whole = extractors.extract([(images, captions)], [extractors.JudgeCrop(clip)])["judge_crop"]
    parts = [(images[:5], captions[:5]), (images[5:], captions[5:])]
    np.testing.assert_allclose(
        extractors.extract(parts, [extractors.JudgeCrop(clip)])["judge_crop"], whole, rtol=1e-4, atol=1e-5
    )
    places = []
    for index, image in enumerate(images):
        with torch.inference_mode():
            crops = np.stack([image[y : y + 16, x : x + 16] for y in range(17) for x in range(9)])
            known = clip.image_features(to_tensor(crops)).numpy()
        places.append(int(np.abs(known - whole[index]).max(1).argmin()))
        assert np.abs(known[places[-1]] - whole[index]).max() < 1e-4
    assert len(set(places)) > 6


def test_only_images_larger_than_the_judge_sees_are_cropped(scored):
    """At 16 px the judge of the tests sees all there is."""
    with pytest.raises(UserError, match="needs features of one and the same 'judge_crop' on both sides"):
        scored("bicubic", "upsampled-scenes-crops@1", *TRUTH)
