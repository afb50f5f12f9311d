from __future__ import annotations

import dataclasses

import pytest

from evaluation import protocols
from evaluation.metrics import MEASURES
from evaluation.protocols import load, load_speed, sha, speed_sha
from gigagan.errors import UserError

DATA = {"dataset": "scenes", "resolution": 16, "objects": [0.75, 0.25, 0.0], "placed": 0.6}
WEIGHTS = {"judge": "aa", "pyramid": "1"}
NAMES = ("scenes@2", "scenes-blind@1", "photos@1", "photos-blind@1", "photos-inception@1")


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_is_complete(name: str) -> None:
    protocol = load(name)
    assert protocol.name == name
    assert set(protocol.metrics) <= MEASURES.keys()
    assert ("fid" in protocol.metrics) == (protocol.extractor == "inception")  # FD on anything else is never called FID
    assert {"fd", "fid"} & set(protocol.metrics)
    assert bool(protocol.clip) == ("clip_score" in protocol.metrics)


def test_the_hash_covers_everything_that_changes_a_number() -> None:
    protocol = load("scenes@2")
    first = sha(protocol, DATA, WEIGHTS)
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert first == sha(load("scenes@2"), dict(reversed(DATA.items())), WEIGHTS | {"inception": "x"})
    changed = {
        sha(protocol, DATA | {"resolution": 32}, WEIGHTS),
        sha(protocol, DATA | {"objects": [1.0, 0.0, 0.0]}, WEIGHTS),
        sha(protocol, DATA | {"placed": 1.0}, WEIGHTS),
        sha(protocol, DATA, WEIGHTS | {"judge": "bb"}),
        *(sha(load(name), DATA, WEIGHTS) for name in NAMES[1:4]),
    }
    assert len(changed - {first}) == 7
    for field in dataclasses.fields(protocol):
        other = dataclasses.replace(protocol, **{field.name: ("fd",) if field.name == "metrics" else "pyramid"})
        assert (sha(other, DATA, WEIGHTS) == first) == (field.name in ("title", "marks"))


def test_a_new_judge_leaves_blind_rows_comparable() -> None:
    blind = load("scenes-blind@1")
    assert sha(blind, DATA, WEIGHTS) == sha(blind, DATA, WEIGHTS | {"judge": "bb"})


def test_speed() -> None:
    speed = load_speed("speed@1")
    assert min(speed.batch, speed.warm_up, speed.rounds) >= 1
    assert speed_sha(speed, 16) != speed_sha(speed, 32)


@pytest.mark.parametrize(
    ("name", "suggestion"), [("scenes@3", "scenes@2"), ("photo-blind@1", "photos-blind@1"), ("xyz", "known: ")]
)
def test_an_unknown_name_suggests_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=suggestion):
        load(name)


def test_a_protocol_with_a_missing_or_unknown_field_is_refused(tmp_path, monkeypatch) -> None:
    file = tmp_path / "protocols.yaml"
    file.write_text("speed: {speed@1: {title: a, batch: 1, warmup: 1, rounds: 2}}")
    monkeypatch.setattr(protocols, "FILE", file)
    protocols._entries.cache_clear()
    with pytest.raises(UserError, match=r"speed@1: missing or unknown fields: warm_up, warmup"):
        load_speed("speed@1")
    protocols._entries.cache_clear()
