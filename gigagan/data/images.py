"""From an image file to RGB pixels: orient, make it 8-bit RGB; for a square of one size, crop the centre and resize."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gigagan.data.skipped import Unusable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# Named, because Pillow would try every format it knows, and some of those (EPS) run other programs on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def decode(source: bytes | Path, resolution: int) -> np.ndarray:
    """The picture in ``source`` (a file's bytes or its path) as uint8 RGB ``[resolution, resolution, 3]``.

    EXIF orientation is applied, then the longer side is cropped evenly to the shorter one, then the square is resized
    with Pillow's Lanczos filter. Transparency is composited on white; 16-bit grey is scaled (not clipped) to 8 bits;
    colour profiles are ignored, as image data sets do.

    Raises:
        Unusable: empty, broken or animated files, files that are no images, images above Pillow's pixel limit, and
            32-bit ones, whose range no format states.
        OSError: the file cannot be read.
    """
    return _read(source, lambda image: _square(image, resolution))


def decode_whole(source: bytes | Path) -> np.ndarray:
    """As ``decode``, but all of the picture, in its own size: uint8 RGB ``[H, W, 3]``."""
    return _read(source, _rgb)


def rgb(image: Image.Image) -> np.ndarray:
    """An open picture, which stays as it is, as ``decode_whole`` makes it of its file. Raises Unusable likewise."""
    with _one_reason():
        _check(image)
        return np.array(_rgb(ImageOps.exif_transpose(image)))


def _read(source: bytes | Path, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    data = source if isinstance(source, bytes) else source.read_bytes()
    if not data:
        raise Unusable("empty file")
    with _one_reason(), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such a picture is refused below
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image)
            # No draft mode: it decodes JPEGs faster, at a reduced size, but to other pixels.
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(convert(image))


@contextmanager
def _one_reason() -> Iterator[None]:
    """Whatever makes a picture unusable is raised as Unusable."""
    try:
        yield
    except (Unusable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Unusable("not an image") from None
    except Image.DecompressionBombError as e:
        raise Unusable("too large", str(e)) from None
    except Exception as e:  # Pillow's decoders raise nearly every type there is on damaged bytes
        raise Unusable("broken image", f"{type(e).__name__}: {e}") from None


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > (Image.MAX_IMAGE_PIXELS or float("inf")):  # Pillow only warns up to twice its limit
        raise Unusable("too large", f"{width} x {height} pixels, Pillow's limit is {Image.MAX_IMAGE_PIXELS} in all")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a camera's JPEG with a preview behind it
        raise Unusable("animated")


def _square(image: Image.Image, resolution: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return _rgb(image).resize((resolution, resolution), Image.Resampling.LANCZOS)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unusable("32-bit pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
