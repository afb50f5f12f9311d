from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from evaluation.metrics.frechet import Moments, distance_of_moments, frechet, frechet_distance, jackknife, moments
from gigagan.errors import UserError


def sample(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift).astype(np.float32)


# The distance --------------------------------------------------------------------------------------------------------


def test_equals_clean_fid() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    a, b = sample(500, 24, 0), sample(700, 24, 1, 0.5)
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    with pytest.warns(DeprecationWarning, match="disp"):  # the reason for a Fréchet step of our own
        theirs = fid.frechet_distance(mean_a, cov_a, mean_b, cov_b)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)


def test_equals_clean_fid_with_its_own_means_and_covariances() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    a, b = sample(500, 24, 0), sample(700, 24, 1, 0.5)
    statistics = [array for x in (a, b) for array in (np.mean(x, axis=0), np.cov(x, rowvar=False))]
    with pytest.warns(DeprecationWarning, match="disp"):
        theirs = fid.frechet_distance(*statistics)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)


def test_equals_torchmetrics() -> None:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Identity):
        num_features = 24

    a, b = sample(500, 24, 0), sample(700, 24, 1, 0.5)
    theirs = FrechetInceptionDistance(Given()).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(a).double(), real=False)
    theirs.update(torch.from_numpy(b).double(), real=True)
    assert frechet_distance(a, b) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_equals_the_closed_form_of_gaussians() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    a, b = np.array([1.0, 4.0, 9.0, 0.25]), np.array([4.0, 1.0, 0.0, 0.25])  # b is singular
    mean = np.array([1.0, 0.0, -2.0, 0.0])
    expected = 5.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for (m1, c1), (m2, c2) in (((mean, a), (0 * mean, b)), ((0 * mean, b), (mean, a))):
        covariances = (rotation * c1 @ rotation.T, rotation * c2 @ rotation.T)
        assert distance_of_moments(m1, covariances[0], m2, covariances[1]) == pytest.approx(expected, rel=1e-12)


def test_is_zero_for_equal_sets_and_symmetric() -> None:
    a, b = sample(300, 16, 0), sample(200, 16, 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12 * moments(a)[1].trace())
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_is_zero_for_equal_sets_of_fewer_images_than_features_and_warns() -> None:
    a = sample(10, 16, 0)
    with pytest.warns(UserWarning, match="10 and 10 images over 16 features: too few images, .* far too large"):
        distance = frechet_distance(a, a)
    assert distance == pytest.approx(0, abs=1e-12 * moments(a)[1].trace())


def test_sets_without_any_spread_are_as_far_apart_as_their_means() -> None:
    a, b = np.zeros((5, 2), np.float32), np.full((5, 2), 3, np.float32)
    with warnings.catch_warnings(action="error"):
        assert frechet_distance(a, b) == pytest.approx(18)


def test_two_large_sets_of_one_distribution_differ_by_the_declared_bias() -> None:
    draw = np.random.default_rng(0).normal(size=(8000, 8))
    few, many = frechet_distance(draw[:500], draw[500:1000]), frechet_distance(draw[:4000], draw[4000:])
    assert 0 < many < few / 4


def test_fewer_images_than_features_warns() -> None:
    with pytest.warns(UserWarning, match="too few images"):
        frechet_distance(sample(10, 16, 0), sample(300, 16, 1))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((4, 3)), np.ones((4, 2)), r"got \[4, 3\] and \[4, 2\]"),
        (np.ones(4), np.ones((4, 1)), "width"),
        (np.ones((1, 3)), np.ones((4, 3)), "at least 2 images on either side: the images are 1"),
        (np.ones((4, 3)), np.ones((0, 3)), "the reference has 0"),
        (np.full((4, 3), np.nan), np.ones((4, 3)), "row 0 of the features of the images holds NaN"),
        (
            np.ones((4, 3)),
            np.float32([[1, 1, 1], [1, np.inf, 1]]),
            "row 1 of the features of the reference",
        ),
    ],
)
@pytest.mark.parametrize("function", [frechet, frechet_distance])
def test_bad_features_are_one_clear_line(function: Callable, a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        function(a, b)


def test_statistics_of_another_width_are_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"different extractors do not compare: means of 3 and 2 features"):
        distance_of_moments(*moments(sample(9, 3, 0)), *moments(sample(9, 2, 0)))
    mean, cov = moments(sample(9, 3, 0))
    with pytest.raises(UserError, match=r"covariances \[3, 2\] and \[3, 3\]"):
        distance_of_moments(mean, cov[:, :2], mean, cov)


# Moments, batch by batch ---------------------------------------------------------------------------------------------


def test_moments_are_numpy_s_even_where_means_are_large() -> None:
    features = sample(5000, 7, 0) + np.float32(1000)
    mean, covariance = moments(features)
    np.testing.assert_allclose(mean, features.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(features, rowvar=False, dtype=np.float64), rtol=1e-10)


@pytest.mark.parametrize("sizes", [[1] * 40, [40], [7, 0, 33], [39, 1]])
def test_moments_depend_neither_on_batches_nor_on_order(sizes: list[int]) -> None:
    features = sample(40, 5, 0)
    whole, parts = Moments.of(features), Moments(5)
    for batch in np.split(np.random.default_rng(0).permutation(features), np.cumsum(sizes)[:-1]):
        parts.add(batch)
    assert parts.n == 40
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.covariance(), whole.covariance(), rtol=1e-12)


def test_moments_merge_and_part_again() -> None:
    first, second = sample(30, 5, 0), sample(50, 5, 1, 2.0)
    whole = Moments.of(first)
    whole.merge(Moments.of(second))
    whole.merge(Moments(5))
    np.testing.assert_allclose(whole.covariance(), moments(np.concatenate([first, second]))[1], rtol=1e-12)
    np.testing.assert_allclose(whole.without(Moments.of(second)).mean, moments(first)[0], rtol=1e-10)
    np.testing.assert_allclose(whole.without(Moments.of(second)).covariance(), moments(first)[1], rtol=1e-10)


# Its interval --------------------------------------------------------------------------------------------------------


def test_the_jackknife_is_what_its_formula_says() -> None:
    a, b = sample(60, 3, 0), sample(200, 3, 1)
    blocks = np.split(a, 6)
    score = jackknife([Moments.of(block) for block in blocks], moments(b))
    left = [frechet_distance(np.concatenate(blocks[:i] + blocks[i + 1 :]), b) for i in range(6)]
    error = np.sqrt(5 / 6 * np.square(left - np.mean(left)).sum())
    assert score.value == pytest.approx(frechet_distance(a, b), rel=1e-12)
    assert score.n == 60
    assert (score.high - score.low) / 2 == pytest.approx(2.570582 * error, rel=1e-6)  # t, 5 degrees of freedom
    assert (score.high + score.low) / 2 == pytest.approx(score.value)


def test_the_jackknife_is_as_wide_as_the_spread_between_sets() -> None:
    reference = moments(np.random.default_rng(0).normal(size=(5000, 4)))
    rng = np.random.default_rng(1)
    sets = [rng.normal(0.3, 1.2, size=(300, 4)).astype(np.float32) for _ in range(150)]
    spread = np.std([distance_of_moments(*moments(x), *reference) for x in sets])
    scores = [jackknife([Moments.of(part) for part in np.split(x, 20)], reference) for x in sets[:20]]
    errors = [(score.high - score.value) / 2.093024 for score in scores]  # t, 19 degrees of freedom
    assert 0.8 < np.sqrt(np.mean(np.square(errors))) / spread < 1.25


def test_a_percentile_bootstrap_does_not_even_contain_its_own_estimate() -> None:
    rng = np.random.default_rng(0)
    features, reference = (rng.normal(size=(n, 24)).astype(np.float32) for n in (300, 2000))
    score, target = frechet(features, reference), moments(reference)
    draws = [distance_of_moments(*moments(features[rng.integers(300, size=300)]), *target) for _ in range(200)]
    assert np.quantile(draws, 0.025) > score.value
    assert score.low < score.value < score.high


def test_the_interval_depends_on_the_images_and_not_on_their_order() -> None:
    a, b = sample(100, 4, 0), sample(100, 4, 1)
    score = frechet(a, b)
    assert frechet(a, b) == score
    np.testing.assert_allclose(frechet(a[::-1], np.roll(b, 3, axis=0)), score, rtol=1e-9)
    assert frechet(a, b, seed=1) != score
    assert frechet(a, b, seed=1).value == pytest.approx(score.value)


def test_without_enough_images_there_is_no_interval() -> None:
    with pytest.warns(UserWarning, match="too few"):
        assert frechet(sample(16, 16, 0), sample(300, 16, 1)).low is None
    assert frechet(sample(18, 16, 0), sample(300, 16, 1), blocks=9).low is None  # regular, but not without a block
    assert frechet(sample(40, 16, 0), sample(300, 16, 1), blocks=10).low is not None
