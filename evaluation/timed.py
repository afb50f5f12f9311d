"""Things that draw pictures, timed side by side in one process: how fast, with how much memory, in how many operations.

What is timed need not be a run's: a ``Timed`` is any Sampler with the columns of its rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation import protocols, runs, timing
from evaluation.execution import DTYPES, Execution, n_bytes
from evaluation.metrics.score import Score
from evaluation.protocols import SpeedProtocol
from evaluation.records import Row
from evaluation.timing import Job, Stopwatch
from gigagan.degenerate import Tally
from gigagan.errors import UserError
from gigagan.memory import is_out_of_memory
from gigagan.sampling import Sampler

CAPTION = "a big red circle on a green background"  # its words do not matter: text is padded to one length
PRODUCT = "matrix product"
THROUGHPUT = "throughput_images_per_s"


@dataclass(frozen=True)
class Timed:
    """Something to time.

    Attributes:
        columns: of its rows: suite, variant, family, seed, dataset, recipe_sha, kimg, params_m, seconds, git_dirty.
        networks: that draw: brought to the dtype, and compiled where that is asked for.
        encoders: that read captions: brought to the dtype. What names no networks is timed as it is, and its memory is
            not known.
        caption: what is drawn.
        dtype: of 16 bits, which the networks have of their own and keep; empty: the execution's.
        separable: captions are encoded apart from drawing; if not, a picture is timed from its caption alone.
    """

    sampler: Sampler
    columns: Row
    networks: Sequence[nn.Module] = ()
    encoders: Sequence[nn.Module] = ()
    caption: str = CAPTION
    dtype: str = ""
    separable: bool = True

    @property
    def params_m(self) -> float | None:
        """Millions of parameters that draw, those of a network that is applied twice once."""
        parameters = {p for network in self.networks for p in network.parameters()}
        return round(sum(p.numel() for p in parameters) / 1e6, 6) if parameters else self.columns["params_m"]

    @property
    def name(self) -> str:
        return f"{self.columns['variant']} seed {self.columns['seed']} at {self.sampler.resolution} px"

    def drawing(self, batch: int) -> Callable[[int], Tensor]:
        """The generator alone; it draws other noise in each round."""
        text = self.sampler.encode([self.caption] * batch)
        return lambda turn: self.sampler.generate(text, list(range(turn, turn + batch)))

    def latencies(self) -> dict[str, Callable[[int], Any]]:
        """What is timed of one picture, by metric."""
        whole = {"latency_end_to_end_ms": lambda turn: self.sampler([self.caption], [turn])}
        if not self.separable:
            return whole
        return {
            "latency_text_ms": lambda turn: self.sampler.encode([self.caption]),
            "latency_ms": self.drawing(1),
            **whole,
        }


@dataclass(frozen=True)
class _Found:
    """What is known of one ``Timed`` before its clock runs, and what the clock says.

    Attributes:
        operations: of one picture, by latency.
        memory: by batch that fits, the most bytes it takes on a GPU; None elsewhere.
        tallies: of the pictures drawn, by latency or batch.
    """

    one: Timed
    operations: dict[str, int]
    memory: dict[int, int | None]
    tallies: dict[str | int, Tally]


def measure(
    timed: Sequence[Timed],
    protocol: SpeedProtocol,
    machine: Row,
    execution: Execution,
    stopwatch: Stopwatch | None = None,
) -> list[Row]:
    """The rows of all that is timed, on the one device of ``execution``.

    Args:
        machine: the columns of here and now: device, threads, git_sha, git_dirty, torch, started.
        stopwatch: the device's own, unless another is given.

    Raises UserError where one picture does not fit into memory.
    """
    execution.place(network for one in timed if not one.dtype for network in (*one.networks, *one.encoders))
    with execution(), torch.inference_mode():
        counted = [_operations(one) for one in timed]  # before compilation, behind which they cannot be seen
        execution.compile(network for one in timed for network in one.networks)
        found = [
            _Found(one, operations, _fitting(one, protocol.sweep(one.sampler.resolution)) if one.separable else {}, {})
            for one, operations in zip(timed, counted, strict=True)
        ]
        jobs = {(k, what): job for k, of in enumerate(found) for what, job in _jobs(of, protocol).items()}
        if protocol.matrix:
            product = timing.product(protocol.matrix, DTYPES[execution.dtype], execution.device)
            jobs[-1, PRODUCT] = Job(lambda turn: product(), protocol.rounds)
        with _memory("all together", "what fitted alone", "time fewer in one process"):
            seconds = timing.take_turns(jobs, protocol.warm_up, stopwatch or timing.stopwatch(execution.device))
    peak = 2 * protocol.matrix**3 / float(np.median(seconds[-1, PRODUCT])) if protocol.matrix else None
    rows = []
    for k, of in enumerate(found):
        rows += _rows(of, {what: times for (i, what), times in seconds.items() if i == k}, protocol, execution, machine,
                      peak)  # fmt: skip
        whole = Tally()
        for tally in of.tallies.values():
            whole.add(tally)
        whole.warn(f"{of.one.name}, while it was timed")
    return rows


def _operations(one: Timed) -> dict[str, int]:
    with _memory(one.name, "one picture", "take a larger device, or a dtype of 16 bits"):
        return {metric: timing.operations(partial(call, 0)) for metric, call in one.latencies().items()}


def _fitting(one: Timed, sweep: Sequence[int]) -> dict[int, int | None]:
    """What ``_Found.memory`` is. What does not fit is said, and so is what does."""
    found: dict[int, int | None] = {}
    device = one.sampler.device
    for batch in sweep:
        try:
            with _memory(one.name, f"a batch of {batch}", f"{max(found, default='none')} is the largest that does"):
                others = None
                if device.type == "cuda" and one.networks:
                    others = torch.cuda.memory_allocated(device) - n_bytes((*one.networks, *one.encoders))
                draw = one.drawing(batch)
                draw(0)  # what compiles or tries out algorithms takes memory of its own, once
                found[batch] = (
                    None if others is None else timing.peak_memory(device, lambda draw=draw: draw(0)) - others
                )
        except UserError as e:
            if not found:
                raise
            print(f"warning: {e.message}", file=sys.stderr)
            break
    return found


@contextmanager
def _memory(where: str, what: str, remedy: str) -> Iterator[None]:
    """Raises UserError where memory runs out within."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        raise UserError(f"{where}: out of memory: {what} does not fit into it: {remedy}") from None


def _jobs(of: _Found, protocol: SpeedProtocol) -> dict[str | int, Job]:
    """What takes turns: latencies by metric, larger batches by their size. A batch of one need not be timed twice."""
    calls: dict[str | int, tuple[Callable[[int], Any], int]] = {
        metric: (call, protocol.rounds) for metric, call in of.one.latencies().items()
    }
    rounds = protocol.sweep_rounds or protocol.rounds
    calls |= {batch: (of.one.drawing(batch), rounds) for batch in of.memory if batch > 1}
    jobs: dict[str | int, Job] = {}
    for what, (call, n) in calls.items():
        if what == "latency_text_ms":
            jobs[what] = Job(call, n)
        else:
            of.tallies[what] = tally = Tally()
            jobs[what] = Job(call, n, tally.look)
    return jobs


def _rows(
    of: _Found,
    seconds: Mapping[str | int, np.ndarray],
    protocol: SpeedProtocol,
    execution: Execution,
    machine: Row,
    peak: float | None,
) -> list[Row]:
    """``seconds`` as ``_jobs`` calls them; ``peak``: the device's measured operations a second."""
    one = of.one
    columns = {
        **one.columns,
        **machine,
        "git_dirty": one.columns["git_dirty"] or machine["git_dirty"],  # a figure is as clean as both
        **execution.columns,
        **({"dtype": one.dtype} if one.dtype else {}),
        "resolution": one.sampler.resolution,
        "nfe": one.sampler.nfe,
        "protocol": protocol.name,
        "protocol_sha": protocols.speed_sha(protocol, one.sampler.resolution),
    }

    def row(metric: str, what: str | int, batch: int) -> Row:
        times = seconds[what]
        score, more = timing.summarise(times, batch if metric == THROUGHPUT else 0)
        operations = of.operations[metric if metric != THROUGHPUT else "latency_ms"]
        more |= {"batch": batch, "flops_g": operations / 1e9}
        if peak and not one.dtype:  # the peak is that of the execution's dtype
            rate = operations * batch / float(np.median(times))
            more |= {"peak_tflops": peak / 1e12, "peak_share": rate / peak}
        if what in of.tallies:
            more |= {"n_constant": of.tallies[what].n_constant, "n_non_finite": of.tallies[what].n_non_finite}
        return runs.row(columns, metric, score, **more)

    swept = [row(THROUGHPUT, batch if batch > 1 else "latency_ms", batch) for batch in of.memory]
    best = max(swept, key=lambda each: each["value"], default=None)
    size = one.params_m
    return [
        *([] if size is None else [runs.row(columns, "params_m", Score(size, 0), n_images=None)]),
        *(row(metric, metric, 1) for metric in of.operations),
        *(each | {"best": each is best} for each in swept),
        *(
            runs.row(columns, "peak_memory_gb", Score(held / 1e9, batch), batch=batch)
            for batch, held in of.memory.items()
            if held is not None
        ),
    ]
