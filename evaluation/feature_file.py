"""The feature file of an image set: safetensors, one float32 tensor [N, D] per extractor, and what they are of."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from gigagan import tensor_file
from gigagan.errors import UserError

SCHEMA = 2
PathLike = str | os.PathLike[str]


def write(path: PathLike, features: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Raises UserError where it cannot be written (a full disk)."""
    tensor_file.write(path, features, {"schema": SCHEMA, **about})


def read(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The features and what they are of. Raises UserError for a file that is missing, damaged or of another schema."""
    remedy = "extract the features again, with evaluation.features"
    features, about = tensor_file.read(path, remedy)
    if about.get("schema") != SCHEMA:
        raise UserError(f"{path}: no feature file of schema {SCHEMA}; {remedy}")
    return features, about
