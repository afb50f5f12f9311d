"""The benchmark beside lucidrains' package: who is asked when, what a ratio is, what is refused. Nothing is timed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evaluation import bench_lucidrains as bench
from gigagan.errors import UserError

SIZE = bench.SIZES[0]


def test_sides_take_turns_within_a_round_and_the_warm_up_does_not_count():
    asked = []

    def worker(side):
        return lambda job: asked.append((job, side)) or (float(len(asked)), 0.0)

    taken = bench.take_turns({side: worker(side) for side in bench.SIDES}, ["a", "b"], warm_up=1, rounds=4)
    assert [job for job, _ in asked] == ["a", "a", "b", "b"] * 5
    pairs = [tuple(side for _, side in asked[i : i + 2]) for i in range(0, len(asked), 2)]
    assert all(sorted(pair) == sorted(bench.SIDES) for pair in pairs)
    assert len(set(pairs)) == 2  # neither always goes first
    assert taken["ours"]["a"].shape == (4, 2)
    assert min(times[:, 0].min() for of in taken.values() for times in of.values()) > 4


def test_a_penalty_counts_by_its_interval():
    plain, penalised = np.full((3, 2), 2.0), np.full((3, 2), 6.0)
    both = {"sample 1": plain, "step": plain, "penalised": penalised}
    found = bench.with_share_of_penalty(both, 4)
    assert set(found) == {"sample 1", "training step 8"}
    assert found["training step 8"].tolist() == [[3.0, 3.0]] * 3


def test_a_ratio_is_the_median_over_rounds_of_cpu_seconds():
    mine, other = np.array([[1.0, 9], [2, 9], [9, 9]]), np.array([[4.0, 1], [4, 1], [4, 1]])
    (row,) = bench.compare(SIZE, {"ours": {"sample 8": mine}, "theirs": {"sample 8": other}})
    assert (row["what"], row["batch"], row["rounds"]) == ("sample", 8, 3)
    assert (row["ratio"], row["low"], row["high"]) == (0.5, 0.25, 2.25)
    assert (row["ours_cpu_ms"], row["ours_wall_ms"], row["theirs_cpu_ms"]) == (2000, 9000, 4000)
    assert row["wanted"] == pytest.approx(1 / 3, abs=1e-4)


def test_the_interval_of_many_rounds_is_narrower_than_their_range():
    middle, low, high = bench.median_with_interval(np.arange(101.0))
    assert middle == 50
    assert 30 < low < 45 < 55 < high < 70


def test_networks_of_unequal_size_are_refused():
    bench.check_equal(SIZE, {"ours": {"G": 104}, "theirs": {"G": 100}})
    with pytest.raises(UserError, match="32 px: G has 106 parameters in ours, 100 in theirs"):
        bench.check_equal(SIZE, {"ours": {"G": 106}, "theirs": {"G": 100}})


ANSWERS = 'print("{}"); import sys\nfor line in sys.stdin: print(len(line.strip()), 2.5, flush=True)'


def test_a_worker_answers_what_it_is_asked():
    script = ANSWERS.replace('"{}"', "'{\"interval\": 4}', flush=True")
    with bench.Worker([sys.executable, "-c", script]) as worker:
        assert worker.about == {"interval": 4}
        assert worker("three") == (5, 2.5)
        assert worker("ab") == (2, 2.5)
    assert worker.process.returncode is not None


def test_a_worker_that_ended_is_one_line():
    with pytest.raises(UserError, match="ended with 3"):
        bench.Worker([sys.executable, "-c", "raise SystemExit(3)"])


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    called = []

    class Done:
        returncode = 0

    monkeypatch.setattr(bench.subprocess, "run", lambda command, **_: called.append(command) or Done())
    python = bench.environment(tmp_path / "env")
    assert python.is_file()
    assert called[0][-len(bench.PACKAGES) :] == [*bench.PACKAGES]
    (host,) = (tmp_path / "env").glob("lib/python*/site-packages/host.pth")
    assert (bench.Path(host.read_text().strip()) / "torch").is_dir()
    assert bench.environment(tmp_path / "env") == python
    assert len(called) == 1


def test_packages_that_cannot_be_installed_are_one_line(tmp_path, monkeypatch):
    class Failed:
        returncode = 1

    monkeypatch.setattr(bench.subprocess, "run", lambda command, **_: Failed())
    with pytest.raises(UserError, match="pip could not install gigagan-pytorch"):
        bench.environment(tmp_path / "env")
