"""What the rules that train and draw rivals take, from a suite and the wildcards alone; and what training one takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ablations.entries import NOBODY, Suite
from ablations.recipes import configured, family, lineage, rivals, started
from ablations.sizes import Training, clip_config
from gigagan.files import write_json
from gigagan.overrides import to_dict


class Rivals:
    """The runs of a suite that are rivals, those among them that are trained only because others start from them."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.all = (*suite.rivals, *started(suite))

    @property
    def names(self) -> str:
        """A pattern of them."""
        return "|".join(self.all) or NOBODY

    def family(self, wildcards: Any) -> str:
        return family(self.suite, wildcards.variant)

    def start(self, wildcards: Any) -> list[str]:
        """The weights that one begins with, where it does not begin with first ones."""
        return [f"{run}/weights.safetensors" for run in self._start(wildcards)]

    def start_option(self, wildcards: Any) -> list[str]:
        """The same as words for evaluation.rivals.train."""
        return [word for run in self._start(wildcards) for word in ("--start", run)]

    def _start(self, wildcards: Any) -> list[str]:
        start = rivals()[wildcards.variant].start
        return [f"runs/{self.suite.name}/{start}/seed{wildcards.seed}"] if start else []

    def has_curve(self, name: str) -> bool:
        """Whether a run has a learning curve: only one that begins with first weights has its own."""
        return name not in self.all or (rivals()[name].curve and not rivals()[name].start)


def step(of: Suite, run: str) -> Training:
    """A rival of a family of its own: its size, and operations that are counted on a step of its phases over noise,
    with first weights in all that it descends from.

    Raises UserError where the configuration of a CLIP, or the file of another frozen network, is not there.
    """
    import torch

    from evaluation.rivals.families import family as known
    from gigagan.clip import Clip, Clips
    from gigagan.operations import Operations
    from gigagan.sampling import WEIGHTS
    from gigagan.training.batches import Batch
    from gigagan.training.checkpoint import save_tensors

    cpu, start = torch.device("cpu"), None
    with tempfile.TemporaryDirectory() as folder:
        for entry in lineage(run):
            config, parts = configured(of, entry.name), known(entry.family)
            clip = Clip(clip_config(config.text.clip), {}).requires_grad_(False)
            model = parts.model(config, Clips(clip, clip, None), 0, cpu, start)
            start = Path(folder, entry.name)
            write_json(start / "config.json", {"family": entry.family, "config": to_dict(config), "clip_sha": clip.sha})
            write_json(start / "run.json", {"kimg": 0, "seconds": 0, "train_tflop": 0})
            save_tensors(start / WEIGHTS, model.networks["generator"].state_dict(), {})
    b, side = config.train.batch, config.data.resolution
    with Operations() as counter:
        text = parts.conditioning(clip, cpu)(["a caption"] * b)
    shown = Batch(torch.randn(b, 3, side, side), text, text, torch.ones(b), torch.eye(b) > 0, list(range(b)))
    flops = counter.total
    for phase in model.phases():
        with Operations() as counter:
            sum(phase.loss(shown, torch.empty(b, 0)).values()).backward()
        flops += counter.total / phase.interval
    sizes = {name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in model.networks.items()}
    return Training(sizes.pop("generator"), sum(sizes.values()), flops / b / 1e9 if model.phases() else 0.0)
