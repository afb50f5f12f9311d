from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.clip_score import clip_score, clip_score_shuffled
from gigagan.errors import UserError


def units(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 8))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_is_the_mean_cosine_with_its_interval() -> None:
    angles = np.linspace(0, np.pi, 101)
    image = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    text = np.tile(np.float32([1, 0]), (101, 1))
    score = clip_score(image, text)
    assert score.value == pytest.approx(np.cos(angles).mean(), abs=1e-6)
    assert score.n == 101
    assert score.high - score.low == pytest.approx(2 * 1.96 * np.cos(angles).std(ddof=1) / np.sqrt(101), rel=1e-5)
    assert clip_score(text, text).value == pytest.approx(1)


def test_shuffled_is_the_mean_over_all_pairs_of_other_meaning() -> None:
    image, text, meanings = units(7, 0), units(7, 1), list("abacbda")
    pairs = image.astype(np.float64) @ text.T
    rows = [np.mean([pairs[i, j] for j in range(7) if meanings[j] != meanings[i]]) for i in range(7)]
    assert clip_score_shuffled(image, text, meanings).value == pytest.approx(np.mean(rows), abs=1e-7)


def test_shuffled_is_far_below_the_score_where_images_fit() -> None:
    x = units(200, 0)
    meanings = [str(i) for i in range(200)]
    shuffled = clip_score_shuffled(x, x, meanings)
    assert shuffled.high < clip_score(x, x).value - 0.5
    assert shuffled.low < 0 < shuffled.high


def test_bad_input_is_one_clear_line() -> None:
    x = units(4, 0)
    with pytest.raises(UserError, match="mean the same"):
        clip_score_shuffled(x, x, ["a"] * 4)
    with pytest.raises(UserError, match="as many texts"):
        clip_score(x, units(5, 0))
    with pytest.raises(UserError, match="two or more"):
        clip_score(x[:1], x[:1])
    with pytest.raises(UserError, match="NaN"):
        clip_score(x, x * np.nan)
