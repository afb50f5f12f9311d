"""Pretrained models in a suite: their entries, what of them is not there, and what the rule that binds them takes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ablations.contents import fingerprint
from ablations.entries import NOBODY, Suite
from evaluation.rivals.pretrained import settings
from evaluation.rivals.pretrained.settings import Pretrained
from gigagan.errors import UserError

FILE = Path(__file__).with_name("pretrained.yaml")
SEED = 0
"""Of their runs: nothing is trained, so that there are no others to average over. A picture's seed is its number."""


@functools.cache
def pretrained() -> dict[str, Pretrained]:
    """Every pretrained model by name. Raises UserError for whatever is wrong with an entry."""
    return settings.read(FILE)


def check(of: Suite, sides: dict[str, int], photographs: bool) -> None:
    """Raises UserError where a pretrained model of a suite draws pictures that do not go with what it is scored on.

    Args:
        sides: of the pictures that each protocol, or the suite's own data set, compares; px.
        photographs: they are scored on photographs, where a protocol makes larger pictures smaller.
    """
    for name in of.pretrained:
        drawn = pretrained()[name].resolution
        for where, side in sides.items():
            if drawn and (drawn < side or (drawn > side and not photographs)):
                raise UserError(f"pretrained: {name} draws {drawn} px, {where} scores pictures of {side} px")


class PretrainedRuns:
    """Those of a suite that were chosen, and the user's folder of models."""

    def __init__(self, suite: Suite, models: str) -> None:
        self.suite, self.models = suite, models

    @property
    def names(self) -> str:
        """A pattern of them."""
        return "|".join(self.suite.pretrained) or NOBODY

    @property
    def lacking(self) -> str:
        """What of the models is not there, in one line that says what goes where; empty where all is."""
        wanted = {name: pretrained()[name].places(Path(self.models)) for name in self.suite.pretrained}
        lacking = {name: [place for place in places if not place.exists()] for name, places in wanted.items()}
        absent = list(dict.fromkeys(path for places in lacking.values() for path in places))
        if not absent:
            return ""
        there = [name for name in (*self.suite.trained, *self.suite.pretrained) if not lacking.get(name)]
        leave = f", or leave them out with variants={','.join(there)}" if there else ""
        return (
            f"models={self.models}: lacks {', '.join(map(str, absent))}: put there what ablations/pretrained.yaml says"
            f"{leave}"
        )

    def recipe(self, wildcards: Any) -> str:
        """What an entry says: its run is bound again when that changes."""
        return json.dumps(pretrained()[wildcards.variant].given(), sort_keys=True)

    def fingerprint(self, wildcards: Any) -> str:
        """Of the names and sizes of a model's files: with others, its run is bound again."""
        return fingerprint(*pretrained()[wildcards.variant].places(Path(self.models)))


def describe(name: str) -> str:
    """An entry for whoever reads: what it is called, what it stands for, what it wants and how it is drawn with."""
    entry = pretrained()[name]
    given = {key: value for key, value in entry.given().items() if key not in ("name", "label", "stand_in_for")}
    stands = f", in the place of {entry.stand_in_for}" if entry.stand_in_for else ""
    return "\n".join([f"{entry.label}{stands}", *(f"  {key}: {value}" for key, value in given.items())])
