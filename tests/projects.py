"""The project as a user runs it: a copy of it in another folder, and snakemake there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_project(folder: Path) -> None:
    """What git tracks, but for tests and results."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400)


def counts(done: subprocess.CompletedProcess) -> dict[str, int]:
    """Rule -> number of jobs that a dry run announces."""
    assert done.returncode == 0, done.stdout + done.stderr
    table = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", done.stdout + done.stderr, re.M | re.S)
    return {name: int(n) for name, n in re.findall(r"^(\S+) +(\d+)$", table[1], re.M)} if table else {}
