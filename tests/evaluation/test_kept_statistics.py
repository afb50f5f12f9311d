"""Statistics of a reference that are made before there is anything to score."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import protocols, score
from gigagan.errors import UserError


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Images and a reference, and ``blind-fd@1``, which statistics are enough for."""
    load = protocols.load
    mine = {"blind-fd@1": dataclasses.replace(load("blind@1"), name="blind-fd@1", metrics=("fd",))}
    monkeypatch.setattr(protocols, "load", lambda name: mine.get(name) or load(name))
    for name, first in (("images", 0), ("reference", 100)):
        (tmp_path / name).mkdir()
        for i in range(first, first + 20):
            pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path / "images", tmp_path / "reference"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["score", "--protocol", "blind-fd@1", *map(str, words)])
    score.main()


def test_they_are_those_of_a_scoring(sets, tmp_path, monkeypatch, capsys) -> None:
    images, reference = sets
    out = {name: tmp_path / f"{name}.json" for name in ("with", "alone")}
    kept = {name: tmp_path / f"{name}.npz" for name in out}
    both = ["--images", images, "--reference", reference]
    run(monkeypatch, *both, "--save-reference", kept["with"], "--json", out["with"])
    run(monkeypatch, "--reference", reference, "--save-reference", kept["alone"])
    assert "20 images" in capsys.readouterr().out
    assert kept["alone"].read_bytes() == kept["with"].read_bytes()
    run(monkeypatch, "--images", images, "--reference", kept["alone"], "--json", out["alone"])
    found = [json.loads(path.read_text()) for path in out.values()]
    assert found[0]["scores"] == found[1]["scores"]
    assert found[0]["protocol_sha"] == found[1]["protocol_sha"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--json", "-"], "--images is missing"),
        (["--reference", "{kept}"], "the reference is a file of statistics already"),
        (["--protocol", "blind@1"], "wants more of its reference than one mean and covariance"),
    ],
)
def test_mistakes_are_one_line(sets, tmp_path, monkeypatch, more, said) -> None:
    kept = tmp_path / "kept.npz"
    run(monkeypatch, "--reference", sets[1], "--save-reference", kept)
    words = [word.format(kept=kept) for word in more]
    with pytest.raises(UserError, match=said):
        run(monkeypatch, "--reference", sets[1], "--save-reference", tmp_path / "other.npz", *words)
    assert not (tmp_path / "other.npz").exists()
