from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

from evaluation import regression
from evaluation.records import Row
from evaluation.regression import Expected, judge, update, verdict
from gigagan import files
from gigagan.errors import UserError

MEANS = {"fd": 40.0, "clip_score": 0.6, "background_color_accuracy": 0.9, "shape_accuracy": 0.5}


@pytest.fixture
def run(make_row):
    """Rows of two variants for some seeds. ``factors`` scales metrics; other fields go to every row."""

    def rows(seeds, factors: dict[str, float] | None = None, **fields) -> list[Row]:
        out = []
        for variant in ("gigagan", "no_attention"):
            for seed in seeds:
                noise = np.random.default_rng([seed, len(variant)]).normal(size=len(MEANS))
                for (metric, mean), z in zip(MEANS.items(), noise, strict=True):
                    value = mean * (factors or {}).get(metric, 1) * (1 + 0.015 * z)
                    out.append(
                        make_row(suite="smoke", variant=variant, seed=seed, metric=metric, value=value, **fields)
                    )
        return out

    return rows


@pytest.fixture
def expected(run) -> Expected:
    filled = Expected("smoke", [])
    update(filled, run(range(20)))
    return filled


def statuses(expected: Expected, rows: list[Row]) -> dict[tuple[str, str], str]:
    return {(c.variant, c.metric): c.status for c in judge(expected, rows)}


def test_fresh_seeds_of_the_same_code_pass(expected, run) -> None:
    alarms = [set(statuses(expected, run([s, s + 1])).values()) != {"ok"} for s in range(100, 300, 2)]
    assert np.mean(alarms) <= regression.MAX_FALSE_ALARMS


def test_a_broken_metric_fails_and_only_that(expected, run) -> None:
    got = statuses(expected, run([200, 201], {"shape_accuracy": 0.7}))
    assert {key for key, status in got.items() if status == "REGRESSION"} == {
        ("gigagan", "shape_accuracy"), ("no_attention", "shape_accuracy")
    }  # fmt: skip
    assert set(statuses(expected, run([200, 201], {"fd": 1.5})).values()) == {"ok", "REGRESSION"}


def test_an_improvement_never_fails(expected, run) -> None:
    factors = {"fd": 0.2, "clip_score": 1.5, "background_color_accuracy": 1.1, "shape_accuracy": 1.9}
    assert set(statuses(expected, run([200, 201], factors)).values()) == {"ok"}


def test_worse_beyond_chance_but_within_the_effect_passes(expected, run) -> None:
    checks = [c for c in judge(expected, run([200, 201, 202, 203], {"fd": 1.13})) if c.metric == "fd"]
    assert all(c.p is not None and c.p < expected.family_alpha and c.status == "ok" for c in checks)


def test_worse_beyond_the_effect_but_within_chance_passes(expected, run) -> None:
    for stored in expected.stored:
        spread = np.random.default_rng(0).normal(size=len(stored.values))
        if stored.metric == "shape_accuracy":
            stored.values = {seed: 0.5 + 0.2 * z for seed, z in zip(stored.values, spread, strict=True)}
    checks = [c for c in judge(expected, run([200, 201], {"shape_accuracy": 0.7})) if c.metric == "shape_accuracy"]
    assert all(c.difference is not None and c.difference < -0.05 and c.status == "ok" for c in checks)


def test_p_is_the_predictive_t_test() -> None:
    rng = np.random.default_rng(0)
    stored, fresh = rng.normal(10, 1, 20), np.array([12.0, 13.0])
    t = (fresh.mean() - stored.mean()) / (stored.std(ddof=1) * np.sqrt(1 / 2 + 1 / 20))
    assert regression.p_worse(fresh, stored, False, False) == pytest.approx(reference.t.sf(t, 19))
    assert regression.p_worse(fresh, stored, True, False) == pytest.approx(reference.t.cdf(t, 19))
    logs = regression.p_worse(np.log(fresh), np.log(stored), False, False)
    assert regression.p_worse(fresh, stored, False, True) == pytest.approx(logs)


def test_p_is_uniform_when_nothing_changed() -> None:
    draws = np.random.default_rng(0).normal(size=(22, 20_000))
    p = regression.p_worse(draws[:2], draws[2:], False, False)
    assert [np.mean(p < level) for level in (0.5, 0.05, 0.005)] == pytest.approx([0.5, 0.05, 0.005], rel=0.15)


def test_metrics_without_spread() -> None:
    same = np.full(20, 0.5)
    assert regression.p_worse(np.array([0.5, 0.5]), same, True, False) == 0.5
    assert regression.p_worse(np.array([0.4, 0.4]), same, True, False) == 0
    assert regression.p_worse(np.array([0.6, 0.6]), same, True, False) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol_sha": "eeeeeeeeeeee"}, "the protocol changed"),
        ({"recipe_sha": "eeeeeeeeeeee"}, "the recipe changed"),
        ({"kimg": 1.0}, "the number of training images changed"),
        ({"protocol": "scenes@1"}, "missing from the fresh rows"),
    ],
)
def test_what_cannot_be_compared_fails_and_says_what_to_do(expected, run, change: dict, words: str) -> None:
    checks = judge(expected, run([200, 201], **change))
    assert all(check.status == "FAILED" and "--update" in check.reason for check in checks)
    assert words in verdict(expected, checks)


def test_missing_and_new_metrics_and_variants_fail(expected, run) -> None:
    rows = [r for r in run([200, 201]) if r["variant"] == "gigagan" and r["metric"] != "fd"]
    got = statuses(expected, rows)
    assert got["gigagan", "fd"] == got["no_attention", "clip_score"] == "FAILED"
    assert got["gigagan", "clip_score"] == "ok"
    more = run([200, 201]) + [r | {"variant": "no_ms_io"} for r in rows]
    assert statuses(expected, more)["no_ms_io", "clip_score"] == "FAILED"


def test_one_diverged_seed_fails(expected, run) -> None:
    rows = run([200, 201])
    rows[0]["value"] = float("nan")
    checks = judge(expected, rows)
    assert [c.reason for c in checks if c.status != "ok"] == ["1 of 2 fresh values not finite: did the run diverge?"]
    json.dumps([vars(c) for c in checks], allow_nan=False)


def test_too_few_seeds_fail(expected, run) -> None:
    assert set(statuses(expected, run([200])).values()) == {"FAILED"}
    for stored in expected.stored:
        stored.values = {s: v for s, v in stored.values.items() if s < 19}
    assert "only 19 stored seeds" in verdict(expected, judge(expected, run([200, 201])))


def test_references_and_speed_are_not_gated(expected, run, make_row) -> None:
    more = [make_row(suite="smoke", variant="untrained", value=600.0),
            make_row(suite="smoke", metric="latency_ms", value=1e9, protocol="speed@1")]  # fmt: skip
    assert set(statuses(expected, run([200, 201]) + more).values()) == {"ok"}


def test_update_adds_to_the_same_recipe_and_starts_anew_otherwise(expected, run) -> None:
    assert update(expected, run([20, 21])) == ["22 seeds stored: all 8 metrics"]
    assert "seeds 20, 21 replaced: all 8 metrics" in update(expected, run([20, 21], torch="2.12.0"))
    entry = expected.stored[0]
    assert len(entry.values) == 22
    assert [(p["torch"], len(p["seeds"])) for p in entry.provenance] == [("2.11.0", 20), ("2.12.0", 2)]
    said = update(expected, run([0, 1], recipe_sha="eeeeeeeeeeee"))
    assert "started anew, as the recipe changed: all 8 metrics" in said
    assert all(len(stored.values) == 2 for stored in expected.stored)
    said = update(expected, [r for r in run([2], recipe_sha="eeeeeeeeeeee") if r["variant"] == "gigagan"])
    assert any(line.startswith("dropped, as the suite no longer has it: no_attention") for line in said)


def test_what_could_not_fail_is_not_gated(run) -> None:
    """A score of 3 % cannot fall by 5 points."""
    filled = Expected("smoke", [])
    said = update(filled, run(range(20), {"shape_accuracy": 0.06}))
    assert "not gated, as it cannot get worse by its effect: shape_accuracy" in said
    assert "shape_accuracy" not in {stored.metric for stored in filled.stored} | filled.effects.keys()
    assert {check.metric for check in judge(filled, run([200, 201]))} == MEANS.keys() - {"shape_accuracy"}


def test_update_refuses_what_must_not_be_stored(expected, run) -> None:
    with pytest.raises(UserError, match="uncommitted changes"):
        update(expected, run([30], git_dirty=True))
    with pytest.raises(UserError, match="only finite"):
        update(expected, run([30], {"fd": float("nan")}))
    with pytest.raises(UserError, match="differ in recipe_sha"):
        update(expected, run([30]) + run([31], recipe_sha="eeeeeeeeeeee"))
    with pytest.raises(UserError, match="nothing to store"):
        update(expected, [])


def test_false_alarms_are_rare_and_counted(expected) -> None:
    assert regression.false_alarms(expected, k=2, rounds=2000) <= regression.MAX_FALSE_ALARMS
    expected.family_alpha = 0.9
    expected.effects = {name: {"absolute": 1e-9} for name in expected.effects}
    assert regression.false_alarms(expected, k=2, rounds=200) > 0.5
    expected.stored[0].values.popitem()
    with pytest.raises(UserError, match="only 19 stored seeds"):
        regression.false_alarms(expected, k=2)


def test_command(run, tmp_path: Path, monkeypatch, capsys) -> None:
    stored, out = tmp_path / "expected.json", tmp_path / "gate.json"

    def gate(rows: list[Row], *arguments: str) -> int:
        files.write_jsonl(tmp_path / "metrics.jsonl", rows)
        common = ["--suite", "smoke", "--records", str(tmp_path / "metrics.jsonl"), "--expected", str(stored)]
        monkeypatch.setattr("sys.argv", ["regression", *common, "--out", str(out), *arguments])
        try:
            regression.main()
        except UserError:
            raise
        except SystemExit as e:
            return int(e.code or 0)
        return 0

    with pytest.raises(UserError, match="make them with --update"):
        gate(run([200, 201]))
    assert gate(run(range(20)), "--update") == 0
    assert regression.load(stored).stored[0].values.keys() == set(range(20))
    assert gate(run([200, 201])) == 0
    assert json.loads(out.read_text())["passed"] is True
    capsys.readouterr()
    assert gate(run([200, 201], {"fd": 2.0})) == 1
    printed, content = capsys.readouterr().out, json.loads(out.read_text())
    assert printed.count("REGRESSION") == 4
    assert content["passed"] is False
    assert content["verdict"] in printed
    lines = printed.splitlines()
    assert len({line.index("scenes@2") for line in lines[1:9]}) == 1  # aligned
    monkeypatch.setattr("sys.argv", ["regression", "--self-test", "--expected", str(stored)])
    with pytest.raises(SystemExit) as e:
        regression.main()
    assert e.value.code == 0
    assert capsys.readouterr().out.count("ok") == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"passed": true}', '{"passed": "no", "verdict": ""}', "\0"])
def test_a_damaged_verdict_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "gate.json").write_text(content)
    monkeypatch.setattr("sys.argv", ["regression", "--verdict", str(tmp_path / "gate.json")])
    with pytest.raises(UserError, match=r"gate\.json is no verdict of the gate: make it again"):
        regression.main()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"stored": [{"variant": "a"}]}', '{"suite": "s", "stored": [], "effects": {"fd": {"x": 1}}}']
)
def test_a_broken_expected_file_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "expected.json").write_text(content)
    with pytest.raises(UserError, match="no file of stored seeds"):
        regression.load(tmp_path / "expected.json")
