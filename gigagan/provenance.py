"""Where a number comes from: code, versions, machine, time. Captured here and nowhere else."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path
from typing import Any


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit(name: str) -> str | None:
    """The full hash of a commit that is called by a short one, a branch or HEAD; None where this clone has no such."""
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """What is written in records: the processor's or the accelerator's own name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return cpu_name()


def collect(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """git_sha, git_dirty, torch, python, device, threads, started (UTC).

    ``git_dirty`` is True where tracked files differ from the commit or where there is no commit to compare with, and
    then no row may enter ``results/records``.
    """
    import importlib.metadata

    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_sha": (_git("rev-parse", "HEAD") or "unknown")[:12],
        "git_dirty": status is None or status != "",
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": threads,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
