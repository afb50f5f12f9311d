"""Latency and throughput of all generators of a suite, measured in one process.

    python -m evaluation.speed --suite demo --runs runs/demo/*/seed0 --out runs/demo/speed.jsonl
    python -m evaluation.speed --suite paper --runs runs/paper/*/seed0 --upsampler runs/up --out speed.jsonl

All generators take turns within each round, in another order each time, so that whatever else the machine does hits
them alike. Run it alone. With an upsampler each is also measured with that behind it, which is a row of another
resolution. Rows: ``latency_ms`` (batch 1, generator alone: text features to images on the device),
``latency_end_to_end_ms`` (batch 1, caption to uint8 image in memory, so with the text encoder),
``throughput_images_per_s`` (the protocol's batch, generator alone) and ``params_m``. A value is the median over rounds,
[low, high] its 95 % interval; p90 and p99 are percentiles of the time, for throughput as images/s.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from evaluation import protocols, records, runs
from evaluation.metrics.score import Score
from evaluation.protocols import SpeedProtocol
from gigagan.errors import UserError, command
from gigagan.options import DEVICE_HELP, device, threads

if TYPE_CHECKING:
    from gigagan.sampling import Sampler

CAPTION = "a big red circle on a green background"  # its words do not matter: text is padded to one length
ENOUGH_FOR_P99 = 100  # rounds
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
K = TypeVar("K", bound=Hashable)


def take_turns(
    jobs: Mapping[K, Callable[[int], Any]],
    warm_up: int,
    rounds: int,
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[K, np.ndarray]:
    """Seconds [rounds] that each job takes. A job is called with the number of the round."""
    order, dice = list(jobs), random.Random(0)
    seconds: dict[K, list[float]] = {name: [] for name in jobs}
    for turn in range(-warm_up, rounds):
        dice.shuffle(order)
        for name in order:
            synchronise()
            start = clock()
            jobs[name](turn + warm_up)
            synchronise()
            if turn >= 0:
                seconds[name].append(clock() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def jobs_of(sampler: Sampler, batch: int) -> dict[str, Callable[[int], Any]]:
    """The three things that are timed, by metric; each draws other noise in each round."""
    one, many = sampler.encode([CAPTION]), sampler.encode([CAPTION] * batch)
    return {
        "latency_ms": lambda turn: sampler.generate(one, [turn]),
        "latency_end_to_end_ms": lambda turn: sampler([CAPTION], [turn]),
        "throughput_images_per_s": lambda turn: sampler.generate(many, list(range(turn, turn + batch))),
    }


def summarise(metric: str, seconds: np.ndarray, batch: int) -> tuple[Score, dict[str, float]]:
    """Median with the 95 % interval that its order statistics give (no distribution is assumed), and percentiles."""
    n = len(seconds)
    reach = 1.96 * np.sqrt(n) / 2
    low, high = np.sort(seconds)[[max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))]]
    percentiles = {"p90": 0.9, "p99": 0.99} if n >= ENOUGH_FOR_P99 else {"p90": 0.9}
    tail = {name: float(np.quantile(seconds, q)) for name, q in percentiles.items()}
    if metric == "throughput_images_per_s":
        score = Score(batch / float(np.median(seconds)), n * batch, batch / float(high), batch / float(low))
        return score, {"batch": batch, **{name: batch / t for name, t in tail.items()}}
    score = Score(1e3 * float(np.median(seconds)), n, 1e3 * float(low), 1e3 * float(high))
    return score, {"batch": 1, **{name: 1e3 * t for name, t in tail.items()}}


def measure(
    samplers: Mapping[Path, Sampler],
    suite: str,
    protocol: SpeedProtocol,
    machine: Mapping[str, Any],
    clock: Callable[[], float] = time.perf_counter,
) -> list[records.Row]:
    """The rows of all runs, {folder: its sampler}; ``machine`` has the columns device, threads, ... of here and now."""
    import torch

    on_gpu = any(sampler.device.type == "cuda" for sampler in samplers.values())
    jobs = {(run, metric): job for run, s in samplers.items() for metric, job in jobs_of(s, protocol.batch).items()}
    synchronise = torch.cuda.synchronize if on_gpu else lambda: None
    seconds = take_turns(jobs, protocol.warm_up, protocol.rounds, synchronise, clock)
    rows = []
    for run, sampler in samplers.items():
        variant, seed = name_of(run)
        columns = runs.of_run(run, suite, variant, seed) | {
            **machine,
            "dtype": DTYPES[str(sampler.generate(sampler.encode([CAPTION]), [0]).dtype).removeprefix("torch.")],
            "resolution": sampler.resolution,
            "protocol": protocol.name,
            "protocol_sha": protocols.speed_sha(protocol, sampler.resolution),
        }
        rows.append(runs.row(columns, "params_m", Score(columns["params_m"], 0), n_images=None))
        for (of, metric), times in seconds.items():
            if of == run:
                score, more = summarise(metric, times, protocol.batch)
                rows.append(runs.row(columns, metric, score, **more))
    return rows


def name_of(run: Path) -> tuple[str, int]:
    """Variant and seed of a run folder ``.../<variant>/seed<N>``. Raises UserError for another path."""
    found = re.fullmatch(r"seed(\d+)", run.name)
    if not found:
        raise UserError(f"{run}: a run's folder is called <variant>/seed<N>")
    return run.parent.name, int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, metavar="FOLDER", help="<variant>/seed<N>")
    parser.add_argument("--small", type=Path, help="of upsamplers: image set of the pictures that they enlarge")
    parser.add_argument("--upsampler", type=Path, metavar="RUN", help="also measure all with this one behind them")
    parser.add_argument("--suite", required=True)
    parser.add_argument("--protocol", default="speed@1")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--threads", type=threads, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="rows (JSON lines)")
    args = parser.parse_args()
    protocol = protocols.load_speed(args.protocol)
    for run in args.runs:
        runs.of_run(run, args.suite, *name_of(run))  # what is wrong with a folder shows before the minutes of measuring
    import torch

    from evaluation import samplers
    from gigagan import provenance, upsample

    torch.set_num_threads(args.threads)
    here = provenance.collect(str(args.device), args.threads)
    machine = {name: here[name] for name in runs.MACHINE}
    loaded = {run: samplers.load(run, args.device, small=args.small) for run in args.runs}
    rows = measure(loaded, args.suite, protocol, machine)
    if args.upsampler:
        behind = upsample.load(args.upsampler, args.device)
        chained = {run: samplers.Chained(sampler, behind) for run, sampler in loaded.items()}
        rows += measure(chained, args.suite, protocol, machine)
    records.write(args.out, rows)


if __name__ == "__main__":
    command(main)
