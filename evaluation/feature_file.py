"""The feature file of an image set: safetensors, one float32 tensor [N, D] per extractor, and what they are of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gigagan.errors import UserError
from gigagan.files import written_whole

SCHEMA = 1
PathLike = str | os.PathLike[str]


def write(path: PathLike, features: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """``about`` goes into the header as a single entry, since safetensors writes several in random order."""
    with written_whole(path) as temporary:
        save_file(features, temporary, {"about": json.dumps({"schema": SCHEMA, **about}, sort_keys=True)})


def read(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The features and what they are of. Raises UserError for a file that is missing, damaged or of another schema."""
    if not Path(path).is_file():
        raise UserError(f"no features at {path}: extract them with evaluation.features")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            features = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as e:
        raise UserError(f"{path} is not a whole feature file ({e}): extract the features again") from None
    if about.get("schema") != SCHEMA:
        raise UserError(f"{path} is no feature file of schema {SCHEMA}: extract the features again")
    return features, about
