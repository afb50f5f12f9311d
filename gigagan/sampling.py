"""The Sampler protocol, which is all that scoring sees of a model, and a trained run as a Sampler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gigagan import latents
from gigagan.clip import Clip
from gigagan.config import from_dict
from gigagan.errors import UserError
from gigagan.networks.generator import Generator
from gigagan.networks.text import TextFeatures
from gigagan.pixels import to_uint8
from gigagan.training.checkpoint import load_into, load_tensors


class Sampler(Protocol):
    """Captions and seeds in, pictures out."""

    resolution: int
    device: torch.device

    def encode(self, captions: list[str]) -> TextFeatures: ...

    def generate(self, text: TextFeatures, seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1], on the device"""
        ...

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]; a picture depends on its own caption and seed alone."""
        ...


class GeneratorSampler:
    """A generator with its text encoder."""

    def __init__(self, generator: Generator, clip: Clip, device: torch.device) -> None:
        self.generator = generator.to(device).eval().requires_grad_(False)
        self.clip = clip.to(device)
        self.resolution = generator.resolution
        self.device = device

    @torch.inference_mode()
    def encode(self, captions: list[str]) -> TextFeatures:
        return TextFeatures(*self.clip.text_features(self.clip.tokenize(captions).to(self.device)))

    @torch.inference_mode()
    def generate(self, text: TextFeatures, seeds: list[int]) -> Tensor:
        z, noise = latents.draw(seeds, self.generator.z_dim, self.generator.noise_dim)
        return self.generator(z.to(self.device), text, noise.to(self.device))[0]

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        return to_uint8(self.generate(self.encode(captions), seeds))


def read_about(run: Path) -> dict[str, Any]:
    """What a run folder says of itself. Raises UserError where there is none, or it cannot be read."""
    path = run / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {**about, "config": from_dict(about["config"])}
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{run}: no run folder (it has no config.json)") from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not a run's config ({e!r})") from None


def load(run: str | Path, device: str | torch.device = "cpu", snapshot: int | None = None) -> GeneratorSampler:
    """The averaged generator of a run folder, or its snapshot after so many images (0 = untrained).

    Raises UserError for a folder without a config, without weights, with weights of another config, or where the CLIP
    that its config names is not the one it was trained with.
    """
    run = Path(run)
    about = read_about(run)
    config = about["config"]
    clip = Clip.load(config.text.clip)
    if about.get("clip_sha") != clip.sha:
        raise UserError(f"{run}: trained with another CLIP than {config.text.clip} is now: bring that one back")
    weights = run / "weights.safetensors"
    if snapshot is not None:
        weights = run / "snapshots" / f"{snapshot:012d}.safetensors"
        if not weights.is_file():
            kept = ", ".join(str(int(path.stem)) for path in sorted(weights.parent.glob("[0-9]*.safetensors")))
            raise UserError(f"{run}: no snapshot after {snapshot} images (there are: {kept or 'none'})")
    elif not weights.is_file():
        raise UserError(f"{run}: no weights.safetensors there; train this run to its end first")
    with torch.device("meta"):
        generator = Generator(config, clip.text_width)
    generator.to_empty(device="cpu")
    load_into(generator, load_tensors(weights, "train this run again")[0], weights)
    return GeneratorSampler(generator, clip, torch.device(device))
