from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from evaluation import stats


def test_interval_is_the_t_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    low, high = reference.t.interval(0.95, 3, np.mean(values), reference.sem(values))
    got = stats.mean(values)
    assert (got.value, got.n) == (3.75, 4)
    assert (got.low, got.high) == pytest.approx((low, high))


@pytest.mark.parametrize("values", [[3.0], [3.0, float("nan")]])
def test_no_interval_from_one_seed_or_a_diverged_one(values: list[float]) -> None:
    got = stats.mean(values)
    assert got.low is None
    assert got.high is None


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    inside = [m.low < 0 < m.high for m in map(stats.mean, draws)]  # type: ignore[operator]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_sign_flip_equals_scipys_exact_permutation_test() -> None:
    d = np.random.default_rng(1).normal(0.5, 1, size=9)
    expected = reference.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip_p(d) == pytest.approx(expected.pvalue)


def test_sign_flip_smallest_p_depends_on_n_alone() -> None:
    assert [stats.sign_flip_p([1.0] * n) for n in (1, 2, 5, 8)] == [1, 0.5, 2 / 32, 2 / 256]


def test_sign_flip_counts_ties_despite_rounding() -> None:
    tenths = (1, 2, 3, 1, 2, -3)  # 0.1 + 0.2 is not 0.3: flips with the same sum differ in the last bit
    sums = [abs(np.dot(signs, tenths)) for signs in itertools.product((-1, 1), repeat=6)]
    assert stats.sign_flip_p(np.array(tenths) / 10) == np.mean(np.array(sums) >= sum(tenths))
    assert stats.sign_flip_p([0.0, 0.0]) == 1


def test_sign_flip_beyond_the_exact_range_agrees_with_it() -> None:
    d = np.random.default_rng(2).normal(0.4, 1, size=14)
    assert stats.sign_flip_p(d, exact_up_to=4) == pytest.approx(stats.sign_flip_p(d), abs=0.005)
    assert stats.sign_flip_p(d, exact_up_to=4) == stats.sign_flip_p(d, exact_up_to=4)


def test_a_diverged_run_is_never_significant() -> None:
    assert stats.sign_flip_p([float("nan"), 5.0, 5.0]) == 1


def test_differences_are_paired_by_seed() -> None:
    full = {0: 10.0, 1: 20.0, 2: 30.0, 7: 99.0}
    got = stats.paired({0: 11.0, 1: 21.0, 2: 31.0, 8: 0.0}, full)
    assert got is not None
    assert (got.value, got.low, got.high, got.n) == (1.0, 1.0, 1.0, 3)
    assert stats.paired({5: 1.0}, full) is None


def test_holm() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1, 1]
    assert stats.holm([]) == []


def test_seeds_needed_is_where_the_test_can_first_succeed() -> None:
    n = stats.seeds_needed(4)
    assert n == 8
    assert max(stats.holm([stats.sign_flip_p([1.0] * n)] * 4)) < stats.ALPHA
    assert min(stats.holm([stats.sign_flip_p([1.0] * (n - 1))] * 4)) >= stats.ALPHA
