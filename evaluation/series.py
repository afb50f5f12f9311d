"""Rivals that differ in their number of sampling steps alone, as one series: a teacher, or a line of its students."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.summary import FULL, Line, Summary, stem

_STEPS = re.compile(r"(,? \d+ steps?| \d+)$")


@dataclass(frozen=True)
class Series:
    label: str  # without the number of steps
    lines: tuple[Line, ...]  # in order of steps, whose scores may go up and down

    @property
    def name(self) -> str:
        return stem(self.lines[0].variant.name)


def series_of(lines: Sequence[Line]) -> list[Series]:
    """The series of two or more among the rivals whose rows say how many steps they take, in the order of ``lines``.

    Rivals belong together that are of one family and whose names differ in a last number alone.
    """
    kin: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line.steps and line.family != FULL and not line.is_reference:
            kin[line.family, stem(line.variant.name)].append(line)
    ordered = [sorted(of, key=lambda line: line.steps or 0) for of in kin.values() if len(of) > 1]
    return [Series(_STEPS.sub("", of[0].variant.label), tuple(of)) for of in ordered]


def alone(summary: Summary) -> list[Line]:
    """What stands beside the series: the full model and single rivals; not its ablations, which differ in no step."""
    left_out = [line for of in series_of(summary.lines) for line in of.lines]
    left_out += summary.ablated if summary.full else []
    return [line for line in summary.lines if line.steps and not line.is_reference and line not in left_out]
