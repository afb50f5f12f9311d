from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gigagan.data.images import decode
from gigagan.data.skipped import Unusable


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 20), (20, 8), (9, 20), (8, 8)])
def test_the_centre_is_cropped_first_and_then_resized_with_lanczos(height: int, width: int) -> None:
    pixels = noise(height, width, 3)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    centre = Image.fromarray(pixels[top : top + side, left : left + side].copy())
    for resolution in (4, side, 16):
        expected = np.asarray(centre.resize((resolution, resolution), Image.Resampling.LANCZOS))
        image = decode(encoded(Image.fromarray(pixels)), resolution)
        assert image.dtype == np.uint8
        assert image.flags.writeable
        np.testing.assert_array_equal(image, expected)


def test_a_path_reads_like_its_bytes(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(8, 9, 3)))
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 8), decode(data, 8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    pixels = noise(8, 8, 3)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), exif=exif), 8), turn(pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    levels = np.array([0, 128, 129, 255, 256, 257 * 100, 257 * 100 + 129, 65535] * 8, np.uint16).reshape(8, 8)
    image = decode(encoded(Image.fromarray(levels), kind), 8)
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 1, 1, 1, 100, 101, 255])
    assert (image == image[:, :, :1]).all()


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    """Pillow cannot write such files: 16-bit RGB, every pixel (0, 0x80ff, 0xffff)."""
    row = b"\0" + struct.pack(">HHH", 0, 0x80FF, 0xFFFF) * 8
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    ]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body)) for tag, body in chunks
    )
    assert decode(file, 8)[0, 0].tolist() == [0, 0x80, 0xFF]


def palette_with_a_transparent_entry() -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (Image.new("L", (8, 8), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 51)), "PNG", (204, 204, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 0)), "WEBP", (255, 255, 255)),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4), "PNG", (10, 20, 30)),
        (Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4), "GIF", (10, 20, 30)),
        (palette_with_a_transparent_entry(), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (Image.new("RGB", (8, 8), (10, 20, 30)), "BMP", (10, 20, 30)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, colour: tuple[int, int, int]) -> None:
    options = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    pixels = decode(encoded(image, kind, **options), 8)
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels - np.array(colour)).max() <= 1


def test_a_camera_jpeg_with_a_preview_behind_it_is_not_animated() -> None:
    first, preview = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))
    data = encoded(first, "MPO", save_all=True, append_images=[preview])
    assert decode(data, 8).min() == 255


FRAMES = {"save_all": True, "append_images": [Image.new("L", (8, 8), 255)]}
PNG, JPEG = (encoded(Image.fromarray(noise(64, 64, 3)), kind) for kind in ("PNG", "JPEG"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        (PNG[: len(PNG) // 2], "broken image"),
        (JPEG[: len(JPEG) // 2], "broken image"),
        (JPEG[:20], "not an image"),
        (PNG[:60] + bytes(100) + PNG[160:], "broken image"),
        (encoded(Image.new("L", (8, 8)), "GIF", **FRAMES), "animated"),
        (encoded(Image.new("L", (8, 8)), "PNG", **FRAMES), "animated"),
        (encoded(Image.new("L", (8, 8)), "WEBP", **FRAMES), "animated"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "32-bit pixels"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        decode(data, 8)
    assert caught.value.reason == reason
    assert "object at 0x" not in caught.value.detail


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [1000, 4000])  # Pillow itself: an error above twice its limit, else a warning
def test_a_decompression_bomb_is_not_opened(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(Unusable, match="too large"):
        decode(PNG, 8)


def test_any_damage_is_either_unusable_or_decoded() -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for data in (PNG, JPEG, encoded(Image.fromarray(noise(64, 64, 3)), "WEBP", lossless=True)):
        for _ in range(100):
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 1000), 5):
                damaged[place] = rng.integers(256)
            try:
                outcomes.add(decode(bytes(damaged), 8).shape)
            except Unusable as e:
                outcomes.add(e.reason)
    assert {(8, 8, 3), "broken image"} <= outcomes <= {(8, 8, 3), "broken image", "not an image", "too large"}
