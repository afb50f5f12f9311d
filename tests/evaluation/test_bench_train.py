"""The speed of training: whole steps of the trainer's own, in whole cycles of R1."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from evaluation import bench_train
from evaluation.bench_train import Training, operations, seconds
from gigagan.config import parse_overrides
from gigagan.errors import UserError
from gigagan.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def overrides(tiny_overrides: list[str], clip_folder: Path) -> list[str]:
    return [*tiny_overrides, "data.name=scenes", f"text.clip=local-dir:{clip_folder}", "vision.clip=",
            "loss.r1_interval=4"]  # fmt: skip


def training(*overrides: str) -> Training:
    return Training(parse_overrides(overrides), CPU)


def test_cycles_are_timed_from_batch_to_batch_behind_the_first(overrides: list[str]) -> None:
    ticks = itertools.count(10)
    assert seconds(training(*overrides), 3, lambda: next(ticks)).tolist() == [4, 4, 4]
    ticks = itertools.count(10)
    assert seconds(training(*overrides, "loss.r1_weight=0"), 3, lambda: next(ticks)).tolist() == [1, 1, 1]


def test_steps_are_those_of_training(overrides: list[str]) -> None:
    some = training(*overrides)
    before = [p.detach().clone() for p in some.model.generator.parameters()]
    asked: list[int] = []
    some.steps(3, lambda: asked.append(some.batches.captions_cut))
    assert len(asked) == 4  # before each step and behind the last
    changed = [not torch.equal(a, b) for a, b in zip(before, some.model.generator.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_operations_count_r1_once_a_cycle(overrides: list[str]) -> None:
    each = [operations(training(*overrides, f"loss.r1_interval={n}")) for n in (1, 2, 4)]
    without = operations(training(*overrides, "loss.r1_weight=0"))
    r1 = each[0] - without
    assert r1 > 0
    assert each == pytest.approx([without + r1 / n for n in (1, 2, 4)])
    double = operations(training(*overrides, "loss.r1_weight=0", "train.batch=8"))
    assert 1.9 < double / without < 2.001


def test_the_command_prints_a_table_and_writes_a_record(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "speed.json"
    monkeypatch.setattr("sys.argv", ["bench_train", "--out", str(out), "--steps", "7", "--matrix", "64", *overrides])
    bench_train.main()
    found = json.loads(out.read_text())
    assert (found["steps"], found["batch"], found["resolution"], found["dtype"]) == (8, 4, 16, "fp32")
    assert found["low"] <= found["images_per_s"] <= found["high"]
    share = found["gflops_per_image"] * found["images_per_s"] / (1e3 * found["peak_tflops"])
    assert found["peak_share"] == pytest.approx(share)
    assert found["peak_memory_gb"] is None
    assert {"git_sha", "git_dirty", "device", "torch", "threads"} <= found["made"].keys()
    assert found["config"]["train"]["batch"] == 4
    assert f"images/s   {found['images_per_s']:.4g} [" in capsys.readouterr().out


def test_a_batch_that_does_not_fit_is_one_clear_line(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    some = training(*overrides)

    def full(trainer: Trainer, stop: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "_run", full)
    with pytest.raises(UserError, match=r"on cpu: 4 pictures at once do not fit: set train\.micro_batch=2"):
        some.steps(1, lambda: None)
