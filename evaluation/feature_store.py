"""Features of any number of pictures: written batch by batch into files, read back without being held in memory.

A cache is a folder of such sets, each under the hash of everything that made it; a set stands there whole or not at
all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from evaluation import statistics_file
from evaluation.metrics.frechet import Moments, Statistics
from gigagan.errors import UserError

ABOUT = "about.json"
Features = dict[str, np.ndarray | Statistics]


class Rows:
    """Takes in features [N, D] by their names, some rows at a time, into one file each."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder, self.n = folder, n
        self._arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, start: int, rows: np.ndarray) -> None:
        """``rows`` float32 [B, D] of the pictures from ``start`` on."""
        if name not in self._arrays:
            shape = (self.n, rows.shape[1])
            self._arrays[name] = open_memmap(self.folder / f"{name}.npy", "w+", dtype=np.float32, shape=shape)
        self._arrays[name][start : start + len(rows)] = rows

    def finish(self) -> None:
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()


class Sums:
    """As Rows, where mean and covariance are all that is wanted."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self._moments: dict[str, Moments] = {}

    def take(self, name: str, start: int, rows: np.ndarray) -> None:
        self._moments.setdefault(name, Moments(rows.shape[1])).add(rows)

    def finish(self) -> None:
        for name, moments in self._moments.items():
            statistics_file.write(self.folder / f"{name}.npz", moments.statistics(), {"images": moments.n})


class Store:
    """Sets of features below a folder: the user's own, which is kept, or one that goes when the work is done.

    Raises UserError for a folder that cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="gigagan-features-")
        self.folder = folder or Path(self._temporary.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"--cache {folder}: {e.strerror}") from None
        for left in self.folder.glob(".*.tmp"):
            if not _runs(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)  # of a scoring that was killed

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary:
            self._temporary.cleanup()

    def read(self, key: str, names: Sequence[str], n: int) -> tuple[Features, dict[str, Any]] | None:
        """The features of a set of ``n`` pictures, not yet in memory, and what was noted of it; None where they are not
        there, or not whole."""
        folder = self.folder / key
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            found: Features = {path.stem: np.load(path, "r", allow_pickle=False) for path in folder.glob("*.npy")}
            found |= {path.stem: statistics_file.read(path)[0] for path in folder.glob("*.npz")}
            whole = {*names} <= {*found} and len(about["files"]) == n and len(about["size"]) == 2
            whole = whole and isinstance(about["constant"], list)
            rows = [len(rows) for rows in found.values() if not isinstance(rows, Statistics)]
        except (OSError, ValueError, EOFError, TypeError, KeyError, UserError):  # in whatever way it is damaged
            return None
        return (found, about) if whole and all(count == n for count in rows) else None

    @contextmanager
    def new(self, key: str) -> Iterator[Path]:
        """A folder that becomes the set ``key`` when all is written into it; nothing is left of it on any failure."""
        folder = self.folder / f".{key}.{os.getpid()}.tmp"
        folder.mkdir()
        try:
            yield folder
            with suppress(FileNotFoundError):  # one that another process has just made is as good, a broken one not
                shutil.rmtree(self.folder / key)
            os.replace(folder, self.folder / key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def note(folder: Path, about: dict[str, Any]) -> None:
    """Write down what a set is of, the last thing before it is whole."""
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _runs(pid: str) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
