"""A trained run as a sampler: what a picture depends on, and which folders are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gigagan.clip import Clip
from gigagan.config import to_dict
from gigagan.errors import UserError
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import initialise
from gigagan.pixels import to_uint8
from gigagan.sampling import load
from gigagan.train import write_grid
from gigagan.training.checkpoint import save_tensors

CAPTIONS = ["a red circle on white", "a small blue square on black", "a big green triangle at the left on yellow"]


@pytest.fixture
def run(tiny, clip_folder, tmp_path) -> Path:
    """The folder of a run, with random weights, and others as its snapshot at 0 images."""
    config = tiny(f"text.clip=local-dir:{clip_folder}")
    folder = tmp_path / "run"
    generator = Generator(config, 16)
    for seed, name in enumerate(("weights.safetensors", f"snapshots/{0:012d}.safetensors")):
        initialise(generator, seed, "generator")
        with torch.no_grad():
            for noise in (p for n, p in generator.named_parameters() if n.endswith("noise_strength")):
                noise.fill_(0.5)
        save_tensors(folder / name, generator.state_dict(), {})
    sha = Clip.load(config.text.clip).sha
    (folder / "config.json").write_text(json.dumps({"clip_sha": sha, "config": to_dict(config)}))
    return folder


def test_another_clip_than_the_one_it_was_trained_with_is_refused(run):
    about = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**about, "clip_sha": "0" * 64}))
    with pytest.raises(UserError, match="trained with another CLIP"):
        load(run)


def test_a_picture_depends_on_its_caption_and_seed_alone(run):
    sampler = load(run)
    captions, seeds = [*CAPTIONS, CAPTIONS[0], CAPTIONS[0]], [5, 6, 7, 6, 5]
    together = sampler.generate(sampler.encode(captions), seeds)
    assert together.shape == (5, 3, 16, 16)
    for k in range(5):
        alone = sampler.generate(sampler.encode(captions[k : k + 1]), seeds[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-5)
    backwards = sampler.generate(sampler.encode(captions[::-1]), seeds[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(together[4], together[0], rtol=0, atol=1e-5)
    assert (together[3] - together[0]).abs().max() > 1e-3  # another seed
    assert (together[3] - together[1]).abs().max() > 1e-3  # another caption

    images = sampler(captions, seeds)
    assert images.dtype == np.uint8
    assert images.shape == (5, 16, 16, 3)
    assert np.array_equal(images, to_uint8(together))
    assert np.array_equal(load(run)(captions, seeds), images)
    assert not np.array_equal(load(run, snapshot=0)(captions, seeds), images)


def test_values_are_rounded_and_clipped():
    images = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(images)[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_missing_parts_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no run folder \(it has no config\.json\)"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no snapshot after 99 images \(there are: 0\)"):
        load(run, snapshot=99)
    (run / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights\.safetensors there; train this run to its end first"):
        load(run)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": 3}', '{"config": {"data": 1}}'])
def test_a_config_that_is_none_is_named(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not a run's config"):
        load(run)


def test_a_config_with_an_unknown_setting_suggests_the_nearest(run):
    about = json.loads((run / "config.json").read_text())
    about["config"]["generator"]["kernel"] = [1]
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"did you mean 'generator\.kernels'"):
        load(run)


def test_weights_of_another_config_name_the_first_tensors(run):
    about = json.loads((run / "config.json").read_text())
    about["config"]["attention"]["kinds"] = "none"
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError) as error:
        load(run)
    words = error.value.message
    assert "weights.safetensors: made with another config" in words
    assert "levels.1.attention.0.cross_block.attention.key.bias (wanted nothing, found (16,))" in words
    assert "more" in words
    assert words.count("wanted") == 3


def test_weights_that_are_no_weights(run):
    (run / "weights.safetensors").write_bytes(b"\x80\x04never read")
    with pytest.raises(UserError, match="holds a pickle"):
        load(run)


@pytest.mark.parametrize(("n", "columns", "side"), [(6, 3, (3, 2)), (5, 3, (3, 2)), (2, 8, (2, 1))])
def test_a_grid_shows_every_picture(tmp_path, n, columns, side):
    from PIL import Image

    images = np.full((n, 4, 4, 3), 200, np.uint8)
    images[:, 0, 0] = np.arange(n)[:, None] + 1
    write_grid(tmp_path / "grid.png", images, columns, zoom=2)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    width, height = side
    assert sheet.shape == (height * 8, width * 8, 3)
    corners = sheet[::8, ::8, 0].flatten()[:n].tolist()
    assert corners == list(range(1, n + 1))
