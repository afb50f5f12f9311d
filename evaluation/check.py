"""Everything that is committed and that scores rest on, validated.

    python -m evaluation.records check

Protocols, suites, variants, models, published numbers, rows and the gate's stored seeds, one line for each file. A
protocol's hash is computed again wherever all that it covers is committed: scenes are described by their suite's
settings, their judge ships, and a speed's hash covers the resolution alone. Photographs are not here: there the rows of
a suite under one protocol must only share one hash.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation import protocols, published, records, regression, suites
from evaluation.declared import GROUPS, METRICS, PAIRED
from evaluation.protocols import Protocol, SpeedProtocol
from evaluation.records import REAL, REFERENCES, RUNLESS, Row, describe
from evaluation.suites import Suite
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml, sha256

ROOT = Path(__file__).resolve().parent.parent
_NAMED = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*@[1-9]\d*")


def everything(folder: str | Path = ROOT / records.FOLDER, root: Path = ROOT) -> Iterator[str]:
    """A line for each file that is right, in turn.

    Args:
        folder: the rows.
        root: the project's folder, where the other files are.

    Raises:
        UserError: the first thing that is wrong.
    """
    known = _protocols()
    yield f"{_shown(protocols.FILE, root)}: {len(known)} protocols"
    for name in suites.RUNS:
        path = root / "ablations" / f"{name}.yaml"
        yield f"{_shown(path, root)}: {len(suites.entries(path))} {name}"
    seen = _Seen(root, known)
    yield f"{_shown(root / 'ablations' / 'suites.yaml', root)}: {len(seen.suites)} suites"
    tables = published.load(root / "evaluation" / "published.yaml")
    numbers = sum(number is not None for t in tables.values() for row in t.rows for number in row.numbers.values())
    yield f"{_shown(root / 'evaluation' / 'published.yaml', root)}: {len(tables)} tables, {numbers} numbers"
    for path in records.check(folder):
        yield f"{path}: {seen.rows(path)}"
    for path in sorted((root / "evaluation" / "expected").glob("*.json")):
        yield f"{_shown(path, root)}: {seen.stored(path)}"


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _protocols() -> dict[str, Protocol | SpeedProtocol]:
    """Every entry of protocols.yaml. Raises UserError for whatever is wrong with one."""
    found = read_yaml(protocols.FILE)
    loaders = {"images": protocols.load, "speed": protocols.load_speed}
    sections = {*loaders, "lists"}
    if not isinstance(found, dict) or found.keys() != sections or not all(map(_is_map, found.values())):
        raise UserError(f"{protocols.FILE.name}: must have the sections {', '.join(sorted(sections))}, and no other")
    for name in found["lists"]:
        protocols.load_list(name)
    known: dict[str, Protocol | SpeedProtocol] = {}
    for section, loader in loaders.items():
        for name in found[section]:
            if not _NAMED.fullmatch(str(name)):
                raise UserError(f"{protocols.FILE.name}: {name!r} is no name of a protocol: call it name@1")
            if name in known:
                raise UserError(f"{protocols.FILE.name}: {name} stands in both sections: call one otherwise")
            if not _is_map(found[section][name]):
                raise UserError(f"{protocols.FILE.name}: {name}: must have fields")
            known[name] = loader(name)
            for part, kind in typing.get_type_hints(type(known[name])).items():
                value = getattr(known[name], part)
                if kind is int and (type(value) is not int or value < 0):
                    raise UserError(f"{protocols.FILE.name}: {name}: {part} must be a whole number, not {value!r}")
    return known


@dataclass
class _Seen:
    """What rows and stored seeds are held against."""

    root: Path
    known: Mapping[str, Protocol | SpeedProtocol]
    hashes: dict[tuple[str, str, int | None], str | None] = field(default_factory=dict)

    @cached_property
    def variants(self) -> set[str]:
        folder = self.root / "ablations"
        return {*REFERENCES, *(run for name in suites.RUNS for run in suites.entries(folder / f"{name}.yaml"))}

    @cached_property
    def suites(self) -> dict[str, Suite]:
        """Raises UserError where a suite is scored by what is no protocol of images."""
        images = [name for name, protocol in self.known.items() if isinstance(protocol, Protocol)]
        found = suites.read(self.root / "ablations")
        for suite in found.values():
            for name in suite.protocols:
                if name not in images:
                    raise UserError(f"suites.yaml: {suite.name}: unknown protocol {name!r}{nearest(name, images)}")
        return found

    def rows(self, path: Path) -> str:
        """What the rows of a file are. Raises UserError for the first that does not belong there."""
        found, again = records.read([path]), 0
        shared: dict[tuple[Any, ...], Row] = {}
        for row in found:
            where = f"{path}: {describe(row)}"
            if row["suite"] not in self.suites:
                raise UserError(
                    f"{where}: no suite {row['suite']!r} in suites.yaml{nearest(row['suite'], self.suites)}"
                )
            self._fits(where, row["variant"], row["metric"], row["protocol"])
            dataset, side = self._of(row)
            if (row["dataset"], row.get("resolution")) != (dataset, side):
                raise UserError(
                    f"{where}: is of {row['dataset']} at {row.get('resolution')} px, but its suite is of {dataset} "
                    f"at {side} px: score it again"
                )
            runless = row["variant"] in RUNLESS
            if runless != (row["seed"] is None) or runless != (row["recipe_sha"] is None):
                raise UserError(
                    f"{where}: seed {row['seed']} and recipe {row['recipe_sha']}: a run has both, "
                    f"{', '.join(RUNLESS)} have neither: score it again"
                )
            self._alike(where, row, shared.setdefault((row["protocol"], side), row), "protocol_sha")
            self._alike(where, row, shared.setdefault((row["variant"], row["seed"]), row), "recipe_sha", "family")
            again += self._hash(where, row["suite"], row["protocol"], row["protocol_sha"], side)
        return f"{len(found)} rows, {again} protocol hashes computed again"

    def _of(self, row: Row) -> tuple[str, int | None]:
        """What a row is to be of: its suite's data and size of pictures, or those of a protocol that says its own; an
        upsampler behind a suite's models makes speeds of another size."""
        suite, protocol = self.suites[row["suite"]], self.known[row["protocol"]]
        if isinstance(protocol, SpeedProtocol):
            dataset = "" if row["variant"] in suite.pretrained else suite.data.name  # nobody knows theirs
            return dataset, row.get("resolution") if suite.on_photographs else suite.data.resolution
        if protocol.dataset:
            return protocol.dataset, protocol.side
        return suite.data.name, suite.data.resolution

    def stored(self, path: Path) -> str:
        """What a file of the gate's stored seeds holds. Raises UserError for what does not belong there."""
        expected = regression.load(path)
        if expected.suite != path.stem or expected.suite not in self.suites:
            raise UserError(
                f"{path}: holds seeds of suite {expected.suite!r}: it must be named as a suite of suites.yaml"
            )
        if not 0 < expected.family_alpha < 1:
            raise UserError(f"{path}: family_alpha must lie between 0 and 1, not {expected.family_alpha}")
        seen, seeds = set(), set()
        for entry in expected.stored:
            where = f"{path}: {entry.variant} {entry.metric} ({entry.protocol})"
            if entry.key in seen:
                raise UserError(f"{where} stands twice")
            seen.add(entry.key)
            seeds.add(len(entry.values))
            if entry.metric not in METRICS or entry.variant in REFERENCES:
                raise UserError(f"{where}: only metrics of trained variants are stored")
            self._fits(where, entry.variant, entry.metric, entry.protocol)
            if entry.metric not in expected.effects:
                raise UserError(f"{where}: 'effects' states none for it")
            if not entry.values or not all(math.isfinite(value) for value in entry.values.values()):
                raise UserError(f"{where}: needs finite values: restore the file, or store fresh seeds with --update")
            if sorted(_seeds(entry.provenance)) != sorted(entry.values):
                raise UserError(f"{where}: its provenance is of other seeds than its values: restore the file")
            side = self.suites[expected.suite].data.resolution
            self._hash(where, expected.suite, entry.protocol, entry.protocol_sha, side)
        if unused := sorted(expected.effects.keys() - {entry.metric for entry in expected.stored}):
            raise UserError(f"{path}: effects of {', '.join(unused)}, of which no seeds are stored: leave them out")
        return f"{len(expected.stored)} metrics of {' or '.join(map(str, sorted(seeds)))} seeds"

    @staticmethod
    def _alike(where: str, row: Row, other: Row, *names: str) -> None:
        """Raises UserError where two rows of one protocol, or of one run, differ in what these share."""
        for name in names:
            if row.get(name) != other.get(name):
                raise UserError(
                    f"{where}: its {name} is {row.get(name)}, but {other.get(name)} in {describe(other)}: score the "
                    "suite again and add all of its rows"
                )

    def _fits(self, where: str, variant: str, metric: str, protocol: str) -> None:
        """Raises UserError for an unknown variant or protocol, or a metric that the protocol does not have."""
        if variant not in self.variants:
            files = ", ".join(f"{name}.yaml" for name in suites.RUNS)
            raise UserError(f"{where}: no variant {variant!r} in {files}{nearest(variant, self.variants)}")
        if protocol not in self.known:
            raise UserError(f"{where}: no such protocol in protocols.yaml{nearest(protocol, self.known)}")
        metrics = _metrics(self.known[protocol], truth=variant == REAL)
        if metric not in metrics:
            raise UserError(f"{where}: that protocol does not have this metric (it has: {', '.join(metrics)})")

    def _hash(self, where: str, suite: str, protocol: str, sha: str, side: int | None) -> bool:
        """Whether a protocol's hash could be computed again. Raises UserError where it comes out otherwise."""
        if (suite, protocol, side) not in self.hashes:
            self.hashes[suite, protocol, side] = self._again(self.suites[suite], protocol, side)
        right = self.hashes[suite, protocol, side]
        if right is not None and sha != right:
            raise UserError(
                f"{where}: its protocol hash is {sha}, but {right} of the protocol, data and judge as they are "
                "committed: it was made with others, so score the suite again"
            )
        return right is not None

    def _again(self, suite: Suite, name: str, side: int | None) -> str | None:
        """A protocol's hash in a suite; None where what it covers is not committed."""
        protocol = self.known[name]
        if isinstance(protocol, SpeedProtocol):
            return protocols.speed_sha(protocol, side or suite.data.resolution)
        weights = self._weights(suite)
        used = {protocol.extractor, protocol.clip, *suites.elsewhere(protocol)} - {None}
        if suite.data.name != "scenes" or not used <= weights.keys():
            return None
        from evaluation.reference import describe as describe_data

        return protocols.sha(protocol, describe_data(suite.data, []), weights)

    def _weights(self, suite: Suite) -> dict[str, str]:
        """What identifies the extractors of a suite, as evaluation.features says; only those that are committed."""
        from evaluation import pyramid
        from gigagan.clip import LOCAL_DIR, WEIGHTS_FILE

        weights = {"pyramid": pyramid.VERSION}
        file = self.root / suite.judge.removeprefix(LOCAL_DIR) / WEIGHTS_FILE
        if not suite.trains_clips and file.is_file():
            weights |= dict.fromkeys(("judge", "judge_crop"), sha256(file))
        return weights


def _seeds(provenance: Any) -> list[int]:
    """The seeds that stored values came from; none where that is damaged."""
    try:
        return [int(seed) for origin in provenance for seed in origin["seeds"]]
    except (TypeError, KeyError, ValueError):
        return []


def _metrics(protocol: Protocol | SpeedProtocol, truth: bool) -> list[str]:
    """The metrics of a protocol's rows; the truth itself has no distance to it."""
    if isinstance(protocol, SpeedProtocol):
        return [name for name, metric in METRICS.items() if metric.kind in ("speed", "size")]
    every = [name for listed in protocol.metrics for name in GROUPS.get(listed, (listed,))]
    return [name for name in every if not (truth and name in PAIRED)]
