"""Types of the commands' options: what they refuse is one line that names the option."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from gigagan.errors import UserError

if TYPE_CHECKING:
    import torch


def whole(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """Whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not least <= value <= most:
            beyond = f"at least {least}" if value < least else f"at most {most}"
            raise argparse.ArgumentTypeError(f"must be {beyond}, not {text}")
        return value

    return parse


def real(above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """Finite numbers above a bound, or from a least one on."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"must be finite, not {text}")
        if above is not None and value <= above:
            raise argparse.ArgumentTypeError(f"must be above {above:g}, not {text}")
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least:g}, not {text}")
        return value

    return parse


positive, natural = whole(1), whole(0)
above_0, from_0 = real(above=0), real(least=0)
threads = whole(1, 4096)

DEVICE_HELP = "cpu, cuda, cuda:1; auto takes a GPU if there is one"


def device(name: str, local: int = 0, option: str = "--device ") -> torch.device:
    """The device that ``name`` means here: cpu, cuda (the machine's GPU number ``local``), cuda:1 or auto.

    Raises UserError, which names it behind ``option``, for one that is not there.
    """
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n else "cpu"
    found = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", name)
    if not found or name.startswith("cpu:"):
        raise UserError(f"{option}{name}: no such device; say cpu, cuda, cuda:1 or auto")
    if found[1] == "cpu":
        return torch.device("cpu")
    if not n:
        raise UserError(f"{option}{name}: this machine shows no CUDA device; use {option}cpu")
    index = int(found[2] or local)
    if index >= n:
        raise UserError(f"{option}{name}: this machine shows {n} CUDA devices, numbered from 0; there is no {index}")
    return torch.device("cuda", index)
