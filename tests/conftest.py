"""What the tests of several parts share: a tiny configuration, and a CLIP that has learned nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gigagan.clip import Clip, Clips
    from gigagan.config import Config

# Read by torch when it is imported: other numbers of threads give other bits, and tests run beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = [
    "data.resolution=16",
    "text.depth=1",
    "text.head_width=8",
    "attention.head_width=8",
    "attention.mlp_ratio=2",
    "generator.z_dim=8",
    "generator.w_dim=16",
    "generator.mapping_depth=2",
    "generator.mapping_lr_multiplier=1",
    "generator.channel_base=128",
    "generator.channel_max=16",
    "generator.blocks=1,2,1",
    "generator.first_convs=2",
    "generator.kernels=1,2,2",
    "generator.attention_resolutions=8",
    "generator.attention_depth=1",
    "discriminator.channel_base=128",
    "discriminator.channel_max=16",
    "discriminator.blocks=1",
    "discriminator.attention_resolutions=8",
    "discriminator.attention_depth=1",
    "discriminator.predictor_depth=2",
    "vision.clip=",
    "vision.layers=1,2",
    "vision.channels=4",
    "train.batch=4",
]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data that is not ours to commit: real captions. Without it, tests that want it are skipped."""
    folder = Path(os.environ.get("GIGAGAN_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (folder / "prompts").is_dir():
        pytest.skip(
            f"real captions are wanted and {folder / 'prompts'} is not there (GIGAGAN_DATA names another folder)"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_overrides() -> list[str]:
    """Three levels (16, 8, 4 px) with a bank of two kernels and attention at 8 px; a step takes milliseconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Config]:
    """``tiny("loss.matching=none")``: the tiny configuration with further overrides."""
    from gigagan.config import parse_overrides

    return lambda *overrides: parse_overrides([*TINY, *overrides])


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small, untrained CLIP in open_clip's layout: text width 16."""
    import torch
    from safetensors.torch import save_file

    from gigagan.clip import CONFIG_FILE, WEIGHTS_FILE, build

    text = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    folder = tmp_path_factory.mktemp("clip")
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(build(config).state_dict(), folder / WEIGHTS_FILE)
    return folder


@pytest.fixture(scope="session")
def clip(clip_folder: Path) -> Clip:
    from gigagan.clip import Clip

    return Clip.load(str(clip_folder))


@pytest.fixture(scope="session")
def clips(clip: Clip) -> Clips:
    """The same CLIP in every place."""
    from gigagan.clip import Clips

    return Clips(clip, clip, clip)
