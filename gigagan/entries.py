"""Entries of a YAML file as frozen dataclasses: every field is checked against its declared type."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

T = TypeVar("T")
WORDS = {str: ("text", "texts"), int: ("a whole number", "whole numbers"), bool: ("true or false", "true or false"),
         float: ("a number", "numbers")}  # fmt: skip


def read(
    path: Path, kind: type[T], may_be_empty: Collection[str] = (), least: Mapping[str, int] | None = None
) -> dict[str, T]:
    """Every entry by name, but for those that begin with a dot.

    Args:
        kind: a dataclass with a field ``name``, which an entry's own name fills.
        may_be_empty: fields that may be given and yet hold nothing.
        least: the least that a field's numbers may be.

    Raises:
        UserError: for whatever is wrong with an entry.
    """
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: must map names to entries")
    named = {str(name): entry for name, entry in found.items() if not str(name).startswith(".")}
    return {
        name: _entry(f"{path.name}: {name}", name, entry, kind, may_be_empty, least or {})
        for name, entry in named.items()
    }


def _entry(
    where: str, name: str, entry: Any, kind: type[T], may_be_empty: Collection[str], least: Mapping[str, int]
) -> T:
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
        if given[key] in ((), {}, "") and key not in may_be_empty:
            raise UserError(f"{where}: {key}: is empty")
        if key in least and min(_numbers(given[key]), default=least[key]) < least[key]:
            raise UserError(f"{where}: {key}: must be at least {least[key]}, not {_short(value)}")
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
        return " or ".join(_words(part, many) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"{'lists' if many else 'a list'} of {_words(parts[0], many=True)}"
    if origin is dict:
        return f"a map from {_words(parts[0], many=True)} to {_words(parts[1], many=True)}"
    return WORDS[kind][many]


def _short(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.60}"
