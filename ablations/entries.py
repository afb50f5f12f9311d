"""What an entry of variants.yaml, models.yaml, rivals.yaml and suites.yaml holds, and how it is read: every field is
checked against its declared type."""

from __future__ import annotations

import re
import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar

from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

T = TypeVar("T")
Device = Literal["auto", "cpu", "cuda"]
WORDS = {str: ("text", "texts"), int: ("a whole number", "whole numbers"), bool: ("true or false", "true or false"),
         float: ("a number", "numbers")}  # fmt: skip
LEAST = {
    "generator_m": 0,
    "discriminator_m": 0,
    "seeds": 0,
    "samples": 1,
    "reference": 1,
    "snapshots": 1,
    "pretrain": 1,
    "steps": 1,
}
MAY_BE_EMPTY = ("overrides", "pretrain", "expect")
EACH = "each"
"""Stands in ``Suite.steps`` for every run that is not named there."""


@dataclass(frozen=True)
class Variant:
    """An entry of variants.yaml."""

    name: str
    label: str
    overrides: tuple[str, ...]
    parent: str | None = None
    expect: str = ""  # what the paper leads one to expect
    match: bool = False  # widened until G and D have as many parameters as its eldest ancestor's


@dataclass(frozen=True)
class Model:
    """An entry of models.yaml: one of the paper's, at its size."""

    name: str
    label: str
    source: str
    overrides: tuple[str, ...]
    parent: str | None = None
    generator_m: float | None = None  # millions of parameters that the paper prints
    discriminator_m: float | None = None
    per_gpu: int = 0  # images a GPU holds at once, for the count of memory; 0 = not counted
    note: str = ""


@dataclass(frozen=True)
class Rival:
    """An entry of rivals.yaml: what GigaGAN is compared with, trained by the same trainer."""

    name: str
    label: str
    family: str
    overrides: tuple[str, ...]
    start: str | None = None  # the rival whose weights it begins with
    expect: str = ""

    @property
    def parent(self) -> str | None:
        return self.start


@dataclass(frozen=True)
class Suite:
    """An entry of suites.yaml: runs x seeds x data set x protocols x budget. A run is a variant, one of the paper's
    models as it is, or a rival."""

    name: str
    about: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    protocols: tuple[str, ...]
    judge: str = ""
    samples: int = 0
    reference: int = 0
    snapshots: int = 5
    device: Device = "auto"
    gate: bool = False
    pretrain: dict[Literal["conditioner", "judge"], int] = field(default_factory=dict)  # images to train CLIPs on first
    data: str = ""  # what is learned from and scored on, where a reader could take it for something else
    model: str = ""  # the entry of models.yaml that the variants are variants of
    models: tuple[str, ...] = ()  # entries of models.yaml that are runs, too
    upsampler: str = ""  # the entry of models.yaml that enlarges every run's samples, trained once
    steps: dict[str, int] = field(default_factory=dict)  # updates of a run, or of ``EACH``; times its batch: train.kimg
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)  # overrides of single runs
    rivals: tuple[str, ...] = ()  # entries of rivals.yaml that are runs, too
    on_gpu: dict[str, tuple[str, ...]] = field(default_factory=dict)  # further ones of runs, or of ``EACH``, on a GPU

    @property
    def runs(self) -> tuple[str, ...]:
        """What is compared: the variants, the models and the rivals."""
        return self.variants + self.models + self.rivals


def read(path: Path, kind: type[T]) -> dict[str, T]:
    """Every entry by name, but for those that begin with a dot. Raises UserError for whatever is wrong with one."""
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: must map names to entries")
    named = {str(name): entry for name, entry in found.items() if not str(name).startswith(".")}
    return {name: _entry(f"{path.name}: {name}", name, entry, kind) for name, entry in named.items()}


def _entry(where: str, name: str, entry: Any, kind: type[T]) -> T:
    known = {f.name: f for f in fields(kind) if f.name != "name"}  # type: ignore[arg-type]
    types = typing.get_type_hints(kind)
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):  # it becomes a folder, and a word of --config
        raise UserError(f"{where}: no name: begin with a letter, go on with letters, digits, _ and -")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must have fields ({', '.join(known)}), not {_short(entry)}")
    given = {}
    for key, value in entry.items():
        if key not in known:
            raise UserError(f"{where}: no field {key!r}{nearest(str(key), known)}")
        given[key] = _frozen(value, types[key])
        if not _is(given[key], types[key]):
            raise UserError(f"{where}: {key}: must be {_words(types[key])}, not {_short(value)}")
        if given[key] in ((), {}, "") and key not in MAY_BE_EMPTY:
            raise UserError(f"{where}: {key}: is empty")
        if key in LEAST and min(_numbers(given[key]), default=LEAST[key]) < LEAST[key]:
            raise UserError(f"{where}: {key}: must be at least {LEAST[key]}, not {_short(value)}")
    for key, f in known.items():
        if key not in given and f.default is f.default_factory is MISSING:
            raise UserError(f"{where}: lacks {key}, {_words(types[key])}")
    return kind(name=name, **given)


def _frozen(value: Any, kind: Any) -> Any:
    """Lists as tuples where a field, or a map's values, are declared so."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(value, dict):
        return {k: _frozen(v, parts[1]) for k, v in value.items()}
    return _flat(value) if origin is tuple and isinstance(value, list) else value


def _flat(values: list[Any]) -> tuple[Any, ...]:
    """Lists within lists (YAML anchors) joined."""
    return tuple(v for value in values for v in (_flat(value) if isinstance(value, list) else [value]))


def _numbers(value: Any) -> list[int]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else [value]


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a declared type; True is no number."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is UnionType:
        return any(_is(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(v, parts[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(k, parts[0]) and _is(v, parts[1]) for k, v in value.items())
    return type(value) is kind or (kind is float and type(value) is int)


def _words(kind: Any, many: bool = False) -> str:
    """A declared type as a user would say it."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(parts)
    if origin is UnionType:
        return _words(parts[0])
    if origin is tuple:
        return f"{'lists' if many else 'a list'} of {_words(parts[0], many=True)}"
    if origin is dict:
        return f"a map from {_words(parts[0], many=True)} to {_words(parts[1], many=True)}"
    return WORDS[kind][many]


def _short(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.60}"
