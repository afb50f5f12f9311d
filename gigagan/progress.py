"""Progress with rate and time left: a bar that redraws itself on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Report how far a job is.

    Args:
        total: what the whole job counts to; 0 is a job with nothing to do.
        unit: what is counted.
        start: what was already done before (a resumed job), so that the rate counts only what is done now.
        stream: where to write; standard error by default.
        every: seconds between two lines of a log (a terminal's bar is redrawn at most five times a second).
    """

    def __init__(
        self, total: int, unit: str = "img", start: int = 0, stream: TextIO | None = None, every: float = 15.0
    ) -> None:
        self.total, self.unit, self.start = total, unit, start
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = 0.2 if self.terminal else every
        self.began = time.monotonic()
        self.shown = float("-inf")

    def update(self, n_done: int, **figures: float | str) -> None:
        """Say that ``n_done`` of ``total`` are done; ``figures`` (losses, say) are shown behind it.

        Calls are cheap: most of them print nothing. The last one (``n_done == total``) always prints.
        """
        now = time.monotonic()
        last = n_done >= self.total
        if now - self.shown < self.every and not last:
            return
        self.shown = now
        line = self._line(n_done, now - self.began, figures)
        if not self.terminal:
            print(line, file=self.stream, flush=True)
            return
        share = n_done / self.total if self.total else 1.0
        filled = round(24 * share)
        # \r and "erase to the end of the line": a shorter line leaves nothing of a longer one behind.
        bar = f"\r[{'#' * filled}{'.' * (24 - filled)}] {line}\x1b[K"
        print(bar, end="\n" if last else "", file=self.stream, flush=True)

    def _line(self, n_done: int, seconds: float, figures: dict[str, float | str]) -> str:
        rate = (n_done - self.start) / seconds if seconds > 0 else 0.0
        parts = [f"{n_done:,}/{self.total:,} {self.unit}"]
        if rate > 0:
            parts.append(f"{rate:,.{1 if rate < 100 else 0}f} {self.unit}/s")
            parts.append(f"{duration((self.total - n_done) / rate)} left" if n_done < self.total else duration(seconds))
        for name, value in figures.items():
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """``75`` -> ``1:15``, ``3675`` -> ``1:01:15``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
