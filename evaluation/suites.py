"""Suites and variants as evaluation may see them: the YAML files of ``ablations``, read as data.

What an override means is the registry's business; here it is a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.declared import needs
from evaluation.protocols import Protocol, load, names
from gigagan.config import DataConfig, parse_overrides
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

FOLDER = Path(__file__).resolve().parent.parent / "ablations"
BROUGHT = ("shards", "images", "annotations", "weights", "models")
"""What the user brings: folders that overrides name as ``{shards}``, keys of ``snakemake --config``."""

RUNS = ("variants", "models", "rivals", "pretrained")
"""Files of entries that are runs of a suite which lists them under the same name."""

HERE = ("judge", "judge_crop", "judge_image", "judge_text", "judge_distance", "pyramid", "psnr", "ssim")
"""Features that a suite's judge gives, or that need no weights; all others are of networks that do not ship."""


@dataclass(frozen=True)
class Suite:
    """What of an entry of suites.yaml rows depend on."""

    name: str
    variants: tuple[str, ...]  # and models of the paper, rivals and pretrained models that are runs, too
    protocols: tuple[str, ...]
    overrides: tuple[str, ...]
    judge: str
    trains_clips: bool  # the suite's own, before its models
    pretrained: tuple[str, ...] = ()  # those of its variants that are pretrained models

    @property
    def on_photographs(self) -> bool:
        """Whether its protocols say themselves what the reference is. Raises UserError for an unknown one."""
        return any(load(name).dataset for name in self.protocols)

    @property
    def brought(self) -> list[str]:
        """What of BROUGHT its overrides name, its protocols are scored on, or its runs are."""
        named = {key for key in BROUGHT if any(f"{{{key}}}" in o for o in (*self.overrides, self.judge))}
        scored = {"images", "annotations"} if self.on_photographs else set()
        drawn = {"models"} if self.pretrained else set()
        return [key for key in BROUGHT if key in named | scored | drawn]

    @property
    def data(self) -> DataConfig:
        """Its data set. Raises UserError where the configuration refuses it."""
        try:
            return parse_overrides([o for o in self.overrides if o.startswith("data.")]).data
        except UserError as e:
            raise UserError(f"suites.yaml: {self.name}: {e.message}") from None


def read(folder: Path = FOLDER) -> dict[str, Suite]:
    """Every suite by name. Raises UserError for one without what rows depend on, or of unknown variants."""
    known, found = {key: entries(folder / f"{key}.yaml") for key in RUNS}, {}
    for name, entry in entries(folder / "suites.yaml").items():
        where = f"suites.yaml: {name}"
        lists = {key: _texts(entry.get(key), f"{where}: {key}") for key in ("variants", "protocols", "overrides")}
        own = {"variants": lists["variants"]}
        own |= {key: _texts(entry.get(key, []), f"{where}: {key}") for key in RUNS if key not in own}
        for key, runs in own.items():
            for run in runs:
                if run not in known[key]:
                    raise UserError(f"{where}: no {key.rstrip('s')} {run!r}{nearest(run, known[key])}")
        scored = [load(protocol) for protocol in lists["protocols"] if protocol in names()]
        judged = any("judge" in (protocol.extractor, protocol.clip) for protocol in scored)
        if not isinstance(judge := entry.get("judge", None if judged else ""), str):
            raise UserError(f"{where}: judge: must be the name of a CLIP")
        lists["variants"] = tuple(run for key in RUNS for run in own[key])
        trains_clips = bool(entry.get("pretrain"))
        found[name] = Suite(name, **lists, judge=judge, trains_clips=trains_clips, pretrained=own["pretrained"])
        _ = found[name].data
    return found


def suite(name: str, folder: Path = FOLDER) -> Suite:
    """One suite. Raises UserError for an unknown one, with the nearest known name."""
    known = read(folder)
    if name not in known:
        raise UserError(f"no suite {name!r} in suites.yaml{nearest(name, known)}")
    return known[name]


def entries(path: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of a file of ``RUNS`` or of suites.yaml by name, without the parts that begin with a dot.

    Raises UserError where the file is no map of names to fields, or where a parent is unknown.
    """
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: must map names to entries")
    named = {str(name): entry for name, entry in found.items() if not str(name).startswith(".")}
    for name, entry in named.items():
        if not isinstance(entry, dict):
            raise UserError(f"{path.name}: {name}: must have fields, not {entry!r}")
        for key in ("parent", "start"):
            elder = entry.get(key)
            if elder is not None and elder not in named:
                raise UserError(f"{path.name}: {name}: unknown {key} {elder!r}{nearest(str(elder), named)}")
        for override in _texts(entry.get("overrides", []), f"{path.name}: {name}: overrides"):
            if not re.match(r"\w+\.\w+=", override):
                raise UserError(f"{path.name}: {name}: {override!r} is no override: write section.field=value")
    return named


def _texts(given: Any, where: str) -> tuple[str, ...]:
    """Lists within lists (YAML anchors) joined. Raises UserError for anything else than texts."""
    if not isinstance(given, list):
        raise UserError(f"{where}: must be a list of texts")
    flat: list[str] = []
    for part in given:
        if not isinstance(part, list | str):
            raise UserError(f"{where}: must be a list of texts, not {part!r}")
        flat += _texts(part, where) if isinstance(part, list) else [part]
    return tuple(flat)


def elsewhere(protocol: Protocol) -> list[str]:
    """The features that a protocol wants of networks which do not ship."""
    names = {protocol.extractor, protocol.clip} - {None}
    names |= {need for metric in protocol.metrics for need in needs(metric, protocol.extractor, protocol.clip)}
    return sorted(names - set(HERE))
