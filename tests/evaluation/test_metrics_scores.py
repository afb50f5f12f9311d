"""The Inception score, FID-infinity and LPIPS diversity against the libraries, closed forms and written-out sums."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics.diversity import lpips_diversity
from evaluation.metrics.fid_infinity import fid_infinity, intercept
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.inception_score import inception_score, split_score
from evaluation.metrics.rows import canonical, shuffled
from gigagan.errors import UserError


def sample(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, size=(n, d)).astype(np.float32)


# Random rows ---------------------------------------------------------------------------------------------------------


def test_rows_have_an_order_of_their_own() -> None:
    features = np.round(sample(50, 3, 0))
    features[4] = features[9]
    there = features[canonical(features)]
    for seed in range(3):
        shuffled_files = np.random.default_rng(seed).permutation(features)
        assert (shuffled_files[canonical(shuffled_files)] == there).all()
        assert (shuffled_files[shuffled(shuffled_files, 7)] == features[shuffled(features, 7)]).all()
    assert sorted(canonical(features)) == list(range(50))
    assert (shuffled(features, 7) != shuffled(features, 8)).any()


def test_the_order_is_that_of_the_numbers_so_that_rounding_moves_few_rows() -> None:
    features = np.abs(sample(100, 3, 0))
    assert (np.diff(features[canonical(features), 0]) >= 0).all()


# Inception score -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [1, 5])
def test_inception_score_equals_torchmetrics(monkeypatch: pytest.MonkeyPatch, splits: int) -> None:
    import torch
    from torchmetrics.image.inception import InceptionScore

    logits = sample(100, 30, 0, 3)
    theirs = InceptionScore(torch.nn.Identity(), splits=splits)
    theirs.update(torch.from_numpy(logits).double())
    monkeypatch.setattr(torch, "randperm", lambda n: torch.from_numpy(shuffled(logits, 5)))
    mean, spread = theirs.compute()
    score = inception_score(logits, splits, seed=5)
    assert score.value == pytest.approx(float(mean), rel=1e-9)
    if splits == 5:
        half = 2.776445 * float(spread) / np.sqrt(5)  # t, 4 degrees of freedom
        assert (score.low, score.high) == pytest.approx((score.value - half, score.value + half), rel=1e-6)
    else:
        assert score.low is None


def test_inception_score_of_known_predictions() -> None:
    sure, unsure = np.log(np.eye(7) * (1 - 7e-12) + 1e-12), np.zeros((40, 7))
    assert split_score(np.tile(sure, (5, 1))) == pytest.approx(7, rel=1e-6)
    assert split_score(np.tile(sure[:1], (5, 1))) == pytest.approx(1)
    assert inception_score(unsure.astype(np.float32)).value == pytest.approx(1)


def test_log_probabilities_are_logits() -> None:
    logits = sample(40, 6, 0)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    assert split_score(log_p) == pytest.approx(split_score(logits), rel=1e-9)


def test_few_images_make_the_inception_score_too_small_as_declared() -> None:
    logits = sample(4000, 20, 0, 2)
    assert inception_score(logits, splits=200).value < inception_score(logits, splits=2).value


def test_too_few_images_for_the_splits_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="needs at least 20 images"):
        inception_score(sample(19, 5, 0))


# FID-infinity --------------------------------------------------------------------------------------------------------


def test_the_intercept_and_its_interval_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = 1 / np.linspace(500, 3000, 12)
    y = 4 + 300 * x + 0.01 * rng.normal(size=12)
    (slope, wanted), covariance = np.polyfit(x, y, 1, cov=True)
    value, half = intercept(x, y)
    assert slope > 0
    assert value == pytest.approx(wanted, rel=1e-9)
    assert half == pytest.approx(2.228139 * np.sqrt(covariance[1, 1]), rel=1e-6)  # t, 10 degrees of freedom
    assert intercept(x, 4 + 300 * x) == (pytest.approx(4), pytest.approx(0, abs=1e-9))


def test_fid_infinity_has_far_less_bias_than_fid() -> None:
    reference = sample(20_000, 12, 0)
    pairs = []
    for seed in range(1, 6):
        features = sample(1500, 12, seed)  # of the reference's distribution: the truth is 0
        score = fid_infinity(features, reference, points=8, smallest=150)
        pairs.append((score.value, frechet_distance(features, reference)))
    infinite, finite = np.mean(pairs, axis=0)
    assert abs(infinite) < finite / 3


def test_fid_infinity_does_not_depend_on_the_order_of_images_and_repeats() -> None:
    features, reference = sample(200, 4, 0), sample(300, 4, 1)
    score = fid_infinity(features, reference, smallest=50)
    assert fid_infinity(features, reference, smallest=50) == score
    np.testing.assert_allclose(fid_infinity(features[::-1], reference, smallest=50), score, rtol=1e-9)
    assert fid_infinity(features, reference, smallest=50, seed=1).value != score.value
    assert score.n == 200
    assert score.low < score.value < score.high


def test_what_has_no_line_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="15 sizes from 5000 on cannot be drawn with 60 images"):
        fid_infinity(sample(60, 2, 0), sample(60, 2, 1))
    with pytest.raises(UserError, match="through 2 sizes"):
        fid_infinity(sample(60, 2, 0), sample(60, 2, 1), points=2, smallest=10)
    with pytest.warns(UserWarning, match="subsets of 10 images over 12 features have singular covariances"):
        fid_infinity(sample(60, 12, 0), sample(60, 12, 1), points=3, smallest=10)


# LPIPS diversity -----------------------------------------------------------------------------------------------------


class Difference:
    """A distance that needs no weights."""

    sha = "0" * 64

    def distance(self, a, b):
        return (a - b).abs().mean((1, 2, 3))


CAPTIONS = ["a cat"] * 4 + ["a dog"] * 2 + ["a cat"] * 3


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, np.ndarray]:
    from gigagan.archive import write_images

    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    write_images(tmp_path / "samples.zip", images, CAPTIONS, range(9))
    return tmp_path / "samples.zip", images


def distances(path: Path, batch: int) -> np.ndarray:
    import torch

    from evaluation.extractors import extract
    from evaluation.siblings import Siblings
    from gigagan.archive import read_batches

    pictures = ((images[0], caption) for images, (caption,) in read_batches(path, 1))
    found = extract(read_batches(path, batch), [Siblings(pictures, Difference(), torch.device("cpu"))])
    assert found["lpips_diversity"].shape == (9, 1)
    return found["lpips_diversity"][:, 0]


def test_diversity_is_the_mean_over_pairs_of_a_caption_whatever_the_batch(drawn: tuple[Path, np.ndarray]) -> None:
    path, images = drawn
    column = distances(path, 9)
    for batch in (1, 3, 5):
        np.testing.assert_allclose(distances(path, batch), column, rtol=1e-6)
    wanted = [
        np.mean([np.abs(images[i] / 127.5 - images[j] / 127.5).mean() for i, j in combinations(run, 2)])
        for run in (range(4), range(4, 6), range(6, 9))
    ]
    score = lpips_diversity(column, CAPTIONS)
    assert score.value == pytest.approx(np.mean(wanted), rel=1e-5)
    assert score.n == 3
    half = 1.96 * np.std(wanted, ddof=1) / np.sqrt(3)
    assert score.high - score.value == pytest.approx(half, rel=1e-4)


def test_diversity_without_a_second_picture_or_caption_is_one_clear_line(tmp_path: Path) -> None:
    from gigagan.archive import write_images

    images = np.zeros((3, 8, 8, 3), np.uint8)
    write_images(tmp_path / "samples.zip", images, ["a cat", "a cat", "a dog"], range(3))
    with pytest.raises(UserError, match="'a dog' has one picture"):
        distances(tmp_path / "samples.zip", 3)
    with pytest.raises(UserError, match="two or more captions"):
        lpips_diversity(np.ones(4), ["a cat"] * 4)
