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
    lines: tuple[Line, ...]  # in order of steps; their scores may go up and down


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


def runs(summary: Summary) -> list[Line]:
    """All trained models but the full one's ablations, which sample as it does."""
    ablated = summary.ablated if summary.full else []
    return [line for line in summary.lines if not line.is_reference and line not in ablated]
