"""How fast a configuration trains: images/s of whole steps, and their share of the device's measured matrix rate.

    python -m evaluation.bench_train --out train-speed.json data.name=scenes data.resolution=16 train.batch=16
    python -m evaluation.bench_train --device cuda --steps 64 --out train-speed.json \\
        $(python -m ablations.registry overrides laion_64) data.name=scenes data.resolution=64 train.dtype=bf16

Steps are the trainer's own: reading the data, discriminator, R1 where it is due, generator, averaged weights. They are
timed from one batch handed out to the next, in cycles of ``loss.r1_interval`` steps, so that each holds R1 once. What
a step computes is counted once, before anything is timed. Nothing is kept of the training.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation import stats, timing
from gigagan import provenance
from gigagan.clip import Clips
from gigagan.config import Config, parse_overrides, recipe_sha, to_dict
from gigagan.data import open_dataset
from gigagan.errors import command
from gigagan.files import check_writable, write_json
from gigagan.operations import Operations
from gigagan.options import DEVICE_HELP, device, positive
from gigagan.training.batches import Batches, told
from gigagan.training.checkpoint import Checkpoints
from gigagan.training.ema import EMA
from gigagan.training.phases import GigaGAN
from gigagan.training.trainer import Rhythm, Trainer

PRODUCTS = 30  # matrix products that the device's rate is the median of
NEVER = Rhythm(tick=1 << 60, checkpoint=1 << 60, snapshots=1, picture=0)


class Watched(Batches):
    """Batches that tell when the trainer asks for the next one, which is when it has done a step."""

    asked: Callable[[], None]

    def start(self, images_seen: int) -> Iterator[Any]:
        for batch in super().start(images_seen):
            self.asked()
            yield batch


class Training:
    """One configuration with its networks and data, of which steps can be run as often as wanted.

    Raises UserError where the data or a CLIP are not there, or the batch does not fit into memory.
    """

    def __init__(self, config: Config, on: torch.device) -> None:
        torch.set_num_threads(config.train.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as in training
        dataset = open_dataset(config.data, "train")
        self.config, self.device = config, on
        self.clips = Clips.load(config, on)
        self.model = GigaGAN(config, self.clips, 0, on)
        self.batches = Watched(dataset, told(config, self.clips, dataset, on), config, 0, on)
        self.ema, self.phases = EMA(self.model.generator, config.train), self.model.phases()
        self.recipe = recipe_sha(config, {**self.clips.shas, **self.model.shas, "data": dataset.fingerprint()})

    def steps(self, n: int, asked: Callable[[], None]) -> None:
        """Train for ``n`` steps; ``asked`` is called before each of them, and once behind the last."""
        config = replace(self.config.train, kimg=(n + 1) * self.config.train.batch / 1000)
        left = n

        def next_batch() -> None:
            nonlocal left
            asked()
            left -= 1
            if left < 0:
                raise _Done

        self.batches.asked = next_batch
        try:
            with tempfile.TemporaryDirectory() as folder:
                kept = Checkpoints(Path(folder) / "checkpoints", {}, {}, "")
                Trainer(self.phases, self.batches, self.ema, kept, config, Path(folder), NEVER, lambda path: None).run()
        except _Done:
            pass


class _Done(Exception):
    """Enough steps were made."""


def operations(training: Training) -> float:
    """Of one step, averaged over a cycle: the first step has R1, the second has not."""
    totals: list[int] = []
    with Operations() as counter:
        training.steps(2, lambda: totals.append(counter.total))
    first, second = np.diff(totals)
    return float(second + (first - second) / _cycle(training.config))


def _cycle(config: Config) -> int:
    return config.loss.r1_interval if config.loss.r1_weight > 0 else 1


def seconds(training: Training, cycles: int, clock: Callable[[], float] = time.perf_counter) -> np.ndarray:
    """Of each cycle of steps, [cycles]; one more goes before them."""
    times: list[float] = []

    def asked() -> None:
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        times.append(clock())

    every = _cycle(training.config)
    training.steps((cycles + 1) * every, asked)
    return np.diff(times[every::every])


def matrix_rate(on: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a product of square matrices, timed as generators are."""
    product, watch = timing.product(side, dtype, on), timing.stopwatch(on)
    taken = timing.take_turns({"product": timing.Job(lambda turn: product(), PRODUCTS)}, 5, watch)["product"]
    return 2 * side**3 / float(np.median(taken))


def measure(config: Config, on: torch.device, steps: int, side: int) -> dict[str, Any]:
    """What a record says of a configuration: speeds, operations, and all that they rest on.

    ``steps``: at least so many are timed, in whole cycles. Raises UserError as ``Training``.
    """
    training, train = Training(config, on), config.train
    flops = operations(training)
    # GPUs multiply fp32 matrices as TF32 here, as training lets them.
    rate = matrix_rate(on, torch.bfloat16 if train.dtype == "bf16" else torch.float32, side)
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on)
    every = _cycle(config)
    taken = seconds(training, max(2, math.ceil(steps / every)))
    speed = stats.mean(list(every * train.batch / taken))  # over cycles
    return {
        "images_per_s": speed.value,
        "low": speed.low,
        "high": speed.high,
        "steps": every * len(taken),
        "batch": train.batch,
        "resolution": config.data.resolution,
        "gflops_per_image": flops / train.batch / 1e9,
        "peak_tflops": rate / 1e12,
        "peak_share": flops / train.batch * speed.value / rate,
        "peak_memory_gb": torch.cuda.max_memory_allocated(on) / 1e9 if on.type == "cuda" else None,
        "dtype": "tf32" if on.type == "cuda" and train.dtype == "fp32" else train.dtype,
        "generator_params_m": sum(p.numel() for p in training.model.generator.parameters()) / 1e6,
        "recipe_sha": training.recipe,
        "config": to_dict(config),
        "made": provenance.collect(str(on), train.threads),
    }


def table(found: dict[str, Any]) -> str:
    memory = found["peak_memory_gb"]
    lines = {
        "device": f"{found['made']['device']}, {found['dtype']}, {found['made']['threads']} threads",
        "pictures": f"{found['resolution']} px, {found['batch']} a step, {found['steps']} steps",
        "images/s": f"{found['images_per_s']:.4g} [{found['low']:.4g}, {found['high']:.4g}]",
        "operations": f"{found['gflops_per_image']:.4g} GFLOP an image",
        "share": f"{found['peak_share']:.1%} of {found['peak_tflops']:.4g} TFLOP/s, the measured matrix rate",
        "memory": "not known of a CPU" if memory is None else f"{memory:.1f} GB at most",
    }
    return "\n".join(f"{name:<11}{text}" for name, text in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.bench_train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="record (JSON)")
    parser.add_argument("--steps", type=positive, default=32, help="to time, rounded up to whole cycles of R1")
    parser.add_argument("--matrix", type=positive, metavar="SIDE", help="default: 1024 on cpu, 8192 on cuda")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="over the defaults of gigagan/config.py")
    args = parser.parse_intermixed_args()
    check_writable(args.out.parent)
    side = args.matrix or (8192 if args.device.type == "cuda" else 1024)
    found = measure(parse_overrides(args.overrides), args.device, args.steps, side)
    write_json(args.out, found)
    print(table(found))


if __name__ == "__main__":
    command(main)
