"""Pretraining of small CLIPs, and the two that are shipped."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from gigagan import pretrain_clip
from gigagan.clip import CONFIG_FILE, LOCAL_DIR, WEIGHTS_FILE, Clip
from gigagan.data.item import Item
from gigagan.data.scenes import Scenes
from gigagan.data.skipped import Skipped
from gigagan.errors import UserError
from gigagan.files import check_writable

ROOT = Path(__file__).parents[1]
SHIPPED = {
    "conditioner": ROOT / "gigagan/weights/scenes-conditioner",
    "judge": ROOT / "evaluation/weights/scenes-judge",
}
# A few standard errors (100 pictures) below what each README states.
FLOORS = {"background colour": 0.95, "object colour": 0.95, "size": 0.95, "shape": 0.87, "position": 0.93}
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


class Alternating:
    """A data set of eight pictures, bright on the left, of which every other caption says so."""

    name = "alternating"
    skipped = Skipped()

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, :4] = 255
        return Item(image, f"{'bright' if index % 2 else 'left'} number {index}")

    def meaning(self, caption):
        return caption

    def flippable(self, caption):
        return "left" not in caption


def test_captions_of_one_meaning_are_all_positives():
    images, texts = (F.normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    logits = 10 * images @ texts.T
    plain = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    scale = torch.tensor(10.0)
    torch.testing.assert_close(pretrain_clip.contrastive_loss(images, texts, scale, torch.arange(6)), plain)
    # With one meaning in all, any order of the captions is as good as another.
    same = torch.zeros(6, dtype=torch.long)
    loss = pretrain_clip.contrastive_loss(images, texts, scale, same)
    torch.testing.assert_close(loss, pretrain_clip.contrastive_loss(images, texts.flip(0), scale, same))


def test_batches_mirror_only_where_the_caption_allows_it():
    sides = {True: set(), False: set()}
    for images, captions in pretrain_clip.batches([Alternating()], 96, 4, np.random.default_rng(0)):
        assert images.shape == (4, 3, 8, 8)
        for image, caption in zip(images, captions, strict=True):
            sides["left" in caption].add(image[0, 0, 0].item())
    assert sides == {True: {1.0}, False: {-1.0, 1.0}}


def test_every_epoch_shows_every_picture_once():
    seen = [
        c for _, captions in pretrain_clip.batches([Alternating()], 24, 4, np.random.default_rng(0)) for c in captions
    ]
    assert len(seen) == 24
    assert {seen.count(caption) for caption in seen} == {3}


def test_augmentation_leaves_half_of_the_images_alone():
    images = torch.rand(400, 3, 16, 16) * 2 - 1
    changed = pretrain_clip.augment(images, torch.Generator().manual_seed(0))
    untouched = (changed == images).flatten(1).all(1).float().mean().item()
    assert 0.4 < untouched < 0.6
    assert changed.abs().max() <= 1


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["pretrain_clip", *map(str, words)])
    pretrain_clip.main()


def test_the_command_learns_and_writes_a_folder_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(pretrain_clip.ARCHITECTURES, "judge", TINY)
    monkeypatch.setattr(pretrain_clip, "attributes", lambda clip, scenes: {"shape": 0.5})
    options = ["--data", "scenes", "--arch", "judge", "--resolution", 16, "--images", 2560, "--batch", 64, "--lr", 5e-3]
    run(monkeypatch, *options, "--seed", 3, "--device", "cpu", "--out", tmp_path / "a")
    assert "shape, one object: 50.0 % at 16 px" in capsys.readouterr().out
    card = (tmp_path / "a/README.md").read_text()
    assert "pretrain_clip --data scenes --arch judge --resolution 16 --images 2560 --batch 64" in card
    clip = Clip.load(f"{LOCAL_DIR}{tmp_path / 'a'}")
    accuracy, n_choices = pretrain_clip.retrieval(clip, Scenes(16, (1.0, 0.0, 0.0), "test"), 200, 50)
    assert n_choices == 50
    assert accuracy > 0.06  # three times chance

    run(monkeypatch, *options, "--seed", 3, "--device", "cpu", "--out", tmp_path / "b")
    first, second = (load_file(tmp_path / x / WEIGHTS_FILE) for x in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_batch_that_cannot_be_filled_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--images 10 must fill at least one --batch"):
        run(monkeypatch, "--data", "scenes", "--arch", "judge", "--images", 10, "--out", tmp_path)


@pytest.mark.parametrize("out", ["file", "file/folder", "file/a/b"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_training(tmp_path, monkeypatch, out):
    monkeypatch.setattr(pretrain_clip, "train", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{out}: cannot be written to"):
        run(monkeypatch, "--data", "scenes", "--arch", "judge", "--out", tmp_path / out)


def test_trying_a_folder_leaves_nothing_behind(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in ("there", "there/a/b", "new"):
        check_writable(tmp_path / folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("arch", SHIPPED)
def test_shipped_clips_tell_scenes_apart(arch):
    folder = SHIPPED[arch]
    assert all(file.stat().st_size < 8_000_000 for file in folder.iterdir())
    assert f"--arch {arch}" in (folder / "README.md").read_text()
    assert json.loads((folder / CONFIG_FILE).read_text())["model_cfg"] == pretrain_clip.ARCHITECTURES[arch]
    assert all(v.dtype != torch.float32 for v in load_file(folder / WEIGHTS_FILE).values())
    clip = Clip.load(f"{LOCAL_DIR}{folder}")
    for resolution in (16, 32):
        accuracy = pretrain_clip.attributes(clip, Scenes(resolution, (1.0, 0.0, 0.0), "test", seed=5), 100)
        assert all(accuracy[name] > floor for name, floor in FLOORS.items()), accuracy


def test_shipped_clips_differ_in_kind():
    judge, conditioner = (Clip.load(f"{LOCAL_DIR}{SHIPPED[arch]}") for arch in ("judge", "conditioner"))
    assert type(judge.model.visual) is not type(conditioner.model.visual)
    assert judge.text_width != conditioner.text_width
