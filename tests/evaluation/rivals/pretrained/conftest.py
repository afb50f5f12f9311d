"""Tiny pipelines in a folder of models, and no network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evaluation.rivals.pretrained.settings import Pretrained

if TYPE_CHECKING:
    from evaluation.rivals.pretrained.samplers import PretrainedSampler

CPU = "cpu"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders sd, checked (sd with a safety checker), sdxl, pixart, sana and lcm.

    Tests may add to it; what they change, they copy.
    """
    import torch

    from tests.evaluation.rivals.pretrained import tiny_pipelines

    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        tiny_pipelines.sd(folder / "sd")
        tiny_pipelines.checked_sd(folder / "checked")
        tiny_pipelines.sdxl(folder / "sdxl")
        tiny_pipelines.pixart(folder / "pixart")
        tiny_pipelines.sana_sprint(folder / "sana")
        tiny_pipelines.lcm(folder / "lcm")
    return folder


def entry(**fields: Any) -> Pretrained:
    """An entry of a tiny pipeline; ``fields`` win."""
    usual: dict[str, Any] = {"name": "tiny", "label": "Tiny", "folder": "sd", "steps": 2, "guidance": 3.0}
    usual |= {"resolution": 64}
    if fields.get("timesteps"):
        usual.pop("steps")
    if fields.get("folder") in ("pixart", "sana"):
        usual["call"] = {"use_resolution_binning": False}
    return Pretrained(**usual | fields)


@pytest.fixture(scope="session")
def load(models: Path) -> Callable[..., PretrainedSampler]:
    """``load(folder="sdxl", steps=1)``: a tiny pipeline; ``models`` may be another folder."""
    import torch

    from evaluation.rivals.pretrained import samplers

    def loaded(models: Path = models, **fields: Any) -> PretrainedSampler:
        return samplers.load(entry(**fields), models, torch.device(CPU))

    return loaded
