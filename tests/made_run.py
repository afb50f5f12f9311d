"""The folder of a run that was never trained, for the tests of what is done with one."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gigagan.clip import Clip
from gigagan.config import Config, to_dict
from gigagan.networks.parameters import initialise
from gigagan.networks.upsampler import generator_of
from gigagan.training.checkpoint import save_tensors

# Nothing reads captions.
LABELS = ("attention.kinds=self", "loss.clip_weight=0")
CLASSES = ("condition.kind=class", "condition.classes=3", "condition.width=8", *LABELS)
NOTHING = ("condition.kind=none", "loss.matching=none", *LABELS)


def make_run(folder: Path, config: Config, classes: list[str] | None = None) -> Path:
    """A run with random weights, a mean style, and other weights as its snapshot at 0 images."""
    clip = Clip.load(config.text.clip) if config.condition.kind == "text" else None
    network = generator_of(config, clip.text_width if clip else 0)
    for seed, name in enumerate(("weights.safetensors", f"snapshots/{0:012d}.safetensors")):
        initialise(network, seed, "generator")
        with torch.no_grad():
            for noise in (p for n, p in network.named_parameters() if n.endswith("noise_strength")):
                noise.fill_(0.5)
        save_tensors(folder / name, network.state_dict(), {})
    mean = torch.randn(config.generator.w_dim, generator=torch.Generator().manual_seed(0))
    save_tensors(folder / "style_mean.safetensors", {"w": mean}, {})
    about = {"seed": 0, "clip_sha": clip.sha if clip else "", "classes": classes or [], "config": to_dict(config)}
    (folder / "config.json").write_text(json.dumps(about))
    return folder
