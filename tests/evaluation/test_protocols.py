from __future__ import annotations

import dataclasses

import pytest
import yaml

from evaluation import protocols
from evaluation.caption_files import read_captions
from evaluation.metrics import MEASURES
from evaluation.protocols import load, load_speed, sha, speed_sha
from gigagan.errors import UserError
from gigagan.files import sha256

DATA = {"dataset": "scenes", "resolution": 16, "objects": [0.75, 0.25, 0.0], "placed": 0.6}
WEIGHTS = {"judge": "aa", "pyramid": "1"}
NAMES = ("scenes@2", "scenes-blind@1", "photos@1", "photos-blind@1", "photos-inception@1")
EVERY = list(yaml.safe_load(protocols.FILE.read_text())["images"])
OF_COMMITTED_ROWS = {"scenes@2": "6e3c50e76799", "scenes-blind@1": "9723eb8bdcaf", "photos@1": "9eaaf32fd813",
                     "photos-blind@1": "9b8d990e283f", "upsampled-scenes@1": "62a1087971a4"}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_protocol_is_complete(name: str) -> None:
    protocol = load(name)
    assert protocol.name == name
    assert set(protocol.metrics) <= MEASURES.keys()
    inception = protocol.extractor.startswith("inception")
    assert ("fid" in protocol.metrics) == inception  # FD on anything else is never called FID
    assert bool({"fd", "fid", "fd_dinov2"} & set(protocol.metrics)) == (protocol.extractor != "none")
    assert bool(protocol.clip) == ("clip_score" in protocol.metrics)
    assert protocols.compares(protocol) == (protocol.reference != 0)
    for metric, settings in protocol.settings.items():
        assert settings.keys() <= set(MEASURES[metric].settings)


@pytest.mark.parametrize("name", OF_COMMITTED_ROWS)
def test_younger_fields_leave_older_hashes_as_they_were(name: str) -> None:
    weights = {"judge": "x", "pyramid": "1", "inception": "i", "lpips": "l", "judge_distance": "d"}
    assert sha(load(name), {"a": 1}, weights) == OF_COMMITTED_ROWS[name]


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
        assert (sha(other, DATA, WEIGHTS) == first) == (field.name in ("title", "marks", "gates"))


def test_a_new_judge_leaves_blind_rows_comparable() -> None:
    blind = load("scenes-blind@1")
    assert sha(blind, DATA, WEIGHTS) == sha(blind, DATA, WEIGHTS | {"judge": "bb"})


def test_speed() -> None:
    speed = load_speed("speed@1")
    assert min(speed.batch, speed.warm_up, speed.rounds) >= 1
    assert speed_sha(speed, 16) != speed_sha(speed, 32)
    hashes = {speed_sha(load_speed(name), 16) for name in ("speed@1", "speed@2", "speed-gpu@1")}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 9}, "speed@1: batches: say either one batch, or"),
        ({"rounds": 9, "batch": 2, "batches": [1, 2]}, "batches: say either one batch, or"),
        ({"rounds": 9, "batches": [2, 4], "sweep_rounds": 1}, "batches: must rise from 1"),
        ({"rounds": 9, "batches": [1, 4, 4], "sweep_rounds": 1}, "batches: must rise from 1"),
        ({"rounds": 9, "batches": [1, 4], "sweep_rounds": 10}, "rounds: must be at least 1"),
        ({"rounds": 0, "batch": 2}, "rounds: must be at least 1"),
    ],
)
def test_a_speed_that_cannot_be_measured(fields, message, tmp_path, monkeypatch) -> None:
    file = tmp_path / "protocols.yaml"
    file.write_text(yaml.safe_dump({"speed": {"speed@1": {"title": "a", "warm_up": 1, **fields}}}))
    monkeypatch.setattr(protocols, "FILE", file)
    protocols._entries.cache_clear()
    try:
        with pytest.raises(UserError, match=message):
            load_speed("speed@1")
    finally:
        protocols._entries.cache_clear()


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop": "center"}, "crop: nothing is called 'center'.*centre"),
        ({"extractor": "inception_v3"}, "extractor: nothing is called"),
        ({"extractor_resize": "bicubic"}, "extractor_resize: that of inception is"),
        ({"side": 64}, "do not come to be of a size"),
        ({"images": 0}, "images: must be a positive whole number"),
        ({"metrics": ["fd"]}, "fd of Inception's features is called fid"),
        ({"extractor": "dinov2", "extractor_resize": "bicubic, antialiased, to bytes (Pillow's)"}, "fid is a name for"),
        ({"metrics": ["fid", "clip_score"]}, "clip_score wants a CLIP"),
        ({"metrics": ["fid", "kidd"]}, "no score of images is called 'kidd'.*kid"),
        ({"settings": {"lpips": {"k": 1}}}, "settings: lpips is none of its metrics"),
        ({"gates": {"fid": [2.0, 1.0]}}, "gates: fid: 2.0 is not below 1.0"),
        ({"list": "mlperf-5k"}, "list: mlperf-5k has other than any captions"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(tmp_path, monkeypatch, change, words) -> None:
    found = yaml.safe_load(protocols.FILE.read_text())
    found["images"]["clean-fid@1"] |= change
    file = tmp_path / "protocols.yaml"
    file.write_text(yaml.safe_dump(found))
    monkeypatch.setattr(protocols, "FILE", file)
    protocols._entries.cache_clear()
    with pytest.raises(UserError, match=f"protocols.yaml: clean-fid@1: .*{words}"):
        load("clean-fid@1")
    protocols._entries.cache_clear()


def test_known_lists_are_those_of_the_files(shared) -> None:
    files = {"coco2014-30k": "coco2014_val_captions_30k.csv", "mlperf-5k": "coco2014_val_captions_5k.tsv"}
    for name, file in files.items():
        known, path = protocols.load_list(name), shared / "prompts" / file
        captions = read_captions(path)
        assert len(captions) == known.captions
        assert protocols.captions_sha(captions) == known.sha256
        assert sha256(path) == known.file_sha256
        assert protocols.list_of(captions) == known
        assert protocols.list_of(captions[::-1]) is None
