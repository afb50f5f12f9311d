"""Variants, suites and the paper's models, resolved: parents, overrides, and what of them belongs together."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ablations.entries import Model, Suite, Variant, read
from ablations.sizes import matched
from gigagan.config import Config, parse_overrides, to_dict
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

HERE = Path(__file__).parent
PROTOCOLS = HERE.parent / "evaluation" / "protocols.yaml"

Entry = TypeVar("Entry", Variant, Model)


@functools.cache
def variants() -> dict[str, Variant]:
    """Every variant by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("variants.yaml", Variant)


@functools.cache
def models() -> dict[str, Model]:
    """Every model of the paper by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("models.yaml", Model)


def _related(file: str, kind: type[Entry]) -> dict[str, Entry]:
    found = read(HERE / file, kind)
    for name in found:
        _line(name, found)
    return found


def _line(name: str, among: dict[str, Entry]) -> list[Entry]:
    """An entry and its parents, eldest first."""
    line: list[Entry] = []
    step: str | None = name
    while step is not None:
        kind = type(next(iter(among.values()))).__name__.lower()
        if step not in among:
            whose = f"{kind}s.yaml: {line[-1].name}: unknown parent" if line else f"unknown {kind}"
            raise UserError(f"{whose} {step!r}{nearest(step, among)}")
        if any(entry.name == step for entry in line):
            raise UserError(f"{kind}s.yaml: {name}: its parents form a circle")
        line.append(among[step])
        step = among[step].parent
    return line[::-1]


def ancestry(name: str) -> list[Variant]:
    """A variant and its parents, eldest first. Raises UserError, with the nearest known name."""
    return _line(name, variants())


def model(name: str) -> list[str]:
    """The ``path=value`` strings that make one of the paper's models. Raises UserError, with the nearest known name."""
    return [o for entry in _line(name, models()) for o in entry.overrides]


@functools.cache
def suites() -> dict[str, Suite]:
    """Every suite by name."""
    return read(HERE / "suites.yaml", Suite)


def suite(name: str) -> Suite:
    """One suite, checked to the last override before anything runs. Raises UserError, with the nearest known name."""
    if name not in suites():
        raise UserError(f"unknown suite {name!r}{nearest(name, suites())}")
    found = suites()[name]
    known = read_yaml(PROTOCOLS)["images"]
    for protocol in found.protocols:
        if protocol not in known:
            raise UserError(f"suites.yaml: {name}: unknown protocol {protocol!r}{nearest(protocol, known)}")
        wanted = known[protocol]["images"], known[protocol]["reference"]
        if (found.samples, found.reference) != wanted:
            raise UserError(
                f"suites.yaml: {name}: {protocol} scores {wanted[0]} samples against a reference of {wanted[1]}, not "
                f"{found.samples} against {found.reference}: set samples and reference so, or name another protocol"
            )
    _check(found, found.variants)
    return found


def _check(of: Suite, names: Iterable[str]) -> None:
    """Raises UserError where a variant is unknown or has overrides that the configuration refuses."""
    for name in names:
        overrides = recipe(of, name)
        try:
            parse_overrides(overrides)
        except UserError as e:
            raise UserError(f"suite {of.name}: {name}: {e.message}") from None


def chosen(of: Suite, variants: str, seeds: str) -> Suite:
    """The suite with other variants and seeds, as a person lists them; nothing listed: its own.

    Raises UserError for an unknown variant, one that the suite's model has not got, or what is no list of seeds.
    """
    names = tuple(dict.fromkeys(_listed("variants", variants) or of.variants))
    _check(of, names)
    return replace(of, variants=names, seeds=tuple(_seeds(seeds) or dict.fromkeys(of.seeds)))


def recipe(of: Suite, variant: str) -> list[str]:
    """The ``path=value`` strings that make a variant in a suite."""
    return varied(of.overrides, variant)


def varied(base: Iterable[str], name: str) -> list[str]:
    """The ``path=value`` strings of a variant: those of what it is a variant of, its ancestors', its own, and widths
    where it is to be as large as the eldest of them."""
    line, strings = ancestry(name), list(base)
    for variant in line:
        before = parse_overrides(strings)
        own = [_without(override, before, variant.name) for override in variant.overrides]
        if own and parse_overrides([*strings, *own]) == before:
            raise UserError(_nothing_to_take(variant.name, ", ".join(own)))
        strings += own
    if line[-1].match:
        strings += matched(strings, [*base, *line[0].overrides])
    return strings


def _without(override: str, config: Config, variant: str) -> str:
    """An override as ``path=value``: ``path=-part`` takes a part out of what ``config`` has there, as self out of
    self+cross.

    Raises UserError where that part is not there, or where an ablation would add what the model has none of.
    """
    path, _, value = override.partition("=")
    if path not in settings(config):
        return override  # parse_overrides says what is wrong with it
    there = settings(config)[path]
    if value.startswith("-") and isinstance(there, str):
        parts = there.split("+")
        if value[1:] not in parts:
            raise UserError(_nothing_to_take(variant, f"{path}={there}"))
        return f"{path}={'+'.join(part for part in parts if part != value[1:]) or 'none'}"
    if there == "none":
        raise UserError(_nothing_to_take(variant, f"{path}={there}"))
    return override


def _nothing_to_take(variant: str, there: str) -> str:
    return f"{variant}: this model has nothing of what that variant takes out ({there}): choose another"


def difference(a: Config, b: Config) -> list[str]:
    """The settings in which two configs differ, as ``path: old -> new``."""
    left = settings(a)
    return [f"{path}: {left[path]} -> {value}" for path, value in settings(b).items() if left[path] != value]


def settings(config: Config) -> dict[str, Any]:
    """Every value by its path."""
    return {f"{section}.{name}": value for section, values in to_dict(config).items() for name, value in values.items()}


def _listed(key: str, text: str) -> list[str]:
    """``a, b`` -> [a, b]; nothing for an empty text. Raises UserError for commas alone."""
    parts = [part for part in map(str.strip, text.split(",")) if part]
    if text.strip() and not parts:
        raise UserError(f"{key}={text}: nothing between the commas: name some, or leave it empty for the suite's own")
    return parts


def _seeds(text: str) -> list[int]:
    """``0-3,8,0`` -> [0, 1, 2, 3, 8]; nothing for an empty text. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in _listed("seeds", text):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"seeds={text}: write numbers or ranges separated by commas, as 0-7 or 0,3")
        more = range(int(first), int(last if dash else first) + 1)
        if not more:
            raise UserError(f"seeds={text}: no seeds from {first} to {last}: write the smaller number first")
        seeds += more
    return list(dict.fromkeys(seeds))
