"""Pictures to fill data sets with."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """``picture(level)``: a PNG file, 12 x 8, of one level of grey, by which a test recognises it."""

    def encode(level: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("L", (12, 8), level).save(buffer, "PNG")
        return buffer.getvalue()

    return encode
