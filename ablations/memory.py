"""What a training step takes: memory and operations, counted on fake tensors, which have shapes and lifetimes but no
data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ablations.sizes import text_size
from gigagan.config import Config, parse_overrides


@dataclass(frozen=True)
class Step:
    """Memory in GiB on one device at the peak of a step, and in between (weights, those of the frozen CLIPs and of
    LPIPS among them, Adam's moments, G's average); and operations for each picture in GFLOP, a multiplication with its
    addition being two: forward and backward, with R1 every so many steps."""

    peak: float
    between: float
    gflop: float


def step(config: Config, batch: int) -> Step:
    """A step on ``batch`` images on one device. All phases are run, R1 among them, with all losses.

    Left out: the allocator's fragments, and what a framework keeps for itself (some GiB); of operations all that are
    neither convolutions nor products of matrices.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from gigagan.clip import Clips
    from gigagan.networks.condition import Labels
    from gigagan.networks.text import TextFeatures
    from gigagan.networks.upsampler import generator_of
    from gigagan.training.batches import Batch
    from gigagan.training.phases import GigaGAN

    config = without_files(config)
    width, tokens = text_size(config)
    side, kind, n_captions = config.data.resolution, config.condition.kind, batch + config.loss.clip_captions
    with FakeTensorMode(), _counter() as counter:
        clips = Clips.load(config, torch.device("cpu"))
        model = GigaGAN(config, clips, 0, torch.device("cpu"))
        average = generator_of(config, width)
        phases = model.phases()
        index = torch.zeros(batch, dtype=torch.long)
        asked = TextFeatures(torch.randn(batch, tokens, width), index) if kind == "text" else Labels(index)
        shown = Batch(
            images=torch.randn(batch, 3, side, side),
            text=asked,
            other=asked,
            has_other=torch.ones(batch),
            positives=torch.eye(batch, n_captions, dtype=torch.bool),
            seeds=list(range(batch)),
        )
        embeddings = torch.randn(n_captions, clips.guide.embed_dim if clips.guide else 0)
        captions = torch.zeros(batch, tokens, dtype=torch.long)
        if clips.text:
            clips.text.text_features(captions)
        if clips.guide and config.loss.clip_weight:
            clips.guide.embed_text(captions)
        flops = float(counter.total)
        for phase in phases:
            for network in (model.generator, model.critics):  # as the trainer does
                network.requires_grad_(network is phase.network)
            before = counter.total
            loss = phase.loss(shown, embeddings)
            sum(loss.values()).backward()
            flops += (counter.total - before) / phase.interval
            del loss
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
        between = counter.live
        del average
        return Step(counter.peak / 2**30, between / 2**30, flops / batch / 1e9)


def without_files(config: Config) -> Config:
    """The same with random weights in place of every frozen network's, which are as large."""
    from gigagan.clip import RANDOM

    given = {
        "text.clip": config.text.clip,
        "vision.clip": config.vision.clip,
        "loss.clip_model": config.loss.clip_model,
    }
    named = [f"{path}={name.partition(':')[0]}:{RANDOM}" for path, name in given.items() if name]
    return parse_overrides([*named, f"loss.lpips_backbone={RANDOM}"], config)


def _counter() -> Any:
    """A mode under which every tensor's storage is counted from its first use to its end, and every operation."""
    import weakref

    import torch
    from torch.utils._pytree import tree_leaves

    from gigagan.operations import Operations

    class Counter(Operations):
        def __init__(self) -> None:
            super().__init__()
            self.live = self.peak = 0
            self.held: dict[int, int] = {}

        def forget(self, storage: int) -> None:
            self.live -= self.held.pop(storage, 0)

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = super().__torch_dispatch__(operation, types, args, kwargs)
            for tensor in tree_leaves(result):
                if not isinstance(tensor, torch.Tensor):
                    continue
                storage = tensor.untyped_storage()
                if storage._cdata not in self.held:
                    self.held[storage._cdata] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self.forget, storage._cdata)
            return result

    return Counter()
