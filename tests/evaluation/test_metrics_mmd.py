"""KID and CMMD against the libraries, written-out sums, and the spread of repeated draws."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from evaluation.metrics.cmmd import cmmd
from evaluation.metrics.kid import kid, polynomial, subset_mmd, subset_rows
from evaluation.metrics.mmd import kernel_sums
from gigagan.errors import UserError


def sample(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(n, d)).astype(np.float32)


def units(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = sample(n, d, seed, shift)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# KID -----------------------------------------------------------------------------------------------------------------


def test_kid_equals_torchmetrics_on_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    class Given(torch.nn.Identity):
        num_features = 12

    features, reference = sample(90, 12, 0, 0.3), sample(120, 12, 1)
    theirs = KernelInceptionDistance(Given(), subsets=7, subset_size=40)
    theirs.update(torch.from_numpy(features).double(), real=False)
    theirs.update(torch.from_numpy(reference).double(), real=True)
    # It draws for the real images first, with a permutation each.
    drawn = iter(rows for own, other in subset_rows(features, reference, 7, 40, seed=3) for rows in (other, own))
    monkeypatch.setattr(torch, "randperm", lambda n: torch.from_numpy(next(drawn)))
    mean, _ = theirs.compute()
    assert kid(features, reference, subsets=7, size=40, seed=3).value == pytest.approx(float(mean), rel=1e-9)


def test_kid_equals_clean_fid_where_a_subset_is_the_whole_set() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    features, reference = sample(50, 12, 0, 0.3).astype(np.float64), sample(50, 12, 1).astype(np.float64)
    theirs = fid.kernel_distance(features, reference, num_subsets=1, max_subset_size=50)
    for size in (50, None):
        assert kid(features, reference, subsets=1, size=size).value == pytest.approx(theirs, rel=1e-9)


def test_the_unbiased_estimate_is_its_written_out_sum() -> None:
    x, y = sample(6, 3, 0, 0.5).astype(np.float64), sample(4, 3, 1).astype(np.float64)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 3 + 1) ** 3

    within = sum(k(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30
    within += sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 24
    assert subset_mmd(x, y) == pytest.approx(within - 2 * between, rel=1e-12)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_sums_do_not_depend_on_the_size_of_blocks(block: int) -> None:
    x, y = sample(20, 5, 0), sample(33, 5, 1)
    whole, parts = (kernel_sums(x, y, polynomial(5), size) for size in (2048, block))
    for name in ("xx", "xy", "yx", "yy", "x", "y"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)


def test_memory_is_that_of_some_blocks() -> None:
    x, y = sample(2000, 4, 0), sample(2000, 4, 1)  # all pairs would take 32 MB
    tracemalloc.start()
    kernel_sums(x, y, polynomial(4), block=128)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    values = [kid(sample(60, 4, 2 * i), sample(60, 4, 2 * i + 1), size=None).value for i in range(60)]
    assert min(values) < 0  # unbiased, so not bounded by zero
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)


@pytest.mark.parametrize("size", [40, None])
def test_kid_s_interval_covers_what_is_expected_of_it(size: int | None) -> None:
    truth = np.mean([kid(sample(400, 4, i, 0.6), sample(400, 4, 1000 + i), size=None).value for i in range(40)])
    scores = [kid(sample(120, 4, i, 0.6), sample(160, 4, 500 + i), subsets=20, size=size) for i in range(80)]
    assert np.mean([score.low < truth < score.high for score in scores]) > 0.87


def test_kid_does_not_depend_on_the_order_of_images_and_repeats() -> None:
    features, reference = sample(50, 6, 0, 0.2), sample(60, 6, 1)
    score = kid(features, reference, subsets=5, size=20)
    assert kid(features, reference, subsets=5, size=20) == score
    np.testing.assert_allclose(kid(features[::-1], reference[::-1], subsets=5, size=20), score, rtol=1e-9)
    assert kid(features, reference, subsets=5, size=20, seed=1).value != score.value


def test_kid_of_few_images_draws_smaller_subsets_as_clean_fid_does() -> None:
    with pytest.raises(UserError, match="subsets of 1 images have no distances"):
        kid(sample(50, 2, 0), sample(2000, 2, 1), size=1)
    few = sample(50, 2, 0), sample(2000, 2, 1)
    assert kid(*few) == kid(*few, size=50)
    assert kid(sample(50, 2, 0), sample(60, 2, 1), subsets=3, size=50).low is None  # all images in every subset


# CMMD ----------------------------------------------------------------------------------------------------------------


def test_cmmd_is_the_authors_formula() -> None:
    x, y = units(30, 16, 0, 0.2), units(40, 16, 1)

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        apart = a[:, None].astype(np.float64) - b[None]
        return float(np.exp(-np.square(apart).sum(-1) / (2 * 10**2)).mean())

    wanted = 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))
    assert cmmd(x, y).value == pytest.approx(wanted, rel=1e-9)
    assert cmmd(x, y).n == 30


def test_cmmd_of_equal_sets_is_zero_and_of_far_ones_is_large() -> None:
    x = units(30, 16, 0)
    assert cmmd(x, x).value == pytest.approx(0, abs=1e-9)
    opposite = cmmd(np.tile(x[:1], (5, 1)), np.tile(-x[:1], (7, 1)))
    assert opposite.value == pytest.approx(2000 * (1 - np.exp(-4 / 200)), rel=1e-6)


def test_cmmd_s_interval_covers_what_is_expected_of_it() -> None:
    truth = np.mean([cmmd(units(150, 6, i, 0.6), units(150, 6, 1000 + i)).value for i in range(60)])
    scores = [cmmd(units(150, 6, 2000 + i, 0.6), units(150, 6, 3000 + i)) for i in range(80)]
    assert np.mean([score.low < truth < score.high for score in scores]) > 0.87


def test_cmmd_wants_unit_norms() -> None:
    x = units(5, 4, 0)
    y = x.copy()
    y[3] *= 2
    with pytest.raises(UserError, match="row 3 of the reference has the norm 2"):
        cmmd(x, y)
