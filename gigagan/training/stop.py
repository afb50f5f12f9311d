"""Ctrl-C and SIGTERM (a scheduler's notice) end training after the step under way, so that nothing of it is lost."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from gigagan.training import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Within it the first signal is only noted; one more, a second or later, ends the process as usual.

    Not at once: terminals, Snakemake and torchrun may each pass one Ctrl-C on.
    """

    def __init__(self) -> None:
        self._noted: float | None = None
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as for a command behind nohup
                    self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._noted = now if self._noted is None else self._noted
        if now - self._noted > 1:
            signal.signal(number, self._usual[number])
            signal.raise_signal(number)

    def asked(self) -> bool:
        """Whether any process was told to stop; all processes must ask at the same point."""
        return any(distributed.gather_objects([self._noted is not None]))


def ignore_interrupts(worker: int) -> None:
    """For loader processes: Ctrl-C reaches them, too, but it is the training process that ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
