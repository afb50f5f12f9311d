"""Cached statistics: what is written and read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import statistics_file
from evaluation.metrics.frechet import Statistics, moments
from gigagan.errors import UserError

ABOUT = {"protocol": "coco@1", "images": 50}


def made(d: int = 4) -> Statistics:
    return moments(np.random.default_rng(0).normal(size=(50, d)))


def test_what_is_written_is_read(tmp_path):
    statistics_file.write(tmp_path / "a.npz", made(), ABOUT)
    again, about = statistics_file.read(tmp_path / "a.npz")
    assert np.array_equal(again.mean, made().mean)
    assert np.array_equal(again.covariance, made().covariance)
    assert about == ABOUT
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_of_others_do_not_say_how_they_were_made(tmp_path, dtype):
    """clean-fid, pytorch-fid and StudioGAN write mu and sigma; ADM further arrays, too."""
    np.savez(tmp_path / "a.npz", mu=made().mean.astype(dtype), sigma=made().covariance.astype(dtype), mu_s=np.zeros(3))
    again, about = statistics_file.read(tmp_path / "a.npz")
    assert about == {}
    assert again.mean.dtype == again.covariance.dtype == np.float64
    assert np.allclose(again.covariance, made().covariance, atol=1e-6)


def test_what_is_no_statistics_is_one_clear_line(tmp_path):
    mean, covariance = made().mean, made().covariance
    crooked, negative = covariance.copy(), covariance.copy()
    crooked[0, 1] += 1
    negative[2, 2] = -1
    indefinite = np.eye(4)
    indefinite[0, 1] = indefinite[1, 0] = 2
    wrong = {
        "an eigenvalue is negative": {"mu": mean, "sigma": indefinite},
        "complex numbers": {"mu": mean, "sigma": covariance.astype(complex)},
        "sigma is missing": {"mu": mean, "feats": covariance},
        "are not the mean": {"mu": mean[:3], "sigma": covariance},
        "NaN or infinity": {"mu": mean * np.nan, "sigma": covariance},
        "is not symmetric": {"mu": mean, "sigma": crooked},
        "a variance is negative": {"mu": mean, "sigma": negative},
        "can be read": {"mu": np.array([{}], dtype=object), "sigma": covariance},
    }
    for words, arrays in wrong.items():
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(UserError, match=words) as error:
            statistics_file.read(tmp_path / "a.npz")
        assert "\n" not in error.value.message
    np.save(tmp_path / "b.npy", mean)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(UserError, match="can be read"):
        statistics_file.read(tmp_path / "b.npz")
    np.savez_compressed(tmp_path / "a.npz", mu=mean, sigma=np.random.default_rng(0).normal(size=(4, 4)))
    broken = bytearray((tmp_path / "a.npz").read_bytes())
    broken[60:110] = bytes(50)
    (tmp_path / "a.npz").write_bytes(broken)
    with pytest.raises(UserError, match="can be read"):
        statistics_file.read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"hello")
    with pytest.raises(UserError, match="can be read"):
        statistics_file.read(tmp_path / "b.npz")
    with pytest.raises(UserError, match="there is no such file"):
        statistics_file.read(tmp_path / "c.npz")
