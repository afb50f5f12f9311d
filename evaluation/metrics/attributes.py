"""Attribute accuracy on scenes: the share of captions whose colours, shape, size and place are drawn as asked.

A deterministic reader describes each picture from its pixels alone, without its caption; ``judge`` then compares that
with what the caption states. What cannot be read counts as wrong. Lengths, places and areas are shares of the picture,
as in ``gigagan.data.scenes``; colours are RGB levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt

import numpy as np
from scipy import ndimage

from evaluation.metrics.score import Score, share_score
from gigagan.data.scenes import COLORS, TRIANGLE_HEIGHT, WIDTHS, Box, Statement, coverage, parse

# Where these limits lie was chosen on real scenes, blurred, noisy and off in colour, and on blobs, ellipses and blends;
# tests/evaluation/test_attributes.py holds both sides.
NEAR = 80.0
"""A pixel bears a colour's name up to this distance; the two nearest colours are 138 apart."""
LEAST_BACKGROUND = 0.4
"""Least share of the picture in one colour for it to be the background."""
LEAST_OBJECT = 0.025
"""Least area of an object."""
MOST_LITTER = 0.04
"""With more of the picture neither background nor object, its objects count as unread."""
MOST_MISFIT = 0.05
MOST_MISFIT_PIXELS = 0.5
"""An object may differ from the shape drawn in its place by this share of their union (1 - IoU), plus this many pixels
over the square root of its area: a soft or wavering outline costs a small object more of its area than a large one."""
LEAST_LEAD = 0.03
"""Least difference between the overlap of the best shape and the second best."""
SHARPEN = 1.5
"""Contrast of masks before they are compared, so that soft edges cost little and a wrong outline a lot."""
OFF_CENTRE = 0.09
"""An object is in the centre up to this distance from it, along either axis."""
APART = 0.1
"""Least distance between the centres of two objects along the axis of their relation."""


@dataclass(frozen=True)
class Seen:
    """An object as read, with its box's centre; ``shape`` and ``size`` are None where they match none of scenes'."""

    color: str
    shape: str | None
    size: str | None
    x: float
    y: float


@dataclass(frozen=True)
class Reading:
    """A picture as read; one without a background colour, or littered, has no objects."""

    background: str | None
    objects: tuple[Seen, ...] = ()


def attribute_accuracy(images: np.ndarray, captions: Sequence[str]) -> dict[str, Score]:
    """The six accuracies with their Wilson 95 % intervals; one that no caption asks for is left out.

    Args:
        images: uint8 ``[N, H, H, 3]``.
        captions: the N captions of scenes that the images were drawn for.

    Raises:
        UserError: a caption is not one of scenes.
    """
    verdicts: dict[str, list[bool]] = {}
    for image, caption in zip(images, captions, strict=True):
        for metric, right in judge(read(image), parse(caption)).items():
            verdicts.setdefault(metric, []).append(right)
    return {metric: share_score(sum(rights), len(rights)) for metric, rights in verdicts.items()}


def judge(reading: Reading, said: Statement) -> dict[str, bool]:
    """Which of the stated attributes the picture shows.

    Every caption asks for its background; one with a single object asks for the object's colour and shape, and for its
    size and position where stated; one that relates its objects asks for their colours, in that arrangement.
    """
    verdict = {"background_color_accuracy": reading.background == said.background}
    complete = len(reading.objects) == len(said.objects)
    if len(said.objects) == 1:
        asked, seen = said.objects[0], reading.objects[0] if complete else None
        verdict["object_color_accuracy"] = seen is not None and seen.color == asked.color
        verdict["shape_accuracy"] = seen is not None and seen.shape == asked.shape
        if asked.size:
            verdict["size_accuracy"] = seen is not None and seen.size == asked.size
        if asked.position:
            verdict["position_accuracy"] = seen is not None and _position(seen) == asked.position
    elif said.relation:
        verdict["relation_accuracy"] = complete and _arranged(reading.objects, said)
    return verdict


def read(image: np.ndarray) -> Reading:
    """Describe a picture, uint8 ``[H, H, 3]``."""
    side = image.shape[0]
    pixels = image.astype(np.float32)
    distances = np.square(pixels[:, :, None] - _PALETTE).sum(-1)
    labels = np.where(distances.min(-1) <= NEAR**2, distances.argmin(-1), len(_NAMES))
    counts = np.bincount(labels.ravel(), minlength=len(_NAMES))[: len(_NAMES)]
    background = int(counts.argmax())
    if counts[background] < LEAST_BACKGROUND * side**2:
        return Reading(None)

    offset = pixels - pixels[labels == background].mean(0)
    cores = [core for color in np.flatnonzero(counts) if color != background for core in _cores(labels == color)]
    masks, owned = _separate(offset, cores)
    objects = [i for i, mask in enumerate(masks) if mask.mean() >= LEAST_OBJECT]
    explained = (np.square(offset).sum(-1) <= NEAR**2) | owned[objects].any(0)
    if 1 - explained.mean() > MOST_LITTER:
        return Reading(_NAMES[background])
    return Reading(_NAMES[background], tuple(_describe(masks[i], _NAMES[labels[cores[i]][0]]) for i in objects))


_NAMES = tuple(COLORS)
_PALETTE = np.array(list(COLORS.values()), np.float32)
_UNIT_AREA = {"circle": pi / 4, "square": 1.0, "triangle": TRIANGLE_HEIGHT / 2}
_NEIGHBOURS = np.ones((3, 3), bool)


def _cores(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of ``mask`` made of whole 2x2 blocks: no specks, and no mixed colours along an edge."""
    numbered, n = ndimage.label(mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:])
    cores = []
    for i in range(1, n + 1):
        blocks = numbered == i
        core = np.zeros_like(mask)
        for corner in (core[:-1, :-1], core[1:, :-1], core[:-1, 1:], core[1:, 1:]):
            corner |= blocks
        cores.append(core)
    return cores


def _separate(offset: np.ndarray, cores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel is object k, 0 to 1, and which pixels are k's own, both ``[K, H, W]``.

    On the edge of an object colours lie on the line from the background's (the origin of ``offset``) to the object's,
    so a pixel belongs to that object nearby whose line is closest, if any is near.
    """
    alphas = np.zeros((len(cores), *offset.shape[:2]), np.float32)
    strays = np.full_like(alphas, np.inf)
    reach = max(2, offset.shape[0] // 10)
    for core, alpha, stray in zip(cores, alphas, strays, strict=True):
        line = offset[core].mean(0)
        alpha[:] = (offset @ line / (line @ line)).clip(0, 1)
        nearby = ndimage.binary_dilation(core, _NEIGHBOURS, iterations=reach)
        stray[nearby] = np.square(offset - alpha[..., None] * line).sum(-1)[nearby]
    own = (strays == strays.min(0, initial=NEAR**2)) & (strays < NEAR**2)
    return _sharpen(np.where(own, alphas, 0)), own


def _describe(mask: np.ndarray, color: str) -> Seen:
    """Shape by synthesis: draw each one with the mask's area and centroid, and see which overlaps best."""
    side, total = mask.shape[0], float(mask.sum())
    ticks = (np.arange(side) + 0.5) / side
    x, y = float(mask.sum(0) @ ticks) / total, float(mask.sum(1) @ ticks) / total
    fits = []
    for shape, unit_area in _UNIT_AREA.items():
        width = sqrt(total / unit_area) / side
        # A triangle's centroid lies a sixth of its height below the middle of its box.
        box = Box(x, y - width * TRIANGLE_HEIGHT / 6 if shape == "triangle" else y, width)
        drawn = _sharpen(coverage(shape, box, side))
        fits.append((float(np.minimum(mask, drawn).sum() / np.maximum(mask, drawn).sum()), shape, box))
    (overlap, shape, box), (second, _, _), _ = sorted(fits, key=lambda fit: fit[0], reverse=True)
    clear = 1 - overlap <= MOST_MISFIT + MOST_MISFIT_PIXELS / sqrt(total) and overlap - second >= LEAST_LEAD
    return Seen(color, shape if clear else None, _size(shape, box.width), box.x, box.y)


def _sharpen(mask: np.ndarray) -> np.ndarray:
    return ((mask - 0.5) * SHARPEN + 0.5).clip(0, 1)


def _size(shape: str, width: float) -> str | None:
    small, big = WIDTHS[shape]["small"], WIDTHS[shape]["big"]
    if not 0.7 * small <= width <= 1.3 * big:
        return None
    return "small" if width < sqrt(small * big) else "big"


def _position(seen: Seen) -> str:
    dx, dy = seen.x - 0.5, seen.y - 0.5
    if max(abs(dx), abs(dy)) <= OFF_CENTRE:
        return "centre"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "top" if dy < 0 else "bottom"


def _arranged(objects: Sequence[Seen], said: Statement) -> bool:
    """Whether the objects in the stated colours stand as stated; one colour is never asked for twice."""
    by_color = {seen.color: seen for seen in objects}
    if set(by_color) != {asked.color for asked in said.objects}:
        return False
    line = [by_color[asked.color] for asked in said.objects]
    if said.relation in ("right of", "below"):
        line.reverse()
    along = [seen.y if said.relation in ("above", "below") else seen.x for seen in line]
    return all(later - sooner >= APART for sooner, later in pairwise(along))
