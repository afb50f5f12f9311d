"""The training loop: it walks a list of phases, with images as its clock, and knows nothing of what they train."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gigagan.config import TrainConfig
from gigagan.errors import UserError
from gigagan.memory import is_out_of_memory
from gigagan.operations import Operations
from gigagan.progress import Progress
from gigagan.training import distributed
from gigagan.training.batches import Batch, Batches
from gigagan.training.checkpoint import Checkpoints, save_tensors
from gigagan.training.ema import EMA
from gigagan.training.phases import Phase
from gigagan.training.runlog import RunLog
from gigagan.training.stop import Stop

# A step without a finite loss and gradient is left out; this many of them in a row, in one phase, end the run.
PATIENCE = 3


@dataclass(frozen=True)
class Rhythm:
    """When to write what, in images; none of it changes what is learned."""

    tick: int  # a line in the log
    checkpoint: int
    snapshots: int  # averaged weights, evenly spaced over the budget, to score learning curves with; plus one at 0
    picture: int  # a grid of samples; 0 = none


class Trainer:
    """Trains until a number of images, from the newest checkpoint on if there is one.

    Raises UserError, with nothing written, for a checkpoint that does not fit or has seen more than the budget.
    """

    def __init__(
        self,
        phases: list[Phase],
        batches: Batches,
        ema: EMA,
        checkpoints: Checkpoints,
        config: TrainConfig,
        folder: Path,
        rhythm: Rhythm,
        picture: Callable[[Path], None],
        tensorboard: bool = False,
    ) -> None:
        self.phases, self.batches, self.ema, self.checkpoints = phases, batches, ema, checkpoints
        self.config, self.folder, self.rhythm, self.picture = config, folder, rhythm, picture
        self.leader = distributed.rank() == 0
        self.total = round(config.kimg * 1000)
        self.images, counts = checkpoints.resume()
        self.non_finite: int = counts.get("non_finite", 0)
        batches.captions_cut = counts.get("captions_cut", 0)
        batches.dataset.skipped.learn(counts.get("skipped", []))
        if self.images >= self.total + config.batch:
            raise UserError(
                f"{folder} has seen {self.images} images already, more than train.kimg={config.kimg:g}: "
                "raise it, or train into another folder"
            )
        self.log = RunLog(folder, self.images, tensorboard) if self.leader else None
        self.seconds_before = self.log.seconds() if self.log else 0.0
        self.step_flops: dict[str, int] = counts.get("step_flops", {})  # of each phase, and of making a batch
        self.in_a_row: dict[str, int] = defaultdict(int)
        self.first_left_out = 0

    def run(self) -> float:
        """Train up to the budget; returns the seconds that training took over all sittings.

        Raises UserError when the loss or a gradient stays non-finite; the last checkpoint is kept. Raises
        KeyboardInterrupt, with a checkpoint written, after the step in which a signal to stop came.
        """
        try:
            with Stop() as stop:
                return self._run(stop)
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
            at_once = self.config.micro_batch or self.config.batch // distributed.world()
            raise UserError(
                f"out of memory on {self.batches.device}: {at_once} pictures at once do not fit: set "
                f"train.micro_batch={max(1, at_once // 2)} or less (gradients accumulate, and the same is learned), or "
                "train.gradient_checkpointing=true where the model has it"
            ) from None

    def _run(self, stop: Stop) -> float:
        total = self.total
        if not total:  # nothing is learned: the weights that there are, kept as a run
            self._snapshot()
            return self.seconds_before
        progress = Progress(total, start=self.images) if self.leader else None
        began = time.monotonic()
        if self.images == 0:
            self._snapshot()
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.batches.device))
        counts: dict[str, int] = defaultdict(int)
        batches = self.batches.start(self.images)
        while self.images < total:
            step = self.images // self.config.batch
            with self._counting("batch", step):
                batch, embeddings = next(batches)
            for phase in self.phases:
                if step % phase.interval == 0:
                    with self._counting(phase.name, step):
                        losses = self._update(phase, batch, embeddings)
                    for name, value in losses.items():
                        sums[f"{phase.name}/{name}"] += value
                        counts[f"{phase.name}/{name}"] += 1
            before = self.images
            self.images += self.config.batch
            self.ema.update(self.images, self.config.batch)

            seconds = self.seconds_before + time.monotonic() - began
            stopped = stop.asked() and self.images < total
            if self.leader:
                progress.update(min(self.images, total))
                save = stopped or self._due(before, self.rhythm.checkpoint, total)
                save = save and not any(self.in_a_row.values())
                # A line at each checkpoint, too: what is summed up since the last one is in no checkpoint.
                if save or self._due(before, self.rhythm.tick, total):
                    figures = {name: float(value) / counts[name] for name, value in sums.items()}
                    self.log.write(
                        self.images, {**figures, "non_finite": self.non_finite, "seconds": round(seconds, 2)}
                    )
                    sums.clear()
                    counts.clear()
                if self._due(before, math.ceil(total / self.rhythm.snapshots), total):
                    self._snapshot()
                if self.rhythm.picture and self._due(before, self.rhythm.picture, total):
                    self.picture(self.folder / "grid.png")
                if save:
                    self.checkpoints.save(self.images, self._counts())
            if stopped:
                raise KeyboardInterrupt(f"at {self.images:,} of {total:,} images")
        return self.seconds_before + time.monotonic() - began

    @contextmanager
    def _counting(self, what: str, step: int) -> Iterator[None]:
        """Count the operations of what is done at the first step; every later one takes as many."""
        if step:
            yield
            return
        with Operations() as counter:
            yield
        self.step_flops[what] = counter.total * distributed.world()

    @property
    def flops(self) -> int:
        """Operations of the whole run so far: of its networks, and of frozen ones that train it."""
        steps = self.images // self.config.batch
        intervals = {"batch": 1} | {phase.name: phase.interval for phase in self.phases}
        return sum(math.ceil(steps / intervals[what]) * flops for what, flops in self.step_flops.items())

    def _counts(self) -> dict[str, Any]:
        """What run.json says at the end, of all sittings and processes."""
        return {
            "step_flops": self.step_flops,
            "non_finite": self.non_finite,
            "captions_cut": self.batches.captions_cut,
            "skipped": self.batches.dataset.skipped.found(),
        }

    def _due(self, before: int, interval: int, total: int) -> bool:
        return self.images // interval > before // interval or self.images >= total

    def _snapshot(self) -> None:
        if self.leader:
            path = self.folder / "snapshots" / f"{self.images:012d}.safetensors"
            save_tensors(path, self.ema.network.state_dict(), {"images": self.images})

    def _update(self, phase: Phase, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """One update of one network; gradients accumulate over micro-batches and average over processes.

        Returns the terms of the loss over the global batch, none if the step was left out.
        """
        parameters = list(phase.network.parameters())
        others = [p for other in self.phases if other.network is not phase.network for p in other.network.parameters()]
        for parameter in others:
            parameter.requires_grad_(False)
        phase.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.batches.device))
        n = len(batch.images)
        for micro in batch.split(self.config.micro_batch or n):
            loss = phase.loss(micro, embeddings)
            share = len(micro.images) / n
            (sum(loss.values()) * share).backward()
            for name, value in loss.items():
                terms[name] += value.detach() * share
        for parameter in others:
            parameter.requires_grad_(True)
        gradients = [p.grad for p in parameters if p.grad is not None]
        distributed.average([*gradients, *terms.values()])
        if not self._finite(phase, gradients, terms):
            return {}  # nor does it enter the log's averages
        phase.optimizer.step()
        return terms

    def _finite(self, phase: Phase, gradients: list[Tensor], terms: dict[str, Tensor]) -> bool:
        """Whether a step may be taken. If not, it is counted and said, and the phase's third in a row ends the run."""
        checked = torch.stack([torch.nn.utils.get_total_norm(gradients), *terms.values()])
        if bool(checked.isfinite().all()):
            self.in_a_row[phase.name] = 0
            return True
        if not any(self.in_a_row.values()):
            self.first_left_out = self.images
        self.non_finite += 1
        self.in_a_row[phase.name] += 1
        shown = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
        if self.leader:
            what = f"{phase.name} has no finite loss and gradient at {self.images} images"
            print(f"step left out: {what} ({shown})", file=sys.stderr)
        if self.in_a_row[phase.name] >= PATIENCE:
            # A checkpoint of the very weights that then failed is no good one.
            kept = [path for path in self.checkpoints.files() if int(path.stem) < self.first_left_out]
            last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no good checkpoint"
            raise UserError(
                f"training diverged: {PATIENCE} updates of phase {phase.name} in a row without a finite loss and "
                f"gradient, the last at {self.images} images ({shown}); {last}; "
                "try a lower learning rate or a higher loss.r1_weight"
            )
        return False
