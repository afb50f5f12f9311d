"""Configurations as ``path=value`` strings over defaults: read, checked and written, for frozen, nested dataclasses.

A configuration is a dataclass of sections, each a dataclass of values; ``generator.kernels=1`` is a path and a value.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from gigagan.errors import UserError, nearest

C = TypeVar("C")


def parse(overrides: Sequence[str], base: C) -> C:
    """``["train.kimg=20", ...]`` over ``base``.

    Raises UserError for a string that is no ``path=value``, an unknown path (with the nearest known one) or a value of
    the wrong type.
    """
    sections = _fields(type(base))
    tree: dict[str, dict[str, Any]] = {section: {} for section in sections}
    kinds = {f"{s}.{f}": kind for s, fs in sections.items() for f, kind in fs.items()}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"{override!r} is no override: write path=value, as in train.kimg=20")
        if path not in kinds:
            raise UserError(f"unknown override {path!r}{nearest(path, kinds)}")
        section, name = path.split(".")
        tree[section][name] = _value(text, kinds[path], path)
    return type(base)(**{s: dataclasses.replace(getattr(base, s), **values) for s, values in tree.items()})


def paths(kind: type) -> list[str]:
    """Every path of a configuration."""
    return [f"{section}.{name}" for section, names in _fields(kind).items() for name in names]


def difference(config: C, defaults: C) -> list[str]:
    """The shortest list of overrides that makes ``config`` out of ``defaults``; the inverse of ``parse``."""
    return [
        f"{section}.{name}={written(value)}"
        for section, names in _fields(type(config)).items()
        for name in names
        if (value := getattr(getattr(config, section), name)) != getattr(getattr(defaults, section), name)
    ]


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def restored(values: Mapping[str, Mapping[str, Any]], kind: type[C]) -> C:
    """Inverse of ``to_dict`` (through JSON too, where tuples became lists). Raises UserError for unknown names."""
    flat = [
        f"{section}.{name}={written(tuple(v) if isinstance(v, list) else v)}"
        for section, names in values.items()
        for name, v in names.items()
    ]
    return parse(flat, kind())


def check_bounds(config: Any, bounds: Mapping[str, str], may_be_empty: Sequence[str] = ()) -> None:
    """Every number (and entry of a tuple) against its interval: an end with [ or ] belongs to it, one with ( or ) does
    not. Raises UserError for the first that is outside, and for a tuple of none unless its name is ``may_be_empty``."""
    for path, interval in bounds.items():
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        values = value if isinstance(value, tuple) else (value,)
        if (values or name not in may_be_empty) and (wanted := _outside(values, interval)):
            raise UserError(f"{path}={written(value)}: must be {wanted}")


def written(value: Any) -> str:
    """A value as the text that ``parse`` reads it from."""
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fields(kind: type) -> dict[str, dict[str, Any]]:
    return {name: typing.get_type_hints(part) for name, part in typing.get_type_hints(kind).items()}


def _outside(values: tuple[float, ...], interval: str) -> str:
    """Nothing where there are ``values`` and all lie within ``interval``, else what they must be."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above, below = interval[0] == "(", interval[-1] == ")"

    def within(value: float) -> bool:  # NaN is not; infinity is below no end
        return (value > low if above else value >= low) and (value < high if below else value <= high)

    if values and all(within(value) for value in values):
        return ""
    words = "" if all(math.isfinite(value) for value in values) else "finite and "
    words += f"{'above' if above else 'at least'} {low:g}"
    return words if math.isinf(high) else f"{words} and {'below' if below else 'at most'} {high:g}"


def _value(text: str, kind: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    try:
        if origin is Literal:
            if text not in typing.get_args(kind):
                raise UserError(f"{path}={text}: no such choice{nearest(text, typing.get_args(kind))}")
            return text
        if origin is tuple:
            entry = typing.get_args(kind)[0]
            parts = [part for part in text.strip("[]() ").split(",") if part.strip()]
            return tuple(_value(part.strip(), entry, path) for part in parts)
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        name = getattr(kind, "__name__", str(kind))
        raise UserError(f"{path}={text}: {text!r} is not a {name}") from None
