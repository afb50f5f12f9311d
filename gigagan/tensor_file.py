"""Named tensors in a safetensors file, with one entry in its header that says what they are."""

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

# How a pickle begins: in a zip, as torch.save writes it, or bare.
PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def write(path: str | os.PathLike[str], tensors: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """A safetensors file. ``about`` goes into its header as a single entry, since several are written in random order.

    Raises UserError where it cannot be written (a full disk).
    """
    try:
        with written_whole(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # as the user's umask wants it; safetensors would let nobody else read it
            save_file(tensors, temporary, {"about": json.dumps(about, sort_keys=True)})
            temporary.chmod(mode)
    except SafetensorError as e:  # what it makes of a full disk
        raise UserError(f"{path}: cannot be written ({e}): free some space and type the same command again") from None


def read(path: str | os.PathLike[str], remedy: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What ``write`` wrote. Raises UserError, with a remedy, for a missing, truncated or foreign file."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; {remedy}")
    with open(path, "rb") as f:
        head = f.read(9)
        # The length that a safetensors file begins with may look like a pickle; the brace behind it does not.
        if head[:2] in PICKLES and head[8:] != b"{":
            raise UserError(
                f"{path}: holds a pickle, which can run code when it is read; only safetensors files are "
                f"loaded; {remedy}"
            )
    try:
        with safe_open(path, framework="numpy") as f:
            about = dict(json.loads((f.metadata() or {}).get("about", "{}")))
            return {name: f.get_tensor(name) for name in f.keys()}, about
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise UserError(f"{path}: truncated or no safetensors file ({e}); {remedy}") from None
