"""Samples that cannot be used: the reason for one, and the count over a data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping

log = logging.getLogger(__name__)

# Control characters, and halves of surrogate pairs: they stand for the bytes of a file's name that are not UTF-8, and
# can be neither printed nor written.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


class Unusable(Exception):
    """One sample cannot be used; ``reason`` is what it is counted under, ``detail`` what was wrong with this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


Found = tuple[int, str, str]
"""A sample that was skipped: its index, the reason, and the first example of that reason."""


class Skipped(Mapping[str, int]):
    """How many samples were skipped for each reason, with the first example of each; no sample counts twice.

    Loader processes and the processes of a run each meet samples of their own: what one finds, others can ``learn``.
    """

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        """Of every sample that was skipped, by index."""
        self._examples: dict[str, str] = {}
        self._told = 0

    def add(self, index: int, why: Unusable, where: str) -> None:
        """Count a sample; ``where`` names it, and may hold what cannot be printed."""
        example = _UNPRINTABLE.sub("\ufffd", f"{where}: {why.detail}" if why.detail else where)
        if why.reason not in self._examples:
            log.warning("skipped (%s): %s", why.reason, example)
        self.learn([(index, why.reason, example)])

    def learn(self, found: Iterable[Found]) -> None:
        """Take in what was found elsewhere, or in an earlier sitting."""
        for index, reason, example in found:
            self.reasons.setdefault(index, reason)
            self._examples.setdefault(reason, example)

    def found(self) -> list[Found]:
        return [(index, reason, self._examples[reason]) for index, reason in self.reasons.items()]

    def news(self) -> list[Found]:
        """What was found or learned since the last call."""
        told, self._told = self._told, len(self.reasons)
        return self.found()[told:] if self._told > told else []

    @property
    def total(self) -> int:
        return len(self.reasons)

    def summary(self) -> str:
        """One line: ``3 skipped: 2 broken image (a.jpg: ...), 1 no caption (b.jpg)``."""
        reasons = (f"{count:,} {reason} ({self._examples[reason]})" for reason, count in self.items())
        return f"{self.total:,} skipped" + (": " + ", ".join(reasons) if self.reasons else "")

    def __getitem__(self, reason: str) -> int:
        if reason not in self._examples:
            raise KeyError(reason)
        return sum(reason == other for other in self.reasons.values())

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self.reasons.values()))

    def __len__(self) -> int:
        return len(set(self.reasons.values()))
