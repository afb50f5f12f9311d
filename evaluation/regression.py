"""The gate: do fresh seeds score worse than stored ones, by more than chance *and* by more than a stated effect?

    python -m evaluation.regression --suite smoke --records results/smoke/metrics.jsonl \\
        --expected evaluation/expected/smoke.json --out results/smoke/gate.json [--update]
    python -m evaluation.regression --self-test --expected evaluation/expected/smoke.json

Chance: the mean of k fresh seeds is compared with what n stored ones predict, ``t = (mean_fresh - mean_stored) /
(sd_stored sqrt(1/k + 1/n))`` with n - 1 degrees of freedom, one-sided, Holm-corrected over all gated metrics of all
variants to a family-wise level of 0.5 %. Metrics whose effect is stated as a ratio (FD) are compared as logarithms.
The stored seeds alone give the spread, so that two fresh seeds suffice.

An improvement never fails; a missing or non-finite value, another protocol or another recipe always does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr  # distribution function of Student's t

from evaluation import records
from evaluation.records import METRICS, REFERENCES, Row, describe
from evaluation.stats import holm
from evaluation.summary import of_suite
from gigagan import files
from gigagan.errors import UserError, command

FAMILY_ALPHA = 0.005
MIN_STORED, MIN_FRESH = 20, 2
MAX_FALSE_ALARMS = 0.01

EFFECTS: dict[str, dict[str, float]] = {
    "fd": {"relative": 0.15},
    "clip_score": {"absolute": 0.02},
    **{name: {"absolute": 0.05} for name in METRICS if name.endswith("_accuracy")},
}
"""What a new expected file is given: the least change for the worse that matters. From then on the file decides."""


@dataclass
class Stored:
    """The values of one metric of one variant, by training seed, and where they came from."""

    variant: str
    metric: str
    protocol: str
    protocol_sha: str
    recipe_sha: str | None
    kimg: float | None
    values: dict[int, float] = field(default_factory=dict)
    provenance: list[dict[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.variant, self.metric, self.protocol


@dataclass
class Expected:
    suite: str
    stored: list[Stored]
    effects: dict[str, dict[str, float]] = field(default_factory=lambda: dict(EFFECTS))
    family_alpha: float = FAMILY_ALPHA


@dataclass
class Check:
    """The verdict on one metric of one variant. ``difference`` is relative where the effect is; p is Holm-corrected."""

    variant: str
    metric: str
    protocol: str
    effect: dict[str, float]
    status: Literal["ok", "REGRESSION", "FAILED"] = "ok"
    reason: str = ""
    fresh: list[float | None] = field(default_factory=list)  # None: not finite
    fresh_mean: float | None = None
    stored_mean: float | None = None
    stored_sd: float | None = None
    n_stored: int = 0
    difference: float | None = None
    p: float | None = None


# ----------------------------------------------------------------------------------------------- the expected file


def load(path: str | Path) -> Expected:
    """Raises UserError for a file that is missing or not an expected file."""
    if not Path(path).is_file():
        raise UserError(f"no stored seeds at {path}: make them with --update")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        stored = [Stored(**entry) for entry in content["stored"]]
        for entry in stored:
            entry.values = {int(seed): float(value) for seed, value in entry.values.items()}
        for effect in content["effects"].values():
            ((kind, size),) = effect.items()
            if kind not in ("relative", "absolute") or not size > 0:
                raise ValueError(f"effect {effect}")
        return Expected(content["suite"], stored, content["effects"], float(content["family_alpha"]))
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise UserError(f"{path} is no file of stored seeds ({e}): restore it, or delete it and use --update") from None


def save(path: str | Path, expected: Expected) -> None:
    expected.stored.sort(key=lambda s: s.key)
    for stored in expected.stored:
        stored.values = dict(sorted(stored.values.items()))
    files.write_json(path, asdict(expected))


def update(expected: Expected, rows: list[Row]) -> list[str]:
    """Add fresh seeds to the stored ones, in place; return what was done, in words.

    Values of another protocol, recipe or budget are replaced, not mixed; what the fresh rows do not have is dropped.
    A score below its effect in every variant could not get worse by that much, so it is not gated.

    Raises:
        UserError: no row to store, a row from a tree with uncommitted changes, or a value that is not finite.
    """
    fresh = _gated(rows, expected.effects)
    if not fresh:
        raise UserError(
            f"no row of a trained variant and a gated metric ({', '.join(expected.effects)}): nothing to store"
        )
    for found in fresh.values():
        for row in found:
            if row["git_dirty"] is not False:
                raise UserError(
                    f"{describe(row)} is from a tree with uncommitted changes: commit, rerun, then --update"
                )
            if not math.isfinite(row["value"]):
                raise UserError(f"{describe(row)} is {row['value']}: only finite values are stored")
    said: dict[str, list[str]] = defaultdict(list)
    old = {stored.key: stored for stored in expected.stored}
    expected.stored = []
    for key, found in sorted(fresh.items()):
        origin = _origin(found)
        new, before = Stored(*key, **origin), old.pop(key, None)
        name = f"{key[0]} {key[1]} ({key[2]})"
        if before and (changed := _changed(before, origin)):
            said[f"started anew, as {' and '.join(changed)} changed"].append(name)
        elif before:
            new = before
            if again := sorted(before.values.keys() & {row["seed"] for row in found}):
                said[f"seeds {', '.join(map(str, again))} replaced"].append(name)
        else:
            said["new"].append(name)
        new.values |= {row["seed"]: row["value"] for row in found}
        _remember(new, found)
        said[f"{len(new.values)} seeds stored"].append(name)
        expected.stored.append(new)
    said["dropped, as the suite no longer has it"] += [f"{v} {m} ({p})" for v, m, p in old]
    able = {stored.metric for stored in expected.stored if _can_fail(stored, expected)}
    for metric in sorted({stored.metric for stored in expected.stored} - able):
        del expected.effects[metric]
        expected.stored = [stored for stored in expected.stored if stored.metric != metric]
        said["not gated, as it cannot get worse by its effect"].append(metric)
    every = [f"{s.variant} {s.metric} ({s.protocol})" for s in expected.stored]
    all_of_them = f"all {len(every)} metrics"
    return [f"{what}: {all_of_them if names == every else ', '.join(names)}" for what, names in said.items() if names]


def _can_fail(stored: Stored, expected: Expected) -> bool:
    """Scores that are better when higher do not fall below 0."""
    mean = sum(stored.values.values()) / len(stored.values)
    return not METRICS[stored.metric].higher_is_better or mean > expected.effects[stored.metric].get("absolute", 0.0)


def _remember(stored: Stored, found: list[Row]) -> None:
    """Note where the fresh seeds came from; a seed that was run again is only listed with its latest origin."""
    seeds = {row["seed"] for row in found}
    for entry in stored.provenance:
        entry["seeds"] = sorted(set(entry["seeds"]) - seeds)
    entries = {json.dumps({k: v for k, v in e.items() if k != "seeds"}): e["seeds"] for e in stored.provenance}
    for row in found:
        about = {name: row[name] for name in ("git_sha", "torch", "device", "dtype", "threads")}
        entries.setdefault(json.dumps(about | {"date": row["started"][:10]}), []).append(row["seed"])
    stored.provenance = [json.loads(about) | {"seeds": sorted(s)} for about, s in entries.items() if s]


def _gated(rows: list[Row], effects: dict[str, Any]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by (variant, metric, protocol), of trained variants and metrics with a stated effect only."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["seed"] is not None, row["seed"] or 0)):
        if row["metric"] in effects and row["variant"] not in REFERENCES:
            found[row["variant"], row["metric"], row["protocol"]].append(row)
    return found


def _origin(found: list[Row]) -> dict[str, Any]:
    """What all rows of one metric must share. Raises UserError where they do not, or where a seed occurs twice."""
    names = ("protocol_sha", "recipe_sha", "kimg")
    for name in names:
        if len({row[name] for row in found}) > 1:
            raise UserError(f"the seeds of {describe(found[0])} differ in {name}: run the whole suite again")
    seeds = [row["seed"] for row in found]
    if None in seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{describe(found[0])}: each row needs a training seed of its own, not {seeds}")
    return {name: found[0][name] for name in names}


def _changed(stored: Stored, origin: dict[str, Any]) -> list[str]:
    names = {"protocol_sha": "the protocol", "recipe_sha": "the recipe", "kimg": "the number of training images"}
    return [word for name, word in names.items() if getattr(stored, name) != origin[name]]


# ----------------------------------------------------------------------------------------------------- the decision


def p_worse(fresh: np.ndarray, stored: np.ndarray, higher: np.ndarray | bool, ratio: np.ndarray | bool) -> np.ndarray:
    """One-sided p-values that the fresh seeds are as bad by chance (see the module's formula).

    Args:
        fresh: [k, M] (or [k]) values of M metrics.
        stored: [n, M] (or [n]).
        higher: [M], whether a higher value is better.
        ratio: [M], whether to compare logarithms.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # logarithms of metrics that are not compared as ratios
        fresh, stored = (np.where(ratio, np.log(x), x) for x in (fresh, stored))
        k, n = len(fresh), len(stored)
        worse = np.where(higher, -1, 1) * (fresh.mean(0) - stored.mean(0))
        t = worse / (stored.std(0, ddof=1) * math.sqrt(1 / k + 1 / n))
    # Without any spread each change for the worse is beyond chance, and no change is not.
    t = np.where(np.isnan(t), 0.0, t)
    return stdtr(n - 1, -t)


def worse_by(fresh: np.ndarray, stored: np.ndarray, higher: np.ndarray | bool, ratio: np.ndarray | bool) -> np.ndarray:
    """How much worse the mean of the fresh seeds is, [M]: a share of the stored mean for ratios; negative = better."""
    difference = np.where(higher, -1, 1) * (fresh.mean(0) - stored.mean(0))
    return np.where(ratio, difference / np.abs(stored.mean(0)), difference)


def judge(expected: Expected, rows: list[Row]) -> list[Check]:
    """Compare fresh rows with stored ones. Every gated metric gets a check, whether it is there or not."""
    fresh, stored = _gated(rows, expected.effects), {s.key: s for s in expected.stored}
    checks, tested = [], []
    for key in sorted(fresh.keys() | stored.keys()):
        check = Check(*key, effect=expected.effects.get(key[1], {}))
        check.reason = _obstacle(fresh.get(key, []), stored.get(key), check)
        check.status = "FAILED" if check.reason else "ok"
        checks.append(check)
        if key in fresh:
            scored = np.array([row["value"] for row in fresh[key]])
            check.fresh = [float(v) if math.isfinite(v) else None for v in scored]
            check.fresh_mean = float(scored.mean()) if np.isfinite(scored).all() else None
        if key in stored:
            values = np.array(list(stored[key].values.values()))
            check.stored_mean, check.n_stored = float(values.mean()), len(values)
            check.stored_sd = float(values.std(ddof=1)) if len(values) > 1 else None
        if not check.reason:
            how = (METRICS[check.metric].higher_is_better is True, "relative" in check.effect)
            check.p = float(p_worse(scored, values, *how))
            worse = float(worse_by(scored, values, *how))
            check.difference = -worse if how[0] else worse
            tested.append((check, worse))
    for (check, worse), p in zip(tested, holm([check.p for check, _ in tested]), strict=True):
        check.p = p
        if p < expected.family_alpha and worse > next(iter(check.effect.values())):
            check.status = "REGRESSION"
            chance = f"p={_p(p)} < {expected.family_alpha:g}"
            check.reason = f"worse by more than chance ({chance}) and by more than {_effect(check)}"
    return checks


def _obstacle(fresh: list[Row], stored: Stored | None, check: Check) -> str:
    """Why a metric cannot be compared at all, and what to do; empty if it can."""
    rerun = "if that is meant, store fresh seeds with --update"
    if not stored:
        return f"no stored seeds: {rerun}"
    if not check.effect:
        return f"the expected file states no effect for {check.metric}: add one under 'effects'"
    if not fresh:
        return f"missing from the fresh rows: run the whole suite; {rerun}"
    try:
        changed = _changed(stored, _origin(fresh))
    except UserError as e:
        return e.message
    if changed:
        return f"{' and '.join(changed)} changed, so the stored seeds say nothing: {rerun}"
    if len(fresh) < MIN_FRESH:
        return f"{len(fresh)} fresh seed: at least {MIN_FRESH} are needed"
    if len(stored.values) < MIN_STORED:
        return f"only {len(stored.values)} stored seeds: run more seeds and --update, until there are {MIN_STORED}"
    bad = [row["value"] for row in fresh if not math.isfinite(row["value"])]
    if bad:
        return f"{len(bad)} of {len(fresh)} fresh values not finite: did the run diverge?"
    values = [row["value"] for row in fresh] + list(stored.values.values())
    if "relative" in check.effect and min(values) <= 0:
        return f"{check.metric} is compared as a ratio, but a value is {min(values):g}: state an absolute effect for it"
    return ""


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _effect(check: Check) -> str:
    if not check.effect:
        return "–"
    ((kind, size),) = check.effect.items()
    sign = "-" if METRICS[check.metric].higher_is_better else "+"
    return f"{sign}{size:.0%}" if kind == "relative" else f"{sign}{size:g}"


def verdict(expected: Expected, checks: list[Check]) -> str:
    """The decision as an aligned table, the reasons of failures below it."""
    table = [("variant", "metric", "protocol", "fresh", "stored", "difference", "p", "fails at", "verdict")]
    for c in checks:
        k = f" (k={len(c.fresh)})" if c.fresh else ""
        sd = f" ± {c.stored_sd:.3g}" if c.stored_sd is not None else ""
        difference = "–" if c.difference is None else f"{c.difference:+.{'1%' if 'relative' in c.effect else '3f'}}"
        fresh = "–" if c.fresh_mean is None else f"{c.fresh_mean:.4g}{k}"
        stored = "–" if c.stored_mean is None else f"{c.stored_mean:.4g}{sd} (n={c.n_stored})"
        p = "–" if c.p is None else _p(c.p)
        table.append((c.variant, c.metric, c.protocol, fresh, stored, difference, p, _effect(c), c.status))
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in table]
    bad = [c for c in checks if c.status != "ok"]
    lines += [f"{c.status}: {c.variant} {c.metric} ({c.protocol}): {c.reason}" for c in bad]
    n, rule = len(checks), f"p < {expected.family_alpha:g} (Holm-corrected) and beyond the stated effect"
    end = f"FAILED: {len(bad)} of {n} metrics" if bad else f"passed: none of {n} metrics is worse with {rule}"
    return "\n".join([*lines, end])


def read_verdict(path: str | Path) -> tuple[bool, str]:
    """Whether a gate.json passed, and its table. Raises UserError for a file that is missing or damaged."""
    try:
        gate = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(gate["passed"], bool) and isinstance(gate["verdict"], str):
            return gate["passed"], gate["verdict"]
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} is no verdict of the gate: make it again with evaluation.regression")


# ------------------------------------------------------------------------------------------------------- the self-test


def false_alarms(expected: Expected, k: int, rounds: int = 10_000, seed: int = 0) -> float:
    """How often k seeds drawn from the stored ones would fail against the others: the gate's rate of false alarms.

    Raises:
        UserError: the metrics share fewer than ``MIN_STORED`` stored seeds.
    """
    if not expected.stored:
        raise UserError("no stored seeds: make them with --update")
    shared = sorted(set.intersection(*(set(s.values) for s in expected.stored)))
    if len(shared) < MIN_STORED:
        raise UserError(f"only {len(shared)} stored seeds that all metrics share: {MIN_STORED} are needed")
    values = np.array([[s.values[seed] for s in expected.stored] for seed in shared])
    effects = [expected.effects[s.metric] for s in expected.stored]
    higher = np.array([METRICS[s.metric].higher_is_better is True for s in expected.stored])
    ratio = np.array(["relative" in e for e in effects])
    least = np.array([next(iter(e.values())) for e in effects])
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(rounds):
        order = rng.permutation(len(values))
        fresh, rest = values[order[:k]], values[order[k:]]
        p = np.array(holm(p_worse(fresh, rest, higher, ratio)))
        alarms += bool(((p < expected.family_alpha) & (worse_by(fresh, rest, higher, ratio) > least)).any())
    return alarms / rounds


def _self_test(expected: Expected) -> bool:
    rounds, right = 10_000, True
    for k in (2, 3, 4):
        rate = false_alarms(expected, k, rounds)
        right &= rate <= MAX_FALSE_ALARMS
        word = "ok" if rate <= MAX_FALSE_ALARMS else "TOO HIGH"
        print(f"k={k}, {rounds:,} resamples: {rate:.2%} false alarms (at most {MAX_FALSE_ALARMS:.0%}) {word}")
    return right


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.regression", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--expected", metavar="FILE", help="evaluation/expected/<suite>.json")
    parser.add_argument("--suite")
    parser.add_argument("--records", nargs="+", metavar="FILE")
    parser.add_argument("--out", metavar="FILE", help="gate.json")
    parser.add_argument("--update", action="store_true", help="add the fresh seeds to the stored ones")
    parser.add_argument("--verdict", metavar="GATE", help="print what a gate.json says; exit 1 on a regression")
    parser.add_argument("--self-test", action="store_true", help="resample the gate's rate of false alarms")
    args = parser.parse_args()

    if args.verdict:
        passed, text = read_verdict(args.verdict)
        print(text)
        sys.exit(0 if passed else 1)
    if not args.expected:
        parser.error("--expected is needed")
    if args.self_test:
        sys.exit(0 if _self_test(load(args.expected)) else 1)
    if not args.suite or not args.records or not (args.out or args.update):
        parser.error("--suite, --records and --out (or --update) are needed")
    rows = of_suite(records.read(args.records), args.suite)
    exists = Path(args.expected).exists()
    expected = Expected(args.suite, []) if args.update and not exists else load(args.expected)
    if expected.suite != args.suite:
        raise UserError(f"{args.expected} holds seeds of suite {expected.suite!r}, not of {args.suite!r}")
    if args.update:
        print("\n".join(update(expected, rows)))
        save(args.expected, expected)
        return
    checks = judge(expected, rows)
    passed, text = all(check.status == "ok" for check in checks), verdict(expected, checks)
    content = {"suite": args.suite, "passed": passed, "family_alpha": expected.family_alpha, "verdict": text}
    files.write_json(args.out, content | {"checks": [asdict(check) for check in checks]})
    print(text)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    command(main)
