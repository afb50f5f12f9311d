from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import speed
from evaluation.protocols import SpeedProtocol
from gigagan.errors import UserError

PROTOCOL = SpeedProtocol("speed@1", "", batch=8, warm_up=2, rounds=20)
HERE = {"git_sha": "cd", "git_dirty": False, "torch": "2.11", "started": "2026-01-01"}
MACHINE = {"device": "a CPU", "threads": 1, **HERE}


class Clock:
    """Time that passes only when something is done."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeSampler:
    """Takes 3 ms for the text encoder, 2 ms for pictures and 1 ms for each; the first two calls take 100 times that."""

    device = torch.device("cpu")
    resolution = 16

    def __init__(self, clock: Clock, slowness: float = 1.0) -> None:
        self.clock, self.slowness, self.calls = clock, slowness, 0

    def encode(self, captions: list[str]) -> list[str]:
        self.clock.now += 3e-3 * self.slowness
        return captions

    def generate(self, text: list[str], seeds: list[int]) -> torch.Tensor:
        assert len(text) == len(seeds)
        self.calls += 1
        self.clock.now += (2e-3 + 1e-3 * len(text)) * self.slowness * (100 if self.calls <= 2 else 1)
        return torch.zeros(len(text), 3, 16, 16)

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        self.generate(self.encode(captions), seeds)
        return np.zeros((len(captions), 16, 16, 3), np.uint8)


def finished_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    training = {**MACHINE, "device": "a GPU", "threads": 8}
    facts = {"recipe_sha": "ab", "kimg": 20.0, "params_m": 0.5, "seconds": 60.0, "dtype": "bf16"}
    (folder / "run.json").write_text(json.dumps(facts | training))
    (folder / "config.json").write_text(json.dumps({"config": {"data": {"name": "scenes"}}}))
    return folder


def test_the_rows_state_what_was_measured_where(tmp_path: Path) -> None:
    clock = Clock()
    runs = [finished_run(tmp_path / variant / "seed0") for variant in ("gigagan", "slow")]
    samplers = {runs[0]: FakeSampler(clock), runs[1]: FakeSampler(clock, 4.0)}
    rows = speed.measure(samplers, "demo", PROTOCOL, MACHINE, clock)
    values = {(row["variant"], row["metric"]): row for row in rows}
    for variant, slowness in (("gigagan", 1), ("slow", 4)):
        for metric, value, batch in (
            ("latency_ms", 3 * slowness, 1),
            ("latency_end_to_end_ms", 6 * slowness, 1),
            ("throughput_images_per_s", 8 / 10e-3 / slowness, 8),
        ):
            row = values[variant, metric]
            assert [row[name] for name in ("value", "low", "high", "p90")] == pytest.approx([value] * 4)
            assert row.items() >= {"batch": batch, "device": "a CPU", "threads": 1, "dtype": "fp32"}.items()
            assert row.items() >= {"kimg": 20.0, "recipe_sha": "ab", "protocol": "speed@1", "dataset": "scenes"}.items()
            assert "p99" not in row  # 20 rounds say nothing of one in a hundred
        assert values[variant, "params_m"]["value"] == 0.5


def test_all_take_turns_in_every_round_in_changing_order() -> None:
    calls: list[tuple[str, int]] = []
    jobs = {name: (lambda turn, name=name: calls.append((name, turn))) for name in "abc"}
    seconds = speed.take_turns(jobs, warm_up=2, rounds=6)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 6, "b": 6, "c": 6}
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert [{turn for _, turn in part} for part in rounds] == [{i} for i in range(8)]
    orders = ["".join(name for name, _ in part) for part in rounds]
    assert {"".join(sorted(order)) for order in orders} == {"abc"}
    assert len(set(orders)) > 1


def test_the_clock_stops_only_when_the_device_is_done() -> None:
    clock, queued = Clock(), []

    def synchronise() -> None:
        clock.now += sum(queued)
        queued.clear()

    jobs = {"a": lambda turn: queued.append(2.0), "b": lambda turn: queued.append(5.0)}
    seconds = speed.take_turns(jobs, 1, 3, synchronise, clock)
    assert {name: times.tolist() for name, times in seconds.items()} == {"a": [2.0] * 3, "b": [5.0] * 3}


def test_a_known_sleep_is_measured() -> None:
    import time

    seconds = speed.take_turns({"sleep": lambda turn: time.sleep(0.01)}, 1, 5)["sleep"]
    assert 0.01 <= np.median(seconds) < 0.05


def test_median_interval_and_percentiles() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1, 101)) / 1e3  # 1 to 100 ms
    score, more = speed.summarise("latency_ms", times, batch=8)
    assert score.value == pytest.approx(50.5)
    assert (score.low, score.high) == pytest.approx((41, 60), abs=1)  # ranks 50 -+ 0.98 sqrt(100)
    assert more == pytest.approx({"batch": 1, "p90": 90.1, "p99": 99.01})
    score, more = speed.summarise("throughput_images_per_s", times, batch=8)
    assert score.low < score.value < score.high
    assert more["p99"] < more["p90"] < score.low


def test_a_folder_that_names_no_run_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert speed.name_of(Path("runs/demo/gigagan/seed12")) == ("gigagan", 12)
    for folder, message in ((tmp_path, "<variant>/seed<N>"), (tmp_path / "seed0", "train the run")):
        arguments = ["speed", "--runs", str(folder), "--suite", "demo", "--out", str(tmp_path / "speed.jsonl")]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(UserError, match=message):
            speed.main()
