"""How long calls take, how many operations they are, and what a device can do at most."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from evaluation.metrics.score import Score
from gigagan.operations import Operations

ENOUGH_FOR_P99 = 100  # rounds
K, T = TypeVar("K", bound=Hashable), TypeVar("T")
Stopwatch = Callable[[Callable[[], Any]], tuple[float, Any]]
"""A call -> the seconds that it takes, until the device is done, and what it gives."""


class Job(NamedTuple):
    """What is timed.

    Attributes:
        call: is given the number of the round.
        rounds: how often it is counted.
        look: is given what each counted call gave, when the clock stands.
    """

    call: Callable[[int], Any]
    rounds: int
    look: Callable[[Any], None] = lambda found: None


def stopwatch(device: torch.device) -> Stopwatch:
    """CUDA events on a GPU, the processor's clock elsewhere."""
    return by_events(device) if device.type == "cuda" else by_clock()


def by_clock(clock: Callable[[], float] = time.perf_counter) -> Stopwatch:
    """For calls that are done when they return."""

    def timed(call: Callable[[], T]) -> tuple[float, T]:
        start = clock()
        found = call()
        return clock() - start, found

    return timed


def by_events(device: torch.device) -> Stopwatch:
    """A pair of CUDA events around each call, with nothing queued before and all of it done after. As the device is
    idle when the first one is queued, work of the processor within the call counts, too."""

    def timed(call: Callable[[], T]) -> tuple[float, T]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(device)
        torch.cuda.synchronize(device)
        start.record(stream)
        found = call()
        end.record(stream)
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1e3, found

    return timed


def take_turns(jobs: Mapping[K, Job], warm_up: int, timed: Stopwatch) -> dict[K, np.ndarray]:
    """Seconds [rounds] that each job takes. All take turns within a round, in another order each time, so that whatever
    else the machine does hits them alike; those with fewer rounds than others have them spread evenly over all."""
    order, dice = list(jobs), random.Random(0)
    seconds: dict[K, list[float]] = {name: [] for name in jobs}
    most = max((job.rounds for job in jobs.values()), default=0)
    for turn in range(-warm_up, most):
        dice.shuffle(order)
        for name in order:
            call, rounds, look = jobs[name]
            if turn >= 0 and turn * rounds // most == (turn - 1) * rounds // most:
                continue
            taken, found = timed(partial(call, turn + warm_up))
            if turn >= 0:
                seconds[name].append(taken)
                look(found)
    return {name: np.array(times) for name, times in seconds.items()}


def summarise(seconds: np.ndarray, batch: int = 0) -> tuple[Score, dict[str, float]]:
    """Median of a latency in ms or, with a batch, of a throughput in images/s, its 95 % interval from order statistics
    (no distribution is assumed), and percentiles of the time, where there are enough rounds for them."""
    n, per_s = len(seconds), batch > 0
    reach = 1.96 * np.sqrt(n) / 2
    low, high = np.sort(seconds)[[max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))]]

    def shown(time: float) -> float:
        return batch / float(time) if per_s else 1e3 * float(time)

    ends = sorted((shown(low), shown(high)))
    percentiles = {"p90": 0.9, "p99": 0.99} if n >= ENOUGH_FOR_P99 else {"p90": 0.9}
    tail = {name: shown(np.quantile(seconds, q)) for name, q in percentiles.items()}
    return Score(shown(np.median(seconds)), n * max(batch, 1), *ends), tail


# --------------------------------------------------------------------------------------------------------- operations


def operations(call: Callable[[], Any]) -> int:
    """Of a call, as ``gigagan.operations`` counts them."""
    with Operations() as counter:
        call()
    return counter.total


def product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    """The product of two square matrices, ``2 * side ** 3`` operations: by its time, the most that the device was seen
    to do. What it is specified for is reached by nobody."""
    a, b = (torch.randn(side, side, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    a, b = a.to(device, dtype), b.to(device, dtype)
    return lambda: a @ b


# ------------------------------------------------------------------------------------------------------------- memory


def peak_memory(device: torch.device, call: Callable[[], Any]) -> int:
    """The most bytes that were allocated on a GPU at a time during a call, with all that was there before.

    Of a CPU there is no such figure: the system knows of a process, not of one of its models.
    """
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
