"""Variants, suites and the paper's models, resolved: parents, overrides, and what of them belongs together."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ablations import pretrained
from ablations.entries import EACH, Model, Rival, Suite, Variant, read
from ablations.sizes import matched
from evaluation.rivals import config as configs
from gigagan.config import OWN, Config, parse_overrides, to_dict
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml
from gigagan.pretrained import of_clip

HERE = Path(__file__).parent
PROTOCOLS = HERE.parent / "evaluation" / "protocols.yaml"

# What rivals share with the model that a suite is about, unless their `own` says otherwise: data, text, budget.
SHARED = ("data.", "text.clip=", "train.kimg=", "train.batch=", "train.micro_batch=",
          "train.dtype=", "train.threads=")  # fmt: skip

KINDS = ("models", "rivals", "pretrained")
"""Fields of a suite that list runs which are no variants."""

Entry = TypeVar("Entry", Variant, Model, Rival)


@functools.cache
def variants() -> dict[str, Variant]:
    """Every variant by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("variants.yaml", Variant)


@functools.cache
def models() -> dict[str, Model]:
    """Every model of the paper by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("models.yaml", Model)


@functools.cache
def rivals() -> dict[str, Rival]:
    """Every rival by name. Raises UserError for an unknown start or family, or a circle of starts."""
    found = _related("rivals.yaml", Rival)
    for entry in found.values():
        try:
            configs.kind(entry.family)
        except UserError as e:
            raise UserError(f"rivals.yaml: {entry.name}: {e.message}") from None
    return found


def lineage(name: str) -> list[Rival]:
    """A rival and what it starts from, eldest first. Raises UserError, with the nearest known name."""
    return _line(name, rivals())


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


@functools.cache
def protocols() -> dict[str, dict[str, Any]]:
    """Protocols of images by name, as evaluation/protocols.yaml writes them."""
    return read_yaml(PROTOCOLS)["images"]


def suite(name: str) -> Suite:
    """One suite, checked to the last override before anything runs. Raises UserError, with the nearest known name."""
    if name not in suites():
        raise UserError(f"unknown suite {name!r}{nearest(name, suites())}")
    found = suites()[name]
    try:
        _check_names(found)
        _check_protocols(found)
    except UserError as e:
        raise UserError(f"suites.yaml: {name}: {e.message}") from None
    for where in (found, on_gpu(found)):
        _check(where, (*where.trained, *started(where)))
    _check_upsampler(found)
    _check_pretrained(found)
    return found


def on_photographs(of: Suite) -> bool:
    """Whether a suite is scored on folders of photographs under the papers' protocols, which say themselves what the
    reference is, rather than on what its own data set holds out."""
    return any(protocols()[name].get("dataset") for name in of.protocols)


def _check_names(of: Suite) -> None:
    """Raises UserError where a field names a model or a run that there is not."""
    if not of.runs:
        raise UserError("there is nothing to run: name variants, models, rivals or pretrained models")
    listed = {"model": (of.model,), "models": of.models, "upsampler": (of.upsampler,), "rivals": of.rivals}
    kinds = {"rivals": ("rival", rivals()), "pretrained": ("pretrained model", pretrained.pretrained())}
    for key, names in (listed | {"pretrained": of.pretrained}).items():
        kind, known = kinds.get(key, ("model", models()))
        for name in filter(None, names):
            if name not in known:
                raise UserError(f"{key}: unknown {kind} {name!r}{nearest(name, known)}")
    runs = (*of.runs, *filter(None, [of.upsampler]))
    if twice := [name for name in runs if runs.count(name) > 1]:
        raise UserError(f"{twice[0]} is a run twice: name it once among its runs and upsampler")
    every = (*of.trained, *filter(None, [of.upsampler]), *started(of))
    for key, named in (("steps", (*every, EACH)), ("own", every), ("on_gpu", (*every, EACH))):
        for name in getattr(of, key):
            if name not in named:
                raise UserError(f"{key}: {name!r} is no run of this suite{nearest(name, named)}")


def _check_protocols(of: Suite) -> None:
    """Raises UserError where a protocol is unknown, or does not go with the suite's other fields."""
    known = protocols()
    if unknown := [name for name in of.protocols if name not in known]:
        raise UserError(f"unknown protocol {unknown[0]!r}{nearest(unknown[0], known)}")
    for name in of.protocols:
        wanted = known[name]["images"], known[name]["reference"]
        if bool(known[name].get("dataset")) != on_photographs(of):
            raise UserError(f"{name}: a suite is scored on its own data or on photographs, not on both")
        if not on_photographs(of) and (of.samples, of.reference) != wanted:
            raise UserError(
                f"{name} scores {wanted[0]} samples against a reference of {wanted[1]}, not "
                f"{of.samples} against {of.reference}: set samples and reference so, or name another protocol"
            )
        if on_photographs(of) and not all(type(number) is int for number in wanted):
            raise UserError(f"{name} does not say how many images it scores: name another protocol")
        if "judge" in (known[name]["extractor"], known[name]["clip"]) and not of.judge:
            raise UserError(f"{name} is scored by a judge: name a CLIP as judge")
    if on_photographs(of) and (of.samples or of.reference):
        raise UserError("samples and reference are for the suite's own data: these protocols say theirs")


def _check_upsampler(of: Suite) -> None:
    """Raises UserError where a protocol wants larger pictures than the runs draw and nothing enlarges them, or where
    the upsampler does not take the runs' pictures."""
    if not on_photographs(of):
        if of.upsampler:
            raise UserError(f"suites.yaml: {of.name}: upsampler: enlarges for protocols on photographs alone")
        return
    sides = {name: configured(of, name).data.resolution for name in of.trained}
    larger = [name for name in of.protocols if protocols()[name]["side"] > min(sides.values(), default=math.inf)]
    if larger and not of.upsampler:
        raise UserError(
            f"suites.yaml: {of.name}: {larger[0]} scores pictures of {protocols()[larger[0]]['side']} px, and the runs "
            f"draw {min(sides.values())} px: name an upsampler"
        )
    if of.upsampler:
        _check(of, [of.upsampler])
        taken = configured(of, of.upsampler).upsampler.input
        if other := [name for name, side in sides.items() if side != taken]:
            raise UserError(
                f"suites.yaml: {of.name}: upsampler {of.upsampler} takes pictures of {taken} px, and {other[0]} draws "
                f"{sides[other[0]]} px"
            )


def _check_pretrained(of: Suite) -> None:
    """Raises UserError as ``pretrained.check``."""
    seen = {name: protocols()[name]["side"] for name in of.protocols} if on_photographs(of) else {}
    for where in (of, on_gpu(of)):
        own = {} if on_photographs(of) else {"its data set": parse_overrides(where.overrides).data.resolution}
        try:
            pretrained.check(of, seen | own, on_photographs(of))
        except UserError as e:
            raise UserError(f"suites.yaml: {of.name}: {e.message}") from None


def _check(of: Suite, names: Iterable[str]) -> None:
    """Raises UserError where a run is unknown or has overrides that the configuration refuses."""
    for name in names:
        if not _as_it_is(of, name) and name not in (*of.rivals, *started(of)):
            ancestry(name)
        try:
            configured(of, name)
        except UserError as e:
            raise UserError(f"suite {of.name}: {name}: {e.message}") from None


def chosen(of: Suite, names: str, seeds: str) -> Suite:
    """The suite with other runs and seeds, as a person lists them; nothing listed: its own.

    Raises UserError for an unknown variant, one that the suite's model has not got, or what is no list of seeds.
    """
    runs = tuple(dict.fromkeys(_listed("variants", names) or of.runs))
    if unknown := [run for run in runs if not of.trained and run not in of.pretrained]:
        raise UserError(f"unknown pretrained model {unknown[0]!r}{nearest(unknown[0], of.pretrained)}")
    _check(of, [run for run in runs if run not in of.pretrained])
    kinds = {key: tuple(name for name in runs if name in getattr(of, key)) for key in KINDS}
    others = tuple(name for name in runs if not any(name in listed for listed in kinds.values()))
    found = replace(of, variants=others, **kinds, seeds=tuple(_seeds(seeds) or dict.fromkeys(of.seeds)))
    if not found.trained and found.seeds != (pretrained.SEED,):
        raise UserError(f"seeds={seeds}: pretrained models are not trained: they have seed {pretrained.SEED} alone")
    return found


def recipe(of: Suite, run: str) -> list[str]:
    """The ``path=value`` strings that make a run of a suite: a variant, one of its models or rivals, or its upsampler.

    Raises UserError for an unknown name, and for a budget that is stated twice.
    """
    own = [*of.overrides, *of.own.get(run, ())]
    if run in (*of.rivals, *started(of)):
        strings = _rival(of, run)
    elif _as_it_is(of, run):
        strings = [*model(run), *own]
    else:
        strings = varied([*(model(of.model) if of.model else []), *own], run)
    steps = of.steps.get(run, of.steps.get(EACH))
    if steps is None:
        return strings
    if twice := [o for o in own if o.startswith("train.kimg=")]:
        raise UserError(f"two budgets, {steps} steps and {twice[0]}: leave one of them out")
    batch = configs.parse_overrides(family(of, run), strings).train.batch
    return [*strings, f"train.kimg={steps * batch / 1000:.12g}"]


def family(of: Suite, run: str) -> str:
    """The family of a run (evaluation/rivals/config.py)."""
    return rivals()[run].family if run in (*of.rivals, *started(of)) else OWN


def configured(of: Suite, run: str) -> Any:
    """A run's configuration, of its family. Raises UserError as ``recipe``, and for overrides that it refuses."""
    return configs.parse_overrides(family(of, run), recipe(of, run))


def on_gpu(of: Suite) -> Suite:
    """A suite with what it asks for besides where a GPU computes."""
    own = {run: (*of.own.get(run, ()), *of.on_gpu.get(run, ())) for run in {*of.own, *of.on_gpu} - {EACH}}
    return replace(of, overrides=(*of.overrides, *of.on_gpu.get(EACH, ())), own=own)


def trained_with(of: Suite, run: str) -> set[str]:
    """The pretrained weights that a run is trained with."""
    config = configured(of, run)
    if not isinstance(config, Config):
        return {of_clip(config.text.clip)} - {""}
    loss, vision = config.loss, config.vision
    clips = [config.text.clip] if config.condition.kind == "text" else []
    clips += [loss.clip_model] if loss.clip_weight else []
    clips += [vision.clip] if vision.weight else []
    lpips = loss.perceptual_weight and loss.perceptual == "lpips" and not loss.lpips_backbone
    return {of_clip(name) for name in clips if name} - {""} | ({"vgg16"} if lpips else set())


def steps(config: Any) -> int:
    """Of sampling, in a run's configuration: a GAN takes one."""
    return getattr(config.sampling, "steps", 1)


def started(of: Suite) -> list[str]:
    """Rivals that a suite trains because others of it start from them, though it does not compare them."""
    chains = (entry.name for name in of.rivals for entry in lineage(name))
    return [name for name in dict.fromkeys(chains) if name not in of.rivals]


def drawer(of: Suite, run: str) -> str:
    """The module that draws with a run."""
    others = (*of.rivals, *started(of), *of.pretrained)
    return "evaluation.rivals.sample" if run in others else "gigagan.sample"


def drawable(of: Suite, run: str) -> str:
    """The file of a run's folder with which it can be drawn: weights, or what says which pretrained model it is."""
    return "run.json" if run in of.pretrained else "weights.safetensors"


def _rival(of: Suite, run: str) -> list[str]:
    """Of a family that has GigaGAN's configuration, the suite's whole model without what the rival lacks; of others
    what all runs share. A rival's `own` are its and, but for the budget, those of all that it descends from."""
    entry = rivals()[run]
    whole = configs.kind(entry.family) is Config
    base = [*(model(of.model) if whole and of.model else []), *of.overrides]
    own = [o for elder in lineage(run) for o in of.own.get(elder.name, ()) if elder.name == run or not _budget(o)]
    return [*(o for o in base if whole or o.startswith(SHARED)), *entry.overrides, *own]


def _budget(override: str) -> bool:
    """Whether an override is of a run's own training rather than of its network."""
    return override.startswith("train.")


def _as_it_is(of: Suite, run: str) -> bool:
    """Whether a run is one of the paper's models rather than a variant of one."""
    return run in of.models or run == of.upsampler


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
        strings += _matched(tuple(strings), (*base, *line[0].overrides))
    return strings


@functools.cache
def _matched(strings: tuple[str, ...], full: tuple[str, ...]) -> tuple[str, ...]:
    """Found once, as it takes seconds."""
    return tuple(matched(list(strings), list(full)))


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
