"""An image set is one uncompressed zip: ``000000.png``, ``000001.png``, ... and ``prompts.jsonl``.

``prompts.jsonl`` has one line ``{"index": 0, "caption": "...", "seed": 0}`` per image. Real images come with an
``about.json`` too, which says what data they are from. The same content always gives the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gigagan.errors import UserError
from gigagan.files import written_whole

PROMPTS, ABOUT = "prompts.jsonl", "about.json"
PathLike = str | os.PathLike[str]


def write_images(
    path: PathLike,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    seeds: Sequence[int],
    about: dict[str, Any] | Callable[[], dict[str, Any] | None] | None = None,
) -> None:
    """Write ``images`` (uint8 [N, H, W, 3], or any iterable of [H, W, 3]) with a caption and a seed each, whole or not
    at all. ``about``: of the set as a whole; where it is called, behind the last picture.

    Raises ValueError where the three differ in number.
    """
    prompts = []
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for index, (image, caption, seed) in enumerate(zip(images, captions, seeds, strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            _write(archive, f"{index:06d}.png", png.getvalue())
            prompts.append(json.dumps({"index": index, "caption": caption, "seed": int(seed)}, ensure_ascii=False))
        _write(archive, PROMPTS, "".join(line + "\n" for line in prompts).encode())
        about = about() if callable(about) else about
        if about is not None:
            _write(archive, ABOUT, json.dumps(about, indent=2, ensure_ascii=False).encode())


def read_prompts(path: PathLike) -> list[dict[str, Any]]:
    """The lines ``{index, caption, seed}`` of an image set, or of a list of such lines (.jsonl), in order."""
    if Path(path).suffix == ".jsonl":
        return _listed(path)
    with _opened(path) as archive:
        return _prompts(path, archive)


def read_about(path: PathLike) -> dict[str, Any]:
    """What a set of real images says of its data, and samples of those that held NaN; else empty."""
    with _opened(path) as archive:
        return json.loads(archive.read(ABOUT)) if ABOUT in archive.namelist() else {}


def read_batches(path: PathLike, size: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield (uint8 [B, H, W, 3], captions), at most ``size`` images at a time, all of one height and width.

    Raises UserError for a file that is no zip, has no prompts, another number of images than prompts, or mixed sizes.
    """
    with _opened(path) as archive:
        captions = [prompt["caption"] for prompt in _prompts(path, archive)]
        first = None
        for start in range(0, len(captions), size):
            batch = captions[start : start + size]
            images = [_image(path, archive, f"{start + i:06d}.png") for i in range(len(batch))]
            first = images[0] if first is None else first
            for i, image in enumerate(images, start):
                if image.shape != first.shape:
                    (h, w, _), (h0, w0, _) = image.shape, first.shape
                    raise UserError(
                        f"{path}: images of mixed sizes ({i:06d}.png is {w}x{h}, the first is {w0}x{h0}): "
                        "a set has one size"
                    )
            yield np.stack(images), batch


def read_images(path: PathLike) -> tuple[np.ndarray, list[str]]:
    """All images (uint8 [N, H, W, 3]) and their captions; errors as ``read_batches``."""
    batches = list(read_batches(path, 1024))
    return np.concatenate([images for images, _ in batches]), [c for _, captions in batches for c in captions]


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16  # the same bytes from every system
    archive.writestr(info, data)


@contextmanager
def _opened(path: PathLike) -> Iterator[zipfile.ZipFile]:
    if not Path(path).is_file():
        raise UserError(f"no image set at {path}: make it with gigagan.sample or evaluation.reference")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as e:
        raise UserError(f"{path} is not a whole zip file ({e}): make it again") from None


def _prompts(path: PathLike, archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    names = archive.namelist()
    if PROMPTS not in names:
        raise UserError(f"{path} has no {PROMPTS}: it is not an image set of this project")
    try:
        prompts, in_order = _parsed(archive.read(PROMPTS))
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: {PROMPTS} cannot be read ({e!r}): make the set again") from None
    n_images = sum(name.endswith(".png") for name in names)
    if n_images != len(prompts) or not prompts or not in_order:
        raise UserError(f"{path}: {n_images} images but {len(prompts)} prompts, or not in order: make the set again")
    return prompts


def _listed(path: PathLike) -> list[dict[str, Any]]:
    try:
        prompts, in_order = _parsed(Path(path).read_bytes())
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}: a list of prompts is made by evaluation.prompts") from None
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: no list of prompts ({e!r}): make it with evaluation.prompts") from None
    if not prompts or not in_order:
        raise UserError(f"{path}: no prompts, or not in order: make the list again")
    return prompts


def _parsed(lines: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Lines of prompts, and whether they are in order. Raises ValueError, KeyError or TypeError for others."""
    prompts = [json.loads(line) for line in lines.decode().splitlines()]
    return prompts, all(p["index"] == i and isinstance(p["caption"], str) for i, p in enumerate(prompts))


def _image(path: PathLike, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            return np.asarray(image.convert("RGB"))
    except (KeyError, OSError, SyntaxError) as e:  # PIL reports some broken PNGs as SyntaxError
        raise UserError(f"{path}: {name} is missing or broken ({e}): make the set again") from None
