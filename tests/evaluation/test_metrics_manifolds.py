"""Precision, recall, density and coverage against distances written out, and on clouds whose answer is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from evaluation.metrics import neighbours
from evaluation.metrics.density_coverage import density_coverage
from evaluation.metrics.neighbours import distinct, inside, squared_radii
from evaluation.metrics.precision_recall import precision_recall
from gigagan.errors import UserError


def sample(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, size=(n, d)).astype(np.float32)


def four(features: np.ndarray, reference: np.ndarray, k: int) -> list[float]:
    found = {**precision_recall(features, reference, k), **density_coverage(features, reference, k)}
    return [found[name].value for name in ("precision", "recall", "density", "coverage")]


def written_out(features: np.ndarray, reference: np.ndarray, k: int) -> list[float]:
    """The definitions, loop by loop, on float64 differences."""

    def squared(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.square(a.astype(np.float64) - b).sum())

    def radius(i: int, points: np.ndarray) -> float:
        return sorted(squared(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real = [radius(i, reference) for i in range(len(reference))]
    fake = [radius(j, features) for j in range(len(features))]
    apart = [[squared(x, y) for y in features] for x in reference]
    n, m = range(len(features)), range(len(reference))
    precision = sum(any(apart[i][j] <= real[i] for i in m) for j in n) / len(n)
    recall = sum(any(apart[i][j] <= fake[j] for j in n) for i in m) / len(m)
    density = sum(apart[i][j] < real[i] for i in m for j in n) / (k * len(n))
    coverage = sum(min(apart[i]) < real[i] for i in m) / len(m)
    return [precision, recall, density, coverage]


CLOUDS = {
    "normal": (sample(60, 20, 0), sample(70, 20, 1)),
    "of another size": (sample(60, 5, 0, 0.7), sample(50, 5, 1)),
    "on a grid, full of ties": (np.round(sample(60, 2, 0)) + 100, np.round(sample(70, 2, 1)) + 100),
    "sharing images": (np.concatenate([sample(30, 4, 0), sample(20, 4, 1)]), sample(40, 4, 1)),
    "of duplicates": (np.repeat(sample(12, 3, 0), 5, axis=0), np.repeat(sample(20, 3, 1), 3, axis=0)),
    "far from the origin": (sample(50, 6, 0) + 4000, sample(60, 6, 1) + 4000),
    "four tight modes": tuple(
        sample(4, 8, 0)[np.arange(n) % 4] + sample(n, 8, seed, 1e-5) for n, seed in ((60, 1), (80, 2))
    ),
}


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_all_four_equal_their_definitions_exactly(cloud: str, k: int) -> None:
    features, reference = CLOUDS[cloud]
    assert four(features, reference, k) == pytest.approx(written_out(features, reference, k), rel=1e-12)


def test_where_float32_decides_too_little_float64_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", -3)  # no open question a row is few enough
    features, reference = CLOUDS["four tight modes"]
    assert four(features, reference, 3) == pytest.approx(written_out(features, reference, 3), rel=1e-12)


@pytest.mark.parametrize("values", [1, 500, 2**24])
def test_nothing_depends_on_the_size_of_blocks(values: int) -> None:
    points, others = distinct(CLOUDS["on a grid, full of ties"][0]), distinct(CLOUDS["on a grid, full of ties"][1])
    radii = squared_radii(points, 3)
    assert (squared_radii(points, 3, values) == radii).all()
    whole, parts = (inside(others, points, radii, closed=True, values=size) for size in (2**24, values))
    assert (whole.balls == parts.balls).all()
    assert (whole.holds == parts.holds).all()


def test_memory_is_that_of_some_blocks() -> None:
    points, others = distinct(sample(3000, 4, 0)), distinct(sample(3000, 4, 1))  # all pairs would take 36 MB
    tracemalloc.start()
    inside(others, points, squared_radii(points, 3, values=2**16), closed=True, values=2**16)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_a_collapsed_cloud_has_high_precision_and_low_recall() -> None:
    reference = sample(400, 8, 0)
    collapsed = reference[0] + sample(400, 8, 1, 0.01)
    precision, recall, density, coverage = four(collapsed, reference, 3)
    assert precision == 1
    assert recall < 0.02
    assert density > 0.2
    assert coverage < 0.1


def test_a_cloud_too_wide_has_low_precision_and_high_recall() -> None:
    precision, recall, density, coverage = four(sample(400, 4, 1, 3.0), sample(400, 4, 0), 3)
    assert precision < 0.35
    assert recall > 0.9
    assert density < 0.35
    assert coverage < 0.7


def test_an_outlier_among_the_images_raises_recall_but_no_density() -> None:
    reference, images = sample(100, 2, 0), sample(100, 2, 1, 0.1)
    with_outliers = np.concatenate([images, np.float32([[9, 9], [9, -9], [-9, 9], [-9, -9]])])
    assert four(with_outliers, reference, 3)[1] > 0.95 > 0.5 > four(images, reference, 3)[1]
    assert four(with_outliers, reference, 3)[2] <= four(images, reference, 3)[2]


def test_one_distribution_has_density_one_and_the_expected_coverage() -> None:
    found = density_coverage(sample(1500, 3, 0), sample(1500, 3, 1), k=5)
    assert found["density"].low < 1 < found["density"].high
    assert found["coverage"].low < 1 - 2**-5 < found["coverage"].high


def test_a_set_against_itself() -> None:
    x = sample(80, 5, 0)
    assert four(x, x, 3) == [1, 1, 1, 1]  # open balls around k + 1 images hold k of them, the centre included


def test_all_images_alike() -> None:
    same = np.ones((9, 4), np.float32)
    assert four(same, same, 3) == [1, 1, 0, 0]  # balls of radius 0: closed ones hold their centre, open ones nothing
    assert four(same, same + 1, 3) == [0, 0, 0, 0]


def test_order_changes_nothing() -> None:
    features, reference = CLOUDS["on a grid, full of ties"]
    rng = np.random.default_rng(0)
    shuffled = precision_recall(rng.permutation(features), rng.permutation(reference))
    assert shuffled == precision_recall(features, reference)
    assert density_coverage(features[::-1], reference[::-1]) == density_coverage(features, reference)


def test_intervals_are_those_of_shares() -> None:
    found = precision_recall(sample(60, 3, 0), sample(80, 3, 1, 2.0))
    assert found["precision"].n == 60
    assert found["recall"].n == 80
    for score in found.values():
        assert 0 <= score.low < score.value < score.high <= 1 or score.value in (0, 1)


def test_too_few_or_too_large_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="at least 4 images on either side: the images are 3"):
        precision_recall(sample(3, 2, 0), sample(9, 2, 1))
    with pytest.raises(UserError, match="no image has a 5-th nearest neighbour among 5"):
        density_coverage(sample(9, 2, 0), sample(5, 2, 1))
    with pytest.raises(UserError, match="no image has a 0-th"):
        precision_recall(sample(9, 2, 0), sample(9, 2, 1), k=0)
    with pytest.raises(UserError, match="features above 1e18"):
        precision_recall(sample(9, 2, 0, 1e19), sample(9, 2, 1))
