"""Protocols: how a number came about, as data with a name, a version and a hash. See protocols.yaml."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from evaluation.declared import CLIP_RESIZES, EXTRACTORS, GROUPS, METRICS, check_metrics, needs
from gigagan.errors import UserError, nearest

FILE = Path(__file__).with_name("protocols.yaml")


ANY = "any"
CROPS = ("none", "centre")
RESIZES = ("none", "lanczos", "bicubic", "bilinear", "box")


@dataclass(frozen=True)
class Protocol:
    """How images are scored; protocols.yaml explains the fields."""

    name: str
    title: str
    images: int | Literal["any"]
    reference: int | Literal["any"]
    captions: str
    seeds: str
    crop: str
    resize: str
    extractor: str
    extractor_resize: str
    clip: str | None
    prefix: str
    metrics: tuple[str, ...]
    # Younger than the first records, and therefore no part of the hash where a protocol does without them:
    side: int | None = None
    dataset: str = ""
    reference_pin: str = ""
    list: str = ""
    clip_resize: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    disjoint: bool = False
    # No part of the hash: they change no number, only who may have one and what is said of it.
    marks: bool = False
    gates: Mapping[str, tuple[float, float]] = field(default_factory=dict)


UNHASHED = ("title", "marks", "gates")
YOUNGER = (
    *("side", "dataset", "reference_pin", "list", "clip_resize", "settings", "disjoint"),
    *("batch", "batches", "sweep_rounds", "most_pixels", "matrix"),
)
"""Fields of a protocol that have a say in its hash only where they say anything."""


@dataclass(frozen=True)
class CaptionList:
    """A list of captions by its checksum; protocols.yaml explains the fields."""

    name: str
    title: str
    captions: int
    sha256: str
    file_sha256: str = ""


@dataclass(frozen=True)
class SpeedProtocol:
    """How speed is measured; protocols.yaml explains the fields."""

    name: str
    title: str
    warm_up: int
    rounds: int
    batch: int = 0
    batches: tuple[int, ...] = ()
    sweep_rounds: int = 0
    most_pixels: int = 0
    matrix: int = 0

    def sweep(self, resolution: int) -> list[int]:
        """Batches whose throughput is measured of pictures of that size."""
        most = self.most_pixels // resolution**2 if self.most_pixels else max(self.batches, default=0)
        return [n for n in self.batches if n <= max(most, 1)] or [self.batch]


def names(speeds: bool = True) -> list[str]:
    """Of all protocols in the file's order, those of speed last; or of those alone that score images."""
    return [*_entries()["images"], *(_entries()["speed"] if speeds else ())]


def load(name: str) -> Protocol:
    """The protocol called ``name``, version included. Raises UserError for an unknown one, with the nearest known."""
    return _find(name, "images", Protocol)


def load_speed(name: str) -> SpeedProtocol:
    """As ``load``, for speed."""
    return _find(name, "speed", SpeedProtocol)


def load_list(name: str) -> CaptionList:
    """As ``load``, for lists of captions."""
    return _find(name, "lists", CaptionList)


def list_of(captions: Sequence[str]) -> CaptionList | None:
    """The known list that these captions are, in this order."""
    found = captions_sha(captions)
    return next((known for known in map(load_list, _entries()["lists"]) if known.sha256 == found), None)


def captions_sha(captions: Sequence[str]) -> str:
    """SHA-256 of a list of captions, whatever file they stand in: each single-spaced, in UTF-8, with a newline.

    No tokenizer sees more than one space, and some files keep them where others do not.
    """
    return hashlib.sha256("".join(f"{' '.join(caption.split())}\n" for caption in captions).encode()).hexdigest()


def sha(protocol: Protocol, data: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    """12 hex digits over everything that changes a score.

    ``data`` is what evaluation.reference says of the held-out images (data set, resolution, ...). ``weights`` maps
    extractors to what identifies them (a network's weight hash, the version of a fixed one); those that take no part in
    the protocol do not matter, so that a new judge leaves caption-blind rows comparable.
    """
    return _sha(protocol, dict(data), networks(protocol, weights))


def networks(protocol: Protocol, weights: Mapping[str, str]) -> dict[str, str]:
    """Those of ``weights`` that take part in a protocol."""
    used = {name: weights[name] for name in (protocol.extractor, protocol.clip) if name and name != "none"}
    own = (need for name in protocol.metrics for need in needs(name, protocol.extractor, protocol.clip))
    return used | {need: weights[need] for need in own if need in weights}  # a metric's own network


def speed_sha(protocol: SpeedProtocol, resolution: int) -> str:
    """12 hex digits over everything that changes a speed, but for the machine, which has columns of its own."""
    return _sha(protocol, resolution)


def _sha(protocol: Any, *context: Any) -> str:
    wording = {
        name: value
        for name, value in dataclasses.asdict(protocol).items()
        if name not in UNHASHED and (value or name not in YOUNGER)
    }
    return hashlib.sha256(json.dumps([wording, *context], sort_keys=True).encode()).hexdigest()[:12]


@cache
def _entries() -> dict[str, dict[str, dict[str, Any]]]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def _find(name: str, section: str, kind: Any) -> Any:
    known = _entries()[section]
    if name not in known:
        raise UserError(f"unknown protocol {name!r}{nearest(name, known)}")
    given, fields = known[name], {f.name: f for f in dataclasses.fields(kind) if f.name != "name"}
    without = dataclasses.MISSING
    needed = {key for key, f in fields.items() if f.default is without and f.default_factory is without}
    if wrong := (given.keys() - fields) | (needed - given.keys()):
        raise UserError(f"{FILE.name}: {name}: missing or unknown fields: {', '.join(sorted(wrong))}")
    made = kind(name=name, **{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    if isinstance(made, Protocol | SpeedProtocol):
        try:
            (_check if isinstance(made, Protocol) else _check_speed)(made)
        except UserError as e:
            raise UserError(f"{FILE.name}: {name}: {e.message}") from None
    return made


def _check_speed(protocol: SpeedProtocol) -> None:
    """Raises UserError for one that could not be measured."""
    if bool(protocol.batch) == bool(protocol.batches):
        raise UserError("batches: say either one batch, or the batches of a sweep")
    sweep = list(protocol.batches)
    if sweep and not (all(type(n) is int and n > 0 for n in sweep) and sweep == sorted(set(sweep)) and sweep[0] == 1):
        raise UserError(f"batches: must rise from 1, not {sweep}")
    if protocol.rounds < 1 or (sweep and not 1 <= protocol.sweep_rounds <= protocol.rounds):
        raise UserError("rounds: must be at least 1, and those of the sweep no more than those of latency")


def compares(protocol: Protocol) -> bool:
    """Whether any of its metrics is against a reference."""
    return any(METRICS[GROUPS.get(name, (name,))[0]].reference for name in protocol.metrics)


def _check(protocol: Protocol) -> None:
    """Raises UserError for a protocol that contradicts itself or asks for what nobody does."""
    choices = {"crop": CROPS, "resize": RESIZES, "extractor": EXTRACTORS, "clip_resize": ("", *CLIP_RESIZES)}
    for key, known in choices.items():
        if (value := getattr(protocol, key)) not in known:
            raise UserError(f"{key}: nothing is called {value!r}{nearest(value, known)}")
    if protocol.extractor_resize != EXTRACTORS[protocol.extractor]:
        raise UserError(f"extractor_resize: that of {protocol.extractor} is {EXTRACTORS[protocol.extractor]!r}")
    for key in ("images", "reference", "side"):
        value = getattr(protocol, key)
        allowed = (ANY,) if key != "side" else (None,)
        if key == "reference" and value == 0 and not compares(protocol):
            continue
        if value not in allowed and not (type(value) is int and value > 0):
            raise UserError(f"{key}: must be a positive whole number, not {value!r}")
    if protocol.side and protocol.resize == "none":
        raise UserError("side: pictures do not come to be of a size without a resize")
    if protocol.list and load_list(protocol.list).captions != protocol.images:
        raise UserError(f"list: {protocol.list} has other than {protocol.images} captions")
    check_metrics(protocol.metrics, protocol.extractor, protocol.clip)
    for key in ("settings", "gates"):
        if unknown := getattr(protocol, key).keys() - set(protocol.metrics):
            raise UserError(f"{key}: {min(unknown)} is none of its metrics")
    for metric, (low, high) in protocol.gates.items():
        if not low < high:
            raise UserError(f"gates: {metric}: {low} is not below {high}")
