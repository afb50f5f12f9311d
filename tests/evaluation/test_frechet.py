from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.frechet import distance_of_moments, frechet_distance, moments
from gigagan.errors import UserError


def sample(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift).astype(np.float32)


def test_equals_clean_fid() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    a, b = sample(500, 24, 0), sample(700, 24, 1, 0.5)
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    with pytest.warns(DeprecationWarning, match="disp"):  # the reason for a Fréchet step of our own
        theirs = fid.frechet_distance(mean_a, cov_a, mean_b, cov_b)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)


def test_equals_the_closed_form_of_gaussians() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    a, b = np.array([1.0, 4.0, 9.0, 0.25]), np.array([4.0, 1.0, 0.0, 0.25])  # b is singular
    mean = np.array([1.0, 0.0, -2.0, 0.0])
    expected = 5.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for (m1, c1), (m2, c2) in (((mean, a), (0 * mean, b)), ((0 * mean, b), (mean, a))):
        covariances = (rotation * c1 @ rotation.T, rotation * c2 @ rotation.T)
        assert distance_of_moments(m1, covariances[0], m2, covariances[1]) == pytest.approx(expected, rel=1e-6)


def test_is_zero_for_equal_sets_and_symmetric() -> None:
    a, b = sample(300, 16, 0), sample(200, 16, 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * moments(a)[1].trace())
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


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
        (np.ones((1, 3)), np.ones((4, 3)), "at least 2 images"),
        (np.full((4, 3), np.nan), np.ones((4, 3)), "NaN"),
        (np.ones((4, 3)), np.full((4, 3), np.inf), "infinity"),
    ],
)
def test_bad_features_are_one_clear_line(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        frechet_distance(a, b)
