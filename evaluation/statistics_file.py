"""Cached statistics of a reference: mean and covariance of its features, in an ``.npz``.

Read are the layouts of clean-fid, pytorch-fid and StudioGAN, which are one: arrays ``mu`` [D] and ``sigma`` [D, D].
Ours is the same with a third array, ``about``, that says in JSON how the statistics were made; the others do not say.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg

from evaluation.metrics.frechet import Statistics
from gigagan.errors import UserError
from gigagan.files import written_whole

ROUNDING = 1e-6
"""What is left of 0 in statistics that were kept in float32, in terms of the largest variance."""


def write(path: str | Path, statistics: Statistics, about: dict[str, Any]) -> None:
    """Whole or not at all; ``about`` says how they were made."""
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    with written_whole(path) as temporary:
        np.savez(temporary, mu=statistics.mean, sigma=statistics.covariance, about=text)


def read(path: str | Path) -> tuple[Statistics, dict[str, Any]]:
    """Statistics and how they were made, which is empty where the file does not say.

    Raises UserError for a file that is missing, no ``.npz`` of such statistics, or holds what cannot be any.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"mu", "sigma"} - set(arrays.files):
                there = ", ".join(arrays.files) or "nothing"
                raise UserError(f"{path}: no statistics: {', '.join(sorted(missing))} is missing (it holds {there})")
            if any(np.iscomplexobj(arrays[name]) for name in ("mu", "sigma")):
                raise UserError(f"{path}: holds complex numbers, which no mean or covariance is: make it again")
            mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
            about = json.loads(arrays["about"].tobytes()) if "about" in arrays.files else {}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of statistics") from None
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        # Pickles among them, which are not read, and plain arrays.
        raise UserError(f"{path}: not an .npz of statistics that can be read: {e}") from None
    d = mean.shape[0] if mean.ndim == 1 else 0
    if not d or covariance.shape != (d, d) or not isinstance(about, dict):
        raise UserError(
            f"{path}: mu {list(mean.shape)} and sigma {list(covariance.shape)} are not the mean [D] and covariance "
            "[D, D] of one set of features"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: holds NaN or infinity: make it again")
    scale = np.abs(np.diag(covariance)).max()
    if (np.diag(covariance) < 0).any() or np.abs(covariance - covariance.T).max() > ROUNDING * max(scale, 1e-12):
        raise UserError(
            f"{path}: sigma is no covariance (it is not symmetric, or a variance is negative): make it again"
        )
    if scipy.linalg.eigvalsh(covariance, subset_by_index=[0, 0])[0] < -ROUNDING * scale:
        raise UserError(f"{path}: sigma is no covariance (an eigenvalue is negative): make it again")
    return Statistics(mean, covariance), about
