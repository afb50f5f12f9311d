"""The built-in data set: drawn, captioned pictures of one to three coloured shapes, endless, with known contents.

Everything is a pure function of (seed, split, index). Lengths and places are shares of the picture's side, with x to
the right and y down, so that a scene is the same at every resolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np

from gigagan.data.item import Item
from gigagan.data.skipped import Skipped
from gigagan.errors import UserError, nearest

T = TypeVar("T")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "green": (20, 155, 50),
    "blue": (30, 60, 220),
    "yellow": (245, 215, 30),
    "purple": (180, 45, 210),
    "cyan": (40, 205, 225),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
"""RGB, far apart: the two nearest (green and black) are 138 levels from each other."""

WIDTHS: dict[str, dict[str, float]] = {
    "circle": {"small": 0.36, "big": 0.56},
    "square": {"small": 0.32, "big": 0.50},
    "triangle": {"small": 0.39, "big": 0.60},
}
"""Width of a shape alone in its picture; triangles look smaller than they are wide."""

TRIANGLE_HEIGHT = 3**0.5 / 2
"""Height of a triangle of width 1: it is equilateral and stands on its base."""

POSITIONS = {
    "left": "at the left",
    "right": "at the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "centre": "in the centre",
}
RELATIONS = ("left of", "right of", "above", "below")
ROW = "from left to right"
"""The relation of three objects, listed in their order."""

WRAPPINGS = (
    "{body} on {background}",
    "{body} on a {background} background",
    "on a {background} background there is {body}",
    "{background} background with {body}",
)

# Room is scarcer beside other objects: all are a little smaller, and at most one is big.
SCALE = {1: 1.0, 2: 0.9, 3: 0.85}
SIZES = {
    1: (("small",), ("big",)),
    2: (("small", "small"), ("small", "big"), ("big", "small")),
    3: (("small", "small", "small"),),
}
MARGIN = 0.02
"""Least distance from an object to the picture's edge."""
GAP = 0.05
"""Least distance between two objects along the axis of their relation."""


@dataclass(frozen=True)
class Object:
    """What can be said of one object; None where it is left unsaid, or the object has no marked position."""

    shape: str
    color: str
    size: str | None = None
    position: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, ("a", self.size, self.color, self.shape, POSITIONS.get(self.position or ""))))


@dataclass(frozen=True)
class Statement:
    """What a caption states. ``relation`` is one of RELATIONS (two objects), ROW (three) or None."""

    background: str
    objects: tuple[Object, ...]
    relation: str | None = None

    @property
    def body(self) -> str:
        """The wording of everything but the background."""
        things = [str(thing) for thing in self.objects]
        if self.relation == ROW:
            return f"{things[0]}, {things[1]} and {things[2]} {ROW}"
        return f" {self.relation or 'and'} ".join(things)


@dataclass(frozen=True)
class Box:
    """Where an object is drawn: the centre of its bounding box, and its width."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Scene(Statement):
    """The whole truth about one picture, of which ``caption`` states a part; ``brightness`` scales its colours."""

    boxes: tuple[Box, ...] = ()
    brightness: float = 1.0
    caption: str = ""


class Scenes:
    """The data set at one resolution.

    Args:
        resolution: side of the pictures in pixels.
        objects: probabilities of one, two and three objects.
        placed: probability that the caption of a single object says where it is; if not, that may be anywhere.
        split: "train" or "test"; the two draw from separate random streams, as do two seeds.

    Raises:
        UserError: unknown split, probabilities that are no probabilities, a resolution below 8.
    """

    name = "scenes"
    skipped = Skipped()  # nothing, ever

    def __init__(
        self,
        resolution: int,
        objects: tuple[float, ...] = (0.75, 0.25, 0.0),
        split: str = "train",
        seed: int = 0,
        placed: float = 0.6,
    ) -> None:
        if split not in ("train", "test"):
            raise UserError(f"data set scenes: no split {split!r}{nearest(split, ('train', 'test'))}")
        if len(objects) != 3 or min(objects) < 0 or abs(sum(objects) - 1) > 1e-6:
            raise UserError(f"data set scenes: objects={objects} must be the shares of 1, 2 and 3 objects and sum to 1")
        if not 0 <= placed <= 1:
            raise UserError(f"data set scenes: placed={placed} is no probability")
        if resolution < 8:
            raise UserError(f"data set scenes: resolution {resolution} is too low to tell shapes apart; take 8 or more")
        self.resolution = resolution
        self._shares = (objects[0], objects[0] + objects[1])
        self._placed = placed
        self._key = np.array([seed, split == "test"], np.uint64)

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Item:
        scene = self.scene(index)
        return Item(render(scene, self.resolution), scene.caption)

    def scene(self, index: int) -> Scene:
        """The ground truth of item ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"scenes are numbered from 0 to {len(self) - 1}; there is no {index}")
        # Counter-based: the key is the stream, the counter's second word the place in it, so any scene is drawn alone.
        bits = np.random.Philox(key=self._key, counter=np.array([0, index, 0, 0], np.uint64))
        dice = iter(np.random.Generator(bits).random(32).tolist())
        u = next(dice)
        return _compose(1 + (u >= self._shares[0]) + (u >= self._shares[1]), self._placed, dice)

    def describe(self) -> str:
        return f"{self.name}: endless, {self.resolution} px"

    def fingerprint(self) -> str:
        return ""  # the settings are all there is

    def classes(self) -> list[str]:
        return []

    def meaning(self, caption: str) -> str:
        return meaning(caption)

    def flippable(self, caption: str) -> bool:
        return flippable(caption)


def coverage(shape: str, box: Box, resolution: int) -> np.ndarray:
    """The share of each pixel that the shape covers, float32 ``[resolution, resolution]``, from its signed distance."""
    centres = _pixel_centres(resolution)
    x, y = np.abs(centres - np.float32(box.x)), (centres - np.float32(box.y))[:, None]
    if shape == "circle":
        distance = np.sqrt(x * x + y * y) - box.width / 2
    elif shape == "square":
        distance = np.maximum(x, np.abs(y)) - box.width / 2
    else:
        # The sides' normals are (+-cos 30, -sin 30); the apex lies half a height above the box's centre.
        half = box.width * TRIANGLE_HEIGHT / 2
        distance = np.maximum(TRIANGLE_HEIGHT * x - 0.5 * (y + half), y - half)
    return np.minimum(np.maximum(0.5 - resolution * distance, 0), 1)


def render(scene: Scene, resolution: int) -> np.ndarray:
    """Draw ``scene`` anti-aliased: uint8 ``[resolution, resolution, 3]``."""
    image = np.empty((resolution, resolution, 3), np.float32)
    image[:] = _shade(scene.background, scene.brightness)
    for thing, box in zip(scene.objects, scene.boxes, strict=True):
        image += coverage(thing.shape, box, resolution)[..., None] * (_shade(thing.color, scene.brightness) - image)
    return (image + 0.5).astype(np.uint8)


@lru_cache(maxsize=1 << 16)
def parse(caption: str) -> Statement:
    """What ``caption`` states: the exact inverse of the wordings.

    Raises:
        UserError: the caption is not in the scenes' grammar.
    """
    text = " ".join(caption.lower().split())
    for wrapping in _WRAPPING_PATTERNS:
        if found := wrapping.fullmatch(text):
            objects = tuple(Object(shape, color, size or None) for size, color, shape in _OBJECT.findall(found["body"]))
            form = _OBJECT.sub("@", found["body"])
            if form in _ARRANGEMENTS:
                return Statement(found["background"], objects, _ARRANGEMENTS[form])
            if form in _PLACES:
                return Statement(found["background"], (replace(objects[0], position=_PLACES[form]),))
    raise UserError(f"not a caption of scenes: {caption!r}; one is 'a big red circle left of a blue square on white'")


@lru_cache(maxsize=1 << 16)
def meaning(caption: str) -> str:
    """A key that two captions share exactly when they state the same, whatever the wording and order."""
    said = parse(caption)
    if said.relation in ("right of", "below"):
        opposite = "left of" if said.relation == "right of" else "above"
        said = replace(said, objects=said.objects[::-1], relation=opposite)
    elif said.relation is None:
        said = replace(said, objects=tuple(sorted(said.objects, key=str)))
    return f"{said.body} on {said.background}"


def flippable(caption: str) -> bool:
    """Whether the caption still holds when the picture is mirrored, that is, states neither left nor right."""
    return not {"left", "right"} & set(meaning(caption).split())


_COLOR = f"(?:{'|'.join(COLORS)})"
_OBJECT = re.compile(rf"a (?:(small|big) )?({_COLOR}) ({'|'.join(WIDTHS)})")
_WRAPPING_PATTERNS = [
    re.compile(wrapping.format(body="(?P<body>.+)", background=f"(?P<background>{_COLOR})")) for wrapping in WRAPPINGS
]
_PLACES = {f"@ {words}": position for position, words in POSITIONS.items()}
_ARRANGEMENTS = {"@": None, "@ and @": None, f"@, @ and @ {ROW}": ROW} | {f"@ {r} @": r for r in RELATIONS}
_RGB = {name: np.array(rgb, np.float32) for name, rgb in COLORS.items()}


@lru_cache
def _pixel_centres(resolution: int) -> np.ndarray:
    return ((np.arange(resolution) + 0.5) / resolution).astype(np.float32)


def _shade(color: str, brightness: float) -> np.ndarray:
    return np.minimum(_RGB[color] * np.float32(brightness), 255)


def _pick(options: Sequence[T], u: float) -> T:
    return options[int(u * len(options))]


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


def _compose(count: int, placed: float, dice: Iterator[float]) -> Scene:
    """The scene of ``count`` objects that these random numbers stand for."""
    palette = list(COLORS)
    background = palette.pop(int(next(dice) * len(palette)))
    sizes = _pick(SIZES[count], next(dice))
    objects, widths = [], []
    for size in sizes:
        shape, color = _pick(tuple(WIDTHS), next(dice)), palette.pop(int(next(dice) * len(palette)))
        objects.append(Object(shape, color, size))
        widths.append(WIDTHS[shape][size] * SCALE[count] * _between(0.93, 1, next(dice)))
    relation = None
    if count == 1:
        position = _pick(tuple(POSITIONS), next(dice)) if next(dice) < placed else None
        objects[0] = replace(objects[0], position=position)
        boxes = [_place(objects[0], widths[0], dice)]
    elif count == 2:
        relation = _pick(RELATIONS, next(dice))
        boxes = _pair(objects, widths, relation, dice)
    else:
        relation = ROW
        boxes = _row(widths, dice)
    scene = Scene(background, tuple(objects), relation, tuple(boxes), brightness=_between(0.95, 1.05, next(dice)))
    return replace(scene, caption=_caption(scene, dice))


def _caption(scene: Scene, dice: Iterator[float]) -> str:
    """State the scene, leaving out sizes half of the time and the relation of two objects in one of five."""
    said: Statement = scene
    if next(dice) < 0.5:
        said = replace(said, objects=tuple(replace(thing, size=None) for thing in said.objects))
    if next(dice) < 0.2 and said.relation in RELATIONS:
        said = replace(said, relation=None)
    return _pick(WRAPPINGS, next(dice)).format(body=said.body, background=said.background)


def _extent(shape: str, width: float) -> tuple[float, float]:
    return width, width * TRIANGLE_HEIGHT if shape == "triangle" else width


def _place(thing: Object, width: float, dice: Iterator[float]) -> Box:
    """One object: near the edge that its position names, in the centre, or anywhere."""
    u, v = next(dice), next(dice)
    least_x, least_y = (MARGIN + extent / 2 for extent in _extent(thing.shape, width))
    if thing.position is None:
        return Box(_between(least_x, 1 - least_x, u), _between(least_y, 1 - least_y, v), width)
    x, y = _between(0.44, 0.56, u), _between(0.44, 0.56, v)
    if thing.position == "left":
        x = _between(least_x, least_x + 0.06, u)
    elif thing.position == "right":
        x = 1 - _between(least_x, least_x + 0.06, u)
    elif thing.position == "top":
        y = _between(least_y, least_y + 0.06, v)
    elif thing.position == "bottom":
        y = 1 - _between(least_y, least_y + 0.06, v)
    return Box(x, y, width)


def _pair(objects: Sequence[Object], widths: Sequence[float], relation: str, dice: Iterator[float]) -> list[Box]:
    """Two objects, one after the other along the relation's axis, about level with each other across it."""
    upright = relation in ("above", "below")
    order = (0, 1) if relation in ("left of", "above") else (1, 0)
    extents = [_extent(thing.shape, width)[upright] for thing, width in zip(objects, widths, strict=True)]
    slack = 1 - 2 * MARGIN - GAP - sum(extents)
    start = MARGIN + slack / 2 * next(dice)
    boxes: dict[int, Box] = {}
    for i in order:
        along, across = start + extents[i] / 2, _between(0.4, 0.6, next(dice))
        boxes[i] = Box(*((across, along) if upright else (along, across)), widths[i])
        start += extents[i] + GAP + slack / 2 * next(dice)
    return [boxes[0], boxes[1]]


def _row(widths: Sequence[float], dice: Iterator[float]) -> list[Box]:
    """Three objects from left to right; the middle one stands higher or lower, since three abreast would be tiny."""
    levels = [0.25, 0.75] if next(dice) < 0.5 else [0.75, 0.25]
    return [
        Box(x + _between(-0.01, 0.01, next(dice)), levels[i % 2] + _between(-0.05, 0.05, next(dice)), width)
        for i, (x, width) in enumerate(zip((0.2, 0.5, 0.8), widths, strict=True))
    ]
