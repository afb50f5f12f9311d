"""Clocks, turns, order statistics, and what counts as out of memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch.utils import benchmark

from evaluation import timing
from evaluation.timing import Job, by_clock, by_events, operations, summarise, take_turns
from gigagan.memory import is_out_of_memory

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when something is done."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_take_turns_in_every_round_in_changing_order() -> None:
    calls: list[tuple[str, int]] = []
    jobs = {name: Job(lambda turn, name=name: calls.append((name, turn)), 6) for name in "abc"}
    seconds = take_turns(jobs, 2, by_clock())
    assert {name: len(times) for name, times in seconds.items()} == {"a": 6, "b": 6, "c": 6}
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert [{turn for _, turn in part} for part in rounds] == [{i} for i in range(8)]
    orders = ["".join(name for name, _ in part) for part in rounds]
    assert {"".join(sorted(order)) for order in orders} == {"abc"}
    assert len(set(orders)) > 1


def test_jobs_of_fewer_rounds_have_them_spread_over_all() -> None:
    calls: dict[str, list[int]] = {"many": [], "few": []}
    jobs = {"many": Job(calls["many"].append, 20), "few": Job(calls["few"].append, 4)}
    seconds = take_turns(jobs, 0, by_clock())
    assert calls == {"many": list(range(20)), "few": [0, 5, 10, 15]}
    assert {name: len(times) for name, times in seconds.items()} == {"many": 20, "few": 4}


def test_what_a_job_gave_is_looked_at_when_the_clock_stands_and_warm_up_does_not_count() -> None:
    clock, seen = Clock(), []

    def call(turn: int) -> int:
        clock.now += 100.0 if turn < 2 else 2.0
        return turn

    def look(found: int) -> None:
        clock.now += 50.0
        seen.append(found)

    assert take_turns({"a": Job(call, 3, look)}, 2, by_clock(clock))["a"].tolist() == [2.0] * 3
    assert seen == [2, 3, 4]


def test_a_gpu_is_asked_for_the_time_between_two_events_with_nothing_queued_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, queued = Clock(), [7.0]  # something is still running when the clock is to start

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            gpu.now += sum(queued)
            queued.clear()
            self.at = gpu.now

        def elapsed_time(self, end: Event) -> float:
            return 1e3 * (end.at - self.at)

    def synchronize(device: object) -> None:
        gpu.now += sum(queued)
        queued.clear()

    for name, fake in (("Event", Event), ("synchronize", synchronize), ("current_stream", lambda device: None)):
        monkeypatch.setattr(torch.cuda, name, fake)
    timed = by_events(torch.device("cuda"))
    assert timed(lambda: queued.append(2.0) or "picture") == (2.0, "picture")
    assert not queued


def test_a_known_sleep_is_measured() -> None:
    network = torch.nn.Module()
    network.forward = lambda x: time.sleep(0.01) or x  # type: ignore[method-assign]
    seconds = take_turns({"sleep": Job(lambda turn: network(turn), 10)}, 1, by_clock())["sleep"]
    assert seconds.min() >= 0.01
    assert np.median(seconds) < 0.05


def test_medians_are_those_of_torchs_own_benchmark() -> None:
    a = torch.randn(128, 128)

    def call(turn: int = 0) -> torch.Tensor:
        x = a
        for _ in range(20):
            x = (x @ a).tanh()
        return x

    for _ in range(5):  # the machine may do something else in one try, not in all
        ours = np.median(take_turns({"a": Job(call, 50)}, 5, by_clock())["a"])
        timer = benchmark.Timer("call()", globals={"call": call}, num_threads=1)
        theirs = np.median([timer.timeit(1).median for _ in range(50)])
        if 0.75 < ours / theirs < 1.33:
            return
    pytest.fail(f"ours {ours:.2e} s, torch.utils.benchmark {theirs:.2e} s")


def test_median_interval_and_percentiles() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1, 101)) / 1e3  # 1 to 100 ms
    score, more = summarise(times)
    assert score.value == pytest.approx(50.5)
    assert (score.low, score.high) == pytest.approx((41, 60), abs=1)  # ranks 50 -+ 0.98 sqrt(100)
    assert more == pytest.approx({"p90": 90.1, "p99": 99.01})
    score, more = summarise(times, batch=8)
    assert score.n == 800  # pictures
    assert score.value == pytest.approx(8 / 0.0505)
    assert score.low < score.value < score.high
    assert more["p99"] < more["p90"] < score.low
    assert "p99" not in summarise(times[:99])[1]  # which say nothing of one in a hundred


def test_the_product_is_of_the_operations_that_it_is_taken_for() -> None:
    product = timing.product(32, torch.bfloat16, CPU)
    assert product().dtype == torch.bfloat16
    assert operations(product) == 2 * 32**3


def test_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
