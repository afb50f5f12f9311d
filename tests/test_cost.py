"""What suites at the paper's size take, before anybody starts. Steps are not counted here: that takes minutes."""

from __future__ import annotations

import pytest

from ablations import cluster, recipes
from ablations.cluster import PAPER_DAYS, PEAK_TFLOPS, Run
from ablations.cost import cost
from ablations.memory import Step
from gigagan.config import parse_overrides


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every step as one of 1,000 GFLOP a picture; the numbers of pictures at once that were asked for."""
    asked: list[int] = []

    def step(config, at_once):
        asked.append(at_once)
        return Step(40.0, 10.0, 1000.0)

    monkeypatch.setattr(cluster, "step", step)
    monkeypatch.setattr(cluster, "kept", dict)
    return asked


def test_hours_follow_from_pictures_and_operations():
    run = Run("x", 256, 25_600.0, 32, Step(1.0, 1.0, 1000.0), 0.0)
    assert run.exaflop == pytest.approx(25.6)
    assert run.hours(0.5) == pytest.approx(25.6e18 / (PEAK_TFLOPS * 1e12 * 0.5) / 3600)


def test_the_paper_s_suite_says_all_before_anybody_starts(counted, capsys):
    text = cost("paper", "gpu")
    paper = recipes.suite("paper")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    for run in (*paper.runs, "laion_64_512"):
        assert len(lines[run]) == 10
    assert lines["gigagan"][1:4] == ["256", "100,000", "25,600"]
    assert lines["laion_64"][1:4] == ["728", "1,350,000", "982,800"]
    assert {*counted} == {32, 8, 4}
    for words in (
        "not on the paper's data: LAION2B-en and COYO-700M",
        "LAION-5B was withdrawn in December 2023, Re-LAION followed in August 2024",
        "in all, 16 runs x 1 seeds and one laion_64_512: ",
        "GPU-hours: of one A100 (80 GB), TF32, at 33% of its peak of 156 TFLOP/s. The share is assumed",
        "memory: of a GPU that holds so many pictures at once",
        "40.0 GiB",
        "74.5 GiB",
        "GB of weights, checkpoints and snapshots",
        "GB of samples",
        f"the paper prints {PAPER_DAYS:,} A100 GPU-days",
    ):
        assert words in text
    assert "counting a step of laion_64 ..." in capsys.readouterr().err


def test_another_choice_of_runs_and_seeds_costs_less_or_more(counted):
    one = cost("coco64", "gpu", "gigagan", "0")
    assert "in all, 1 runs x 1 seeds: " in one
    assert "the full system" not in one
    assert "5 runs x 8 seeds" in cost("coco64", "gpu", "", "0-7")


def test_a_kept_count_is_taken_for_the_same_step_alone(counted, monkeypatch):
    of = recipes.suite("coco64")
    config = parse_overrides(recipes.recipe(of, "gigagan"))
    other = parse_overrides([*recipes.recipe(of, "gigagan"), "train.kimg=1", "train.lr_generator=1", "data.path=x"])
    key = cluster.key(config, 64)
    assert cluster.key(other, 64) == key  # a longer run's step is the same
    assert cluster.key(config, 32) != key
    assert cluster.key(parse_overrides(recipes.recipe(of, "no_attention")), 64) != key
    known = {key: {"peak": 5.0, "between": 4.0, "gflop": 3.0}}
    assert cluster.counted("gigagan", config, known) == Step(5.0, 4.0, 3.0)
    assert not counted


def test_small_suites_are_estimated_as_before_and_say_what_they_are():
    text = cost("paper_fixture", "cpu")
    assert "cpu-minutes" in text
    assert "A FIXTURE, not a result" in text


def test_show_says_what_the_data_are(monkeypatch, capsys):
    from ablations import registry

    for run in ("gigagan", "laion_64", "laion_64_512"):
        monkeypatch.setattr("sys.argv", ["registry", "show", "paper", run])
        registry.main()
        assert "not on the paper's data" in capsys.readouterr().out
