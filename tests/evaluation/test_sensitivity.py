from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import feature_file, pyramid, sensitivity
from evaluation.extractors import Judge, Pyramid, extract
from gigagan.archive import write_images
from gigagan.clip import Clip
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError

SCENES = Scenes(16, (0.75, 0.25, 0.0), "test")
ABOUT = {"dataset": "scenes", "resolution": 16, "objects": [0.75, 0.25, 0.0], "placed": 0.6}


def real(path: Path, n: int = 60, **about: object) -> Path:
    items = [SCENES[i] for i in range(n)]
    write_images(path, (i.image for i in items), [i.caption for i in items], range(n), ABOUT | about)
    return path


class FakeJudge:
    """Sees mean colours only: blind to blur and noise, as a semantic judge nearly is."""

    scale = torch.zeros(1)
    sha = "aa"

    def tokenize(self, captions: list[str], prefix: str = "") -> torch.Tensor:
        return torch.tensor([[len(caption), caption.count("e"), 1.0] for caption in captions])

    embed_text = staticmethod(torch.nn.functional.normalize)

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    def embed_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.image_features(images))


def test_disturbances_do_what_they_say(tmp_path: Path) -> None:
    held = sensitivity.held_out(real(tmp_path / "real.zip"))
    same, *_ = (change(held) for change in sensitivity.DISTURBANCES.values())
    assert (same.images == held.images).all()
    x = held.images.astype(float)
    assert sensitivity.noise(np.full((9, 16, 16, 3), 128, np.uint8), 0.05).std() == pytest.approx(0.05 * 255, rel=0.05)
    assert np.abs(sensitivity.contrast(held.images, 0.7) - (127.5 + 0.7 * (x - 127.5))).max() <= 0.5
    assert (
        np.abs(np.diff(sensitivity.blur(held.images, 1.0).astype(float), axis=2)).sum()
        < np.abs(np.diff(x, axis=2)).sum()
    )
    circles = sensitivity.DISTURBANCES["one shape for all (circles)"](held)
    changed = (circles.images != held.images).any(axis=(1, 2, 3))
    round_already = [all(thing.shape == "circle" for thing in scene.objects) for scene in held.scenes]
    assert (changed == ~np.array(round_already)).all()
    shuffled = sensitivity.DISTURBANCES["captions shuffled"](held)
    assert sorted(shuffled.captions) == sorted(held.captions)
    assert np.mean([a == b for a, b in zip(shuffled.captions, held.captions, strict=True)]) < 0.1


def test_the_command_writes_both_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clip, "load", lambda name: FakeJudge())
    items = [SCENES[i] for i in range(1000, 1200)]
    batches = [(np.stack([i.image for i in items]), [i.caption for i in items])]
    arrays = extract(batches, [Judge(FakeJudge()), Pyramid()])
    weights = {"judge": "aa", "pyramid": pyramid.VERSION}
    feature_file.write(tmp_path / "reference.safetensors", arrays, {"weights": weights})
    images = real(tmp_path / "real.zip", 100)
    arguments = ["sensitivity", "--real", str(images), "--judge", "judge", "--out", str(tmp_path / "out"),
                 "--reference-features", str(tmp_path / "reference.safetensors")]  # fmt: skip
    monkeypatch.setattr("sys.argv", arguments)
    sensitivity.main()
    rows = {row["disturbance"]: row for row in csv.DictReader((tmp_path / "out.csv").open())}
    assert list(rows) == list(sensitivity.DISTURBANCES)
    assert float(rows["none (the floor)"]["ratio_judge"]) == 1
    assert float(rows["noise, 5 %"]["ratio_pyramid"]) > 2 > float(rows["noise, 5 %"]["ratio_judge"])
    assert float(rows["captions shuffled"]["ratio_pyramid"]) == 1
    assert float(rows["captions shuffled"]["shape_accuracy"]) < float(rows["none (the floor)"]["shape_accuracy"])
    table = (tmp_path / "out.md").read_text()
    assert "100 held-out scenes of 16 px against 200 others" in table
    assert len([line for line in table.splitlines() if line.startswith("|")]) == len(rows) + 2
    monkeypatch.setattr(FakeJudge, "sha", "bb")
    with pytest.raises(UserError, match="of another judge"):
        sensitivity.main()


def test_other_images_than_held_out_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not of held-out scenes"):
        sensitivity.held_out(real(tmp_path / "photos.zip", 3, dataset="shards"))
