"""PNGs: one written row by row, so that a picture of any size takes no more memory than the rows at hand, and grids."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from gigagan.files import written_whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEFT = 1  # PNG's filter "Sub": each byte less the one of the pixel to its left


def write_png(path: str | os.PathLike[str], size: tuple[int, int], bands: Iterable[np.ndarray]) -> None:
    """An 8-bit RGB picture of ``size`` (height, width) from its rows, top to bottom, uint8 [h, width, 3] at a time;
    whole or not at all.

    Raises ValueError where the rows do not make up the size.
    """
    height, width = size
    written = 0
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        packer = zlib.compressobj(6)
        for band in bands:
            if band.shape[1:] != (width, 3) or band.dtype != np.uint8:
                raise ValueError(f"rows of {band.dtype} {band.shape} for a picture {width} px wide")
            written += len(band)
            file.write(_chunk(b"IDAT", packer.compress(_filtered(band))))
        if written != height:
            raise ValueError(f"{written} rows for a picture {height} px high")
        file.write(_chunk(b"IDAT", packer.flush()))
        file.write(_chunk(b"IEND", b""))


def write_grid(path: str | os.PathLike[str], images: np.ndarray, columns: int) -> None:
    """uint8 [N, H, W, 3] as one PNG, small ones up to four times enlarged without smoothing; places left over are
    white."""
    n, h, w = images.shape[:3]
    zoom = max(1, min(4, 256 // h))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    images = np.concatenate([images, np.full((rows * columns - n, h, w, 3), 255, np.uint8)])
    sheet = images.reshape(rows, columns, h, w, 3).swapaxes(1, 2).reshape(rows * h, columns * w, 3)
    with written_whole(path) as temporary:
        Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1)).save(temporary)


def _filtered(band: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> [h, 1 + 3 w]: each row behind the number of its filter"""
    flat = band.reshape(len(band), -1)
    rows = np.full((len(flat), 1 + flat.shape[1]), LEFT, np.uint8)
    rows[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=rows[:, 4:])  # modulo 256, as PNG has it
    return rows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
