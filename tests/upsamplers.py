"""Upsamplers with random weights and pictures for them, for the tests of what is done with both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gigagan.config import Config, to_dict
from gigagan.networks.parameters import initialise
from gigagan.networks.upsampler import Upsampler, generator_of
from gigagan.training.checkpoint import save_tensors

CPU = torch.device("cpu")
CAPTION = "a red circle on white"
TO_32 = ("data.resolution=32", "upsampler.input=8", "upsampler.lowest=4")
NO_WORDS = ("condition.kind=none", "loss.matching=none", "loss.clip_weight=0")
NO_ATTENTION = (*NO_WORDS, "attention.kinds=none")


def network(config: Config, seed: int = 0) -> Upsampler:
    """With first weights, disturbed so that noise and biases count."""
    made = generator_of(config, 16)
    initialise(made, seed, "generator")
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return made


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth in large and noisy in small."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height), 2)
    return np.clip(np.asarray(coarse) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def sides(small: int, large: int) -> list[str]:
    """Overrides for an upsampler between two sizes."""
    channels = [f"{part}.channel_base={2 * large}" for part in ("generator", "discriminator")]
    return [f"upsampler.input={small}", f"upsampler.lowest={small // 4}", f"data.resolution={large}", *channels]


def save(config: Config, run: Path, clip_sha: str = "") -> Path:
    """The folder of a run with random weights."""
    save_tensors(run / "weights.safetensors", network(config).state_dict(), {})
    (run / "config.json").write_text(json.dumps({"clip_sha": clip_sha, "config": to_dict(config)}))
    return run
