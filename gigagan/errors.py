"""Errors a user can cause, and the one way every command ends on them."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType


class UserError(SystemExit):
    """A user's mistake: one clear line that says what is wrong, where, and what to do.

    It derives from ``SystemExit`` so that Python itself, and Snakemake when it imports us, print the line alone,
    without a traceback, and end with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"error: {' '.join(message.split())}")

    @property
    def message(self) -> str:
        return str(self.code).removeprefix("error: ")


class GigaGANError(ValueError):
    """The same line as an exception like any other, which is what ``from gigagan import GigaGAN`` raises."""


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn a UserError, which would end a notebook's or a program's work unseen by ``except Exception``, into a
    GigaGANError; around a block, or as a function's decorator."""
    try:
        yield
    except UserError as e:
        raise GigaGANError(e.message) from None


def short(value: object, most: int = 60) -> str:
    """``repr`` of a value, without its end where that is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} ..."


def nearest(name: str, known: object) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or a list of the known ones."""
    import difflib

    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(names)})"


INTERRUPTED = "interrupted: type the same command again to go on"


def one_line_for_ctrl_c() -> None:
    """Let Ctrl-C end a command in one line while its modules are still being imported, which takes seconds.

    Only under ``python -m``, which names the program ``-m`` until it has found it: no other program's hook is touched.
    """
    if sys.argv[:1] == ["-m"]:
        usual = sys.excepthook

        def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
            if issubclass(kind, KeyboardInterrupt):
                print(INTERRUPTED, file=sys.stderr)
            else:
                usual(kind, value, trace)

        sys.excepthook = hook


def command(main: Callable[[], None]) -> None:
    """Run a command's ``main``: Ctrl-C and a full disk end in one line too, never in a traceback."""
    try:
        main()
    except KeyboardInterrupt as e:
        print(INTERRUPTED.replace(":", f" {e}:" if e.args else ":", 1), file=sys.stderr)
        sys.exit(130)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {e.filename}" if e.filename else ""
            raise UserError(f"the disk is full{where}: free some space and type the same command again") from None
        if e.filename is None:  # not about a file that the user could look at
            raise
        raise UserError(f"{e.filename}: {e.strerror}") from None
