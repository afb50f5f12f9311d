"""The count of a training step's memory, against what can be summed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from ablations.audit import GPU_GIB
from ablations.memory import step, without_files
from gigagan.clip import Clip, Clips
from gigagan.config import Config, parse_overrides
from gigagan.training.phases import GigaGAN

COMMITTED = Path(__file__).resolve().parent.parent / "results" / "records" / "memory.md"
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VISION = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2}


@pytest.fixture
def named(tiny, tmp_path, monkeypatch) -> Callable[..., Config]:
    """The tiny configuration with a CLIP that open_clip knows by name."""
    (tmp_path / "small-clip.json").write_text(json.dumps({"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    open_clip.add_model_config(tmp_path / "small-clip.json")
    return lambda *overrides: tiny("text.clip=small-clip:random", *overrides)


def numbers(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_between_steps_there_are_weights_two_moments_and_the_average(named):
    config = named()
    clips = Clips.load(config, torch.device("cpu"))
    model = GigaGAN(config, clips, 0, torch.device("cpu"))
    by_hand = 4 * (4 * numbers(model.generator) + 3 * numbers(model.critics) + numbers(clips.text))
    four = step(config, 4)
    assert four.between * 2**30 == pytest.approx(by_hand, rel=0.05)
    assert four.peak * 2**30 > by_hand + 4 * numbers(model.critics)  # gradients, at least
    eight = step(config, 8)
    assert eight.between == pytest.approx(four.between, rel=0.02)
    again = step(named("train.gradient_checkpointing=true"), 8)
    assert four.peak < again.peak < eight.peak
    assert eight.gflop == pytest.approx(four.gflop, rel=0.05)  # of each picture
    assert again.gflop > eight.gflop  # what is not kept is computed again


def test_every_frozen_network_is_counted_with_random_weights():
    config = parse_overrides([])
    named = without_files(config)
    assert (named.text.clip, named.vision.clip) == ("ViT-L-14-quickgelu:random", "ViT-B-32-quickgelu:random")
    assert named.loss.lpips_backbone == "random"
    with torch.device("meta"):
        clip = Clip.load(named.vision.clip)
    assert sum(p.numel() for p in clip.parameters()) / 1e6 == pytest.approx(151.3, abs=0.1)  # as OpenAI's


def test_every_model_of_the_paper_fits_a_gpu_of_80_gb():
    rows = [
        line.split("|")[1:-1] for line in COMMITTED.read_text().splitlines() if "`" in line and line.startswith("|")
    ]
    assert len(rows) == 6
    for row in rows:
        between, peak, again = (float(cell) for cell in row[-3:])
        assert between < again <= peak < GPU_GIB
