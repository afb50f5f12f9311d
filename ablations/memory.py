"""How much memory a training step takes: counted on fake tensors, which have shapes and lifetimes but no data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ablations.sizes import text_size
from gigagan.config import Config


def step_gb(config: Config, batch: int) -> tuple[float, float]:
    """GiB that ``batch`` images take on one device: at the peak of a step, and in between (weights, Adam's moments, G's
    average). All phases are run, R1 among them.

    Left out: the frozen CLIPs (0.5 GiB for ViT-L/14's text tower in fp32), the allocator's fragments, and what a
    framework keeps for itself (some GiB).
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from gigagan.clip import Clips
    from gigagan.networks.condition import Labels
    from gigagan.networks.text import TextFeatures
    from gigagan.networks.upsampler import generator_of
    from gigagan.training.batches import Batch
    from gigagan.training.phases import GigaGAN

    width, tokens = text_size(config)
    side, kind = config.data.resolution, config.condition.kind
    with FakeTensorMode(), _peak() as memory:
        text: Any = SimpleNamespace(text_width=width) if kind == "text" else None
        model = GigaGAN(config, Clips(text, None, None), 0, torch.device("cpu"))
        average = generator_of(config, width)
        phases = model.phases()
        index = torch.zeros(batch, dtype=torch.long)
        asked = TextFeatures(torch.randn(batch, tokens, width), index) if kind == "text" else Labels(index)
        shown = Batch(
            images=torch.randn(batch, 3, side, side),
            text=asked,
            other=asked,
            has_other=torch.ones(batch),
            positives=torch.zeros(batch, batch, dtype=torch.bool),
            seeds=list(range(batch)),
        )
        for phase in phases:
            for network in (model.generator, model.critics):  # as the trainer does
                network.requires_grad_(network is phase.network)
            loss = phase.loss(shown, torch.empty(0))
            sum(loss.values()).backward()
            del loss
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
        between = memory.live
        del average
        return memory.peak / 2**30, between / 2**30


def _peak() -> Any:
    """A mode under which every tensor's storage is counted from its first use to its end."""
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Peak(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.live = self.peak = 0
            self.held: dict[int, int] = {}

        def forget(self, storage: int) -> None:
            self.live -= self.held.pop(storage, 0)

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = operation(*args, **(kwargs or {}))
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

    return Peak()
