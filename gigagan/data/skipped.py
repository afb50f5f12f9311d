"""Samples that cannot be used: the reason for one, and the count over a data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

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


class Skipped(Mapping[str, int]):
    """How many samples were skipped for each reason, with the first example of each.

    That example is also logged when it is met, so that it is named even where a loader process did the counting.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, why: Unusable, where: str) -> None:
        """Count one sample; ``where`` names it, and may hold what cannot be printed."""
        if why.reason not in self._counts:
            example = f"{where}: {why.detail}" if why.detail else where
            self._examples[why.reason] = _UNPRINTABLE.sub("\ufffd", example)
            log.warning("skipped (%s): %s", why.reason, self._examples[why.reason])
        self._counts[why.reason] = self._counts.get(why.reason, 0) + 1

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def summary(self) -> str:
        """One line: ``3 skipped: 2 broken image (a.jpg: ...), 1 no caption (b.jpg)``."""
        reasons = (f"{count:,} {reason} ({self._examples[reason]})" for reason, count in self._counts.items())
        return f"{self.total:,} skipped" + (": " + ", ".join(reasons) if self._counts else "")

    def __getitem__(self, reason: str) -> int:
        return self._counts[reason]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)
