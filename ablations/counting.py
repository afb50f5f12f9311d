"""What training a run of a suite takes, counted on a step of all its phases over noise, with first weights and random
ones in place of every CLIP's, which are as large."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.entries import Suite
from ablations.recipes import configured, lineage
from ablations.sizes import clip_config
from gigagan.config import Config, parse_overrides
from gigagan.files import write_json
from gigagan.overrides import to_dict


@dataclass(frozen=True)
class Training:
    """Parameters in millions, of what draws and of what else is trained (a discriminator, a consistency student's
    target), and operations that an image of training takes in GFLOP."""

    generator: float
    others: float
    gflop: float


def step(of: Suite, run: str) -> Training:
    """A run of any family. Raises UserError where the configuration of a CLIP, or the file of another frozen network,
    is not there."""
    import torch

    from gigagan.operations import Operations
    from gigagan.training.batches import Batch

    config = configured(of, run)
    b, side = config.train.batch, config.data.resolution
    with Operations() as counter:
        model, text, embeddings = (_gigagan if isinstance(config, Config) else _rival)(of, run, config)
    shown = Batch(
        images=torch.randn(b, 3, side, side),
        text=text,
        other=text,
        has_other=torch.ones(b),
        positives=torch.eye(b, max(b, len(embeddings))) > 0,
        seeds=list(range(b)),
    )
    flops, phases = counter.total, model.phases()
    for phase in phases:
        for network in model.networks.values():  # as the trainer does
            network.requires_grad_(False)
        phase.network.requires_grad_(True)
        with Operations() as counter:
            sum(phase.loss(shown, embeddings).values()).backward()
        flops += counter.total / phase.interval
    sizes = {name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in model.networks.items()}
    return Training(sizes.pop("generator"), sum(sizes.values()), flops / b / 1e9 if phases else 0.0)


@functools.cache
def _clip(name: str) -> Any:
    from gigagan.clip import Clip

    return Clip(clip_config(name), {}).requires_grad_(False).eval()


def _gigagan(of: Suite, run: str, config: Config) -> tuple[Any, Any, Any]:
    """The model, what a batch asks for, and CLIP's embeddings of captions."""
    import torch

    from gigagan.clip import RANDOM, Clips
    from gigagan.networks.condition import Labels
    from gigagan.networks.text import TextFeatures
    from gigagan.training.phases import GigaGAN

    config = parse_overrides([f"loss.lpips_backbone={RANDOM}"], config)
    loss, vision, b = config.loss, config.vision, config.train.batch
    by_features = loss.perceptual == "clip" and loss.perceptual_weight > 0
    clips = Clips(
        _clip(config.text.clip) if config.condition.kind == "text" else None,
        _clip(loss.clip_model or config.text.clip) if loss.clip_weight or by_features else None,
        _clip(vision.clip or config.text.clip) if vision.weight else None,
    )
    captions = ["a caption"] * b
    text = Labels(torch.zeros(b, dtype=torch.long))
    if clips.text:
        text = TextFeatures(*clips.text.text_features(clips.text.tokenize(captions)))
    embeddings = torch.empty(b, 0)
    if loss.clip_weight:
        own = clips.guide.embed_text(clips.guide.tokenize(captions))
        embeddings = torch.cat([own, torch.randn(loss.clip_captions, own.shape[1])])
    return GigaGAN(config, clips, 0, torch.device("cpu")), text, embeddings


def _rival(of: Suite, run: str, config: Any) -> tuple[Any, Any, Any]:
    """The same of a family of its own, which may start from another run: one with first weights does."""
    import torch

    from evaluation.rivals.families import family as known
    from gigagan.clip import Clips
    from gigagan.sampling import WEIGHTS
    from gigagan.training.checkpoint import save_tensors

    cpu, start = torch.device("cpu"), None
    with tempfile.TemporaryDirectory() as folder:
        for entry in lineage(run):
            own, parts = configured(of, entry.name), known(entry.family)
            clip = _clip(own.text.clip)
            model = parts.model(own, Clips(clip, clip, None), 0, cpu, start)
            start = Path(folder, entry.name)
            write_json(start / "config.json", {"family": entry.family, "config": to_dict(own), "clip_sha": clip.sha})
            write_json(start / "run.json", {"kimg": 0, "seconds": 0, "train_tflop": 0})
            save_tensors(start / WEIGHTS, model.networks["generator"].state_dict(), {})
    return model, parts.conditioning(clip, cpu)(["a caption"] * config.train.batch), torch.empty(config.train.batch, 0)
