"""The images in an accuracy log of MLPerf Inference's text-to-image benchmark (``mlperf_log_accuracy.json``).

LoadGen writes a list with an entry a line: ``{"seq_id": ..., "qsl_idx": 17, "data": "FFD8..."}``. The data are a square
picture's bytes, [S, S, 3], in hexadecimal; ``qsl_idx`` is the place of its caption in the benchmark's list. Of several
entries with one index the first counts, as in the benchmark's own script.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from gigagan.errors import UserError

_INDEX = re.compile(rb'"qsl_idx"\s*:\s*(\d+)')
_HEAD = 200  # bytes of a line in which its index stands


def opened(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The names of its images, ``0.bmp`` and so on by their index, and what reads one. The log itself, which holds 6 MB
    an image, stays where it is.

    Raises UserError for a file that is no such log.
    """
    lines: dict[str, tuple[int, int]] = {}
    with open(path, "rb") as file:
        offset = 0
        for line in file:
            if line.strip(b" \r\n,[]"):
                found = _INDEX.search(line[:_HEAD])
                if not found:
                    raise UserError(f"{path}: not an accuracy log of MLPerf's: a line has no qsl_idx")
                lines.setdefault(f"{int(found[1])}.bmp", (offset, len(line)))
            offset += len(line)
    if not lines:
        raise UserError(f"{path}: an accuracy log without a picture")
    if lacking := {f"{i}.bmp" for i in range(len(lines))} - lines.keys():
        first = min(int(name.removesuffix(".bmp")) for name in lacking)
        raise UserError(f"{path}: has no picture of caption {first} (qsl_idx), but some of later ones: make it anew")
    handle = os.open(path, os.O_RDONLY)

    def read(name: str) -> bytes:
        start, length = lines[name]
        return _picture(os.pread(handle, length, start), f"{path}: entry {name.removesuffix('.bmp')}")

    return list(lines), read


def _picture(line: bytes, where: str) -> bytes:
    """An entry's picture as the bytes of a BMP file, which changes none of its own."""
    try:
        data = bytes.fromhex(json.loads(line.strip(b" \r\n,[]"))["data"])
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"{where}: broken ({type(e).__name__}: {e}): run the benchmark again") from None
    side = math.isqrt(len(data) // 3)
    if not data or len(data) != 3 * side * side:
        raise UserError(f"{where}: {len(data):,} bytes are no square picture of three channels")
    out = io.BytesIO()
    Image.fromarray(np.frombuffer(data, np.uint8).reshape(side, side, 3)).save(out, "BMP")
    return out.getvalue()
