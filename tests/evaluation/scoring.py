"""The scorer as its tests call it: a command, two sets of pictures, and a stand-in for Inception's file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evaluation import score
from gigagan import pretrained as weights
from gigagan.errors import UserError
from gigagan.files import sha256


class Small(nn.Module):
    """As much of Inception's TorchScript file as is used, of eight features that 40 images span; the others are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2048)
        )
        self.output = nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    torch.jit.script(Small()).save(str(folder / weights.KNOWN["inception"].file))
    return folder


@pytest.fixture
def command(inception: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> Callable[..., dict[str, Any]]:
    """``command("blind@1", images, reference, *options)``: what it writes as JSON, with what it prints."""
    known = weights.KNOWN["inception"]
    monkeypatch.setitem(weights.KNOWN, "inception", dataclasses.replace(known, sha256=sha256(inception / known.file)))

    def run(protocol: str, images: Path, reference: Path | None, *more: object) -> dict[str, Any]:
        out = tmp_path / "out" / "scores.json"
        shutil.rmtree(out.parent, ignore_errors=True)
        against = () if reference is None else ("--reference", reference)
        arguments = ("--protocol", protocol, "--images", images, *against, "--weights", inception)
        monkeypatch.setattr("sys.argv", ["score", *map(str, (*arguments, "--json", out, *more))])
        try:
            score.main()
        except UserError:
            assert not out.exists()
            raise
        found, printed = json.loads(out.read_text()), capsys.readouterr()
        return {**found, "table": printed.out, "said": printed.err}

    return run


def picture(i: int, side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """40 images with captions, and 30 to compare with."""
    images, reference = tmp_path / "images", tmp_path / "reference"
    for folder, indices in ((images, range(40)), (reference, range(100, 130))):
        folder.mkdir()
        for i in indices:
            picture(i).save(folder / f"{i}.png")
    (images / "captions.txt").write_text("".join(f"picture {i}\n" for i in range(40)))
    return images, reference


def values(found: dict[str, Any]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in found["scores"].items()}


class Difference:
    """A perceptual distance that needs no weights."""

    sha = "0" * 64

    def to(self, device: torch.device) -> Difference:
        return self

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))
