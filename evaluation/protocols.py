"""Protocols: how a number came about, as data with a name, a version and a hash. See protocols.yaml."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from evaluation.declared import needs
from gigagan.errors import UserError, nearest

FILE = Path(__file__).with_name("protocols.yaml")


@dataclass(frozen=True)
class Protocol:
    """How images are scored; protocols.yaml explains the fields."""

    name: str
    title: str
    images: int
    reference: int
    captions: str
    seeds: str
    crop: str
    resize: str
    extractor: str
    extractor_resize: str
    clip: str | None
    prefix: str
    metrics: tuple[str, ...]
    marks: bool = False  # no part of the hash: it changes no number, only who may have one


@dataclass(frozen=True)
class SpeedProtocol:
    """How speed is measured; protocols.yaml explains the fields."""

    name: str
    title: str
    batch: int
    warm_up: int
    rounds: int


def load(name: str) -> Protocol:
    """The protocol called ``name``, version included. Raises UserError for an unknown one, with the nearest known."""
    return _find(name, "images", Protocol)


def load_speed(name: str) -> SpeedProtocol:
    """As ``load``, for speed."""
    return _find(name, "speed", SpeedProtocol)


def sha(protocol: Protocol, data: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    """12 hex digits over everything that changes a score.

    ``data`` is what evaluation.reference says of the held-out images (data set, resolution, ...). ``weights`` maps
    extractors to what identifies them (a network's weight hash, the version of a fixed one); those that take no part in
    the protocol do not matter, so that a new judge leaves caption-blind rows comparable.
    """
    return _sha(protocol, dict(data), networks(protocol, weights))


def networks(protocol: Protocol, weights: Mapping[str, str]) -> dict[str, str]:
    """Those of ``weights`` that take part in a protocol."""
    used = {name: weights[name] for name in (protocol.extractor, protocol.clip) if name}
    own = (need for name in protocol.metrics for need in needs(name, protocol.extractor, protocol.clip))
    return used | {need: weights[need] for need in own if need in weights}  # a metric's own network


def speed_sha(protocol: SpeedProtocol, resolution: int) -> str:
    """12 hex digits over everything that changes a speed, but for the machine, which has columns of its own."""
    return _sha(protocol, resolution)


def _sha(protocol: Any, *context: Any) -> str:
    wording = {name: value for name, value in dataclasses.asdict(protocol).items() if name not in ("title", "marks")}
    return hashlib.sha256(json.dumps([wording, *context], sort_keys=True).encode()).hexdigest()[:12]


@cache
def _entries() -> dict[str, dict[str, dict[str, Any]]]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def _find(name: str, section: str, kind: Any) -> Any:
    known = _entries()[section]
    if name not in known:
        raise UserError(f"unknown protocol {name!r}{nearest(name, known)}")
    given, fields = known[name], {field.name: field for field in dataclasses.fields(kind) if field.name != "name"}
    needed = {key for key, field in fields.items() if field.default is dataclasses.MISSING}
    if wrong := (given.keys() - fields) | (needed - given.keys()):
        raise UserError(f"{FILE.name}: {name}: missing or unknown fields: {', '.join(sorted(wrong))}")
    for metric in given.get("metrics", ()):
        needs(metric, given["extractor"], given["clip"])  # raises UserError for an unknown one
    return kind(name=name, **{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
