"""Published numbers with where they stand, how they were made and how sure the reading is. See published.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evaluation import records
from evaluation.declared import Metric
from evaluation.protocols import names as protocols_of_ours
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

FILE = Path(__file__).with_name("published.yaml")

METRICS: dict[str, Metric] = {
    "diversity": Metric("DreamDiv", True),
    "geneval": Metric("GenEval", True),
    "inference_s": Metric("inference time", False, "speed", "s"),
    "kimg": Metric("training images", None, "size", "thousands"),
    **records.METRICS,
}
"""The metrics of our records, and what else is printed in papers."""

SURE = {
    "image": "read in an image of the table itself",
    "repository": "read in the authors' repository",
    "transcriptions": "two or more transcriptions by others agree",
    "transcription": "one transcription by others",
    "report": "one report's tables, mostly right where they could be checked",
    "page": "a public web page",
    "thread": "a user's report in a public thread",
}
"""How a number was read. One that is only recalled is none."""

DASH = "–"
SUFFIXES = {"params_m": {"M": 1, "B": 1e3}, "kimg": {"M": 1e3, "B": 1e6}}
"""Units that sizes are printed in, in terms of the stored one."""


@dataclass(frozen=True)
class Source:
    name: str
    arxiv: str = ""

    def __str__(self) -> str:
        return f"{self.name} (arXiv {self.arxiv})" if self.arxiv else self.name


@dataclass(frozen=True)
class Number:
    """One value: in the metric's unit, and as the source prints it."""

    metric: str
    value: float
    printed: str
    protocol: str  # in words
    sure: str


@dataclass(frozen=True)
class Entry:
    """One row of a table: a method and its numbers."""

    source: Source
    table: str
    method: str
    label: str
    data: str
    resolution: int | None
    steps: int | None
    setting: str
    kind: str
    branch: bool
    ours: tuple[str, ...]  # variants that are the same thing, some in one suite alone: suite/variant
    numbers: Mapping[str, Number | None]  # by metric; None: the source prints a dash

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.source, self.table, self.method, self.steps, self.setting, self.data, self.resolution)


@dataclass(frozen=True)
class Controlled:
    """A suite of ours that makes a table's comparison by itself, under protocols that are not the table's."""

    suite: str
    protocols: tuple[str, ...]
    note: str  # what a reader must know of it


@dataclass(frozen=True)
class Table:
    """Rows that stand together in a source. One with columns is printed by evaluation.paper_tables."""

    name: str
    source: Source
    table: str
    rows: tuple[Entry, ...]
    protocols: Mapping[str, str]  # of each metric, in words
    title: str = ""
    note: str = ""
    columns: Mapping[str, str] | None = None  # heading: a metric or a field of Entry
    ours: tuple[str, ...] = ()  # protocols whose rows of ours may stand beside
    speeds: tuple[str, ...] = ()  # the same of times, each device and setting in a column of its own
    controlled: Controlled | None = None


def load(path: Path = FILE) -> dict[str, Table]:
    """Every table by name, in the file's order.

    Raises:
        UserError: whatever is wrong with an entry, with the file, the table and the row.
    """
    found = _mapping(read_yaml(path, as_written=True), path.name, ("sources", "protocols", "sets", "speeds"))
    for section in ("sources", "protocols", "sets"):
        if not isinstance(found.get(section), dict):
            raise UserError(f"{path.name}: {section} must be a map of names")
    speeds = _listed(found.get("speeds", []), path.name, "speeds")
    for protocol in speeds:
        _known(protocol, protocols_of_ours(), "protocol", f"{path.name}: speeds")
    sources = {
        name: Source(**_texts(_mapping(given, f"{path.name}: {name}", ("name", "arxiv"), ("name",)), path.name, name))
        for name, given in found["sources"].items()
    }
    protocols = _texts(found["protocols"], path.name, "protocols")
    tables = {name: _Reader(f"{path.name}: {name}", sources, protocols, speeds).table(name, given)
              for name, given in found["sets"].items()}  # fmt: skip
    seen: dict[tuple[Any, ...], str] = {}
    for name, of in tables.items():
        for row in of.rows:
            for metric in row.numbers:
                if (key := (*row.identity, metric)) in seen:
                    other = f"in {seen[key]} too" if seen[key] != name else "twice"
                    raise UserError(f"{path.name}: {name}: {row.method}: {metric} stands {other}: tell them apart")
                seen[key] = name
    return tables


@cache
def tables() -> dict[str, Table]:
    """The tables of published.yaml."""
    return load()


def printable() -> list[str]:
    """Names of the tables that have a layout of columns."""
    return [name for name, of in tables().items() if of.columns]


def table(name: str) -> Table:
    """A table of published.yaml. Raises UserError for an unknown one."""
    if name not in tables():
        raise UserError(f"no table {name!r} in {FILE.name}{nearest(name, printable())}")
    return tables()[name]


def find(method: str, metric: str, among: Iterable[Table] | None = None) -> list[tuple[Entry, Number]]:
    """Every value of a metric that was published of a method, of all tables or of some: they may contradict."""
    return [
        (row, number)
        for of in (tables().values() if among is None else among)
        for row in of.rows
        if row.method == method and (number := row.numbers.get(metric))
    ]


class _Reader:
    """Reads one set; ``where`` is what errors begin with."""

    ABOUT = ("source", "table", "data", "resolution", "sure")
    ROW = ("method", "label", "steps", "setting", "kind", "source", "data", "resolution", "protocol", "branch", "ours")
    COLUMNS = ("label", "resolution", "steps", "setting", "kind", "data")

    def __init__(
        self, where: str, sources: Mapping[str, Source], protocols: Mapping[str, str], speeds: tuple[str, ...]
    ) -> None:
        self.where, self.sources, self.protocols, self.speeds = where, sources, protocols, speeds

    def table(self, name: str, given: Any) -> Table:
        needed = ("about", "measured", "rows")
        given = _mapping(given, self.where, (*needed, "title", "note", "columns", "ours", "controlled"), needed)
        about = _mapping(given["about"], f"{self.where}: about", self.ABOUT, ("source", "table", "sure"))
        about = _texts(about, self.where, "about")
        measured = _texts(_mapping(given["measured"], f"{self.where}: measured", METRICS), self.where, "measured")
        if not isinstance(given["rows"], list):
            raise UserError(f"{self.where}: rows must be a list")
        ours = self.scored_by(given.get("ours", []), "ours")
        columns = _texts(given.get("columns", {}), self.where, "columns")
        for head, what in columns.items():
            _known(what, (*measured, *self.COLUMNS), "metric or field", f"{self.where}: column {head}")
        made = {metric: _known(how, self.protocols, "protocol", self.where) for metric, how in measured.items()}
        if any(METRICS[metric].kind == "quality" for metric in measured) and "data" not in about:
            raise UserError(f"{self.where}: about: lacks data, the images that were scored")
        return Table(
            name,
            _known(about["source"], self.sources, "source", self.where),
            about["table"],
            tuple(self.row(row, about, made) for row in given["rows"]),
            made,
            given.get("title", ""),
            given.get("note", ""),
            columns or None,
            ours,
            self.speeds if "inference_s" in measured else (),
            self.controlled(given["controlled"]) if "controlled" in given else None,
        )

    def scored_by(self, given: Any, key: str) -> tuple[str, ...]:
        for protocol in (found := _listed(given, self.where, key)):
            _known(protocol, protocols_of_ours(), "protocol", f"{self.where}: {key}")
        return found

    def controlled(self, given: Any) -> Controlled:
        fields = ("suite", "protocols", "note")
        given = dict(_mapping(given, f"{self.where}: controlled", fields, fields))
        protocols = self.scored_by(given.pop("protocols"), "controlled: protocols")
        return Controlled(protocols=protocols, **_texts(given, self.where, "controlled"))

    def row(self, given: Any, about: Mapping[str, str], made: Mapping[str, str]) -> Entry:
        method = given.get("method", "?") if isinstance(given, dict) else "?"
        where = f"{self.where}: {method}"
        given = _mapping(given, where, (*self.ROW, *METRICS), ("method",))
        ours = given.get("ours", [])
        fields = _texts({k: value for k, value in given.items() if k in self.ROW and k != "ours"}, where, method)
        numbers = {}
        for metric in (key for key in given if key not in self.ROW):
            if metric not in made:
                raise UserError(f"{where}: {metric}: its set does not say how it was measured")
            how = (
                _known(fields["protocol"], self.protocols, "protocol", where) if "protocol" in fields else made[metric]
            )
            numbers[metric] = _number(metric, given[metric], how, about["sure"], where)
        if not numbers:
            raise UserError(f"{where}: has no number")
        if fields.get("branch", "true") != "true":
            raise UserError(f"{where}: branch must be true, or absent")
        return Entry(
            _known(fields.get("source", about["source"]), self.sources, "source", where),
            about["table"],
            method,
            fields.get("label", method),
            fields.get("data", about.get("data", "")),
            _whole(fields.get("resolution", about.get("resolution")), "resolution", where),
            _whole(fields.get("steps"), "steps", where),
            fields.get("setting", ""),
            fields.get("kind", ""),
            "branch" in fields,
            _listed([ours] if isinstance(ours, str) else ours, where, "ours"),
            numbers,
        )


def _number(metric: str, given: Any, protocol: str, sure: str, where: str) -> Number | None:
    if isinstance(given, list):
        if len(given) != 2 or not all(isinstance(part, str) for part in given):
            raise UserError(f"{where}: {metric}: must be a value, or [value, sure]")
        given, sure = given
    _known(sure, SURE, "surety", f"{where}: {metric}")
    if given == DASH:
        return None
    suffixes = SUFFIXES.get(metric, {"": 1})
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Z]?)", str(given))
    if not match or match[2] not in suffixes:
        units = f" with {' or '.join(suffixes)}" if metric in SUFFIXES else ""
        raise UserError(f"{where}: {metric}: must be a number{units}, or {DASH}, not {given!r}")
    # Rounded, because 0.9 times 1000 is not quite what 900 is.
    return Number(metric, round(float(match[1]) * suffixes[match[2]], 6), given, protocol, sure)


def _mapping(given: Any, where: str, known: Iterable[str], needed: Iterable[str] = ()) -> dict[str, Any]:
    known = list(known)
    if not isinstance(given, dict):
        raise UserError(f"{where}: must have fields ({', '.join(known)})")
    for key in given:
        if key not in known:
            raise UserError(f"{where}: no field or metric {key!r}{nearest(key, known)}")
    for key in needed:
        if key not in given:
            raise UserError(f"{where}: lacks {key}")
    return given


def _texts(given: Any, where: str, what: str) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(value, str) and value for value in given.values()):
        raise UserError(f"{where}: {what}: every field must have a text")
    return given


def _listed(given: Any, where: str, what: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str) and text for text in given):
        raise UserError(f"{where}: {what} must be a list of names")
    return tuple(given)


def _known(name: str, among: Any, what: str, where: str) -> Any:
    """What a name stands for. Raises UserError for an unknown one."""
    if name not in among:
        raise UserError(f"{where}: no {what} {name!r}{nearest(name, among)}")
    return among[name] if isinstance(among, Mapping) else name


def _whole(text: str | None, what: str, where: str) -> int | None:
    if text is not None and not re.fullmatch(r"[1-9]\d*", text):
        raise UserError(f"{where}: {what} must be a whole number, not {text!r}")
    return None if text is None else int(text)
