"""Files of pretrained weights: found by name, known by checksum."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from gigagan import pretrained as weights
from gigagan.errors import UserError

DATA = b"weights"


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A file of weights whose contents are ``DATA``, and where its library would keep it."""
    cache = tmp_path / "cache"
    cache.mkdir()
    small = dataclasses.replace(
        weights.KNOWN["vgg16"],
        sha256=hashlib.sha256(DATA).hexdigest(),
        size=len(DATA),
        cached=lambda file: cache / file,
    )
    monkeypatch.setitem(weights.KNOWN, "vgg16", small)
    return small, cache


def test_the_users_folder_comes_before_the_librarys_cache(known, tmp_path):
    small, cache = known
    (cache / small.file).write_bytes(DATA)
    assert weights.find("vgg16", tmp_path) == cache / small.file
    (tmp_path / small.file).write_bytes(DATA)
    assert weights.find("vgg16", tmp_path) == tmp_path / small.file
    assert weights.find("vgg16") == cache / small.file


def test_what_is_missing_is_named_with_size_checksum_and_place(known, tmp_path):
    small, _ = known
    with pytest.raises(UserError) as error:
        weights.find("vgg16", tmp_path)
    for words in (small.file, small.about, small.sha256, f"put it into {tmp_path}", small.source):
        assert words in error.value.message
    with pytest.raises(UserError, match="name that as weights"):
        weights.find("vgg16")
    with pytest.raises(UserError, match="did you mean 'vgg16'"):
        weights.find("vgg")


@pytest.mark.parametrize(("data", "words"), [(b"WEIGHTS", "wrong checksum"), (DATA[:3], "and 3 bytes instead of 7")])
def test_a_file_with_other_contents_is_refused(known, tmp_path, data, words):
    small, cache = known
    (tmp_path / small.file).write_bytes(data)
    (cache / small.file).write_bytes(DATA)  # the right one elsewhere does not make it right
    with pytest.raises(UserError, match=words):
        weights.find("vgg16", tmp_path)


def test_every_known_file_says_all_that_a_person_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name, file in weights.KNOWN.items():
        assert len(file.sha256) == 64, name
        assert int(file.sha256, 16) > 0
        assert file.size > 1e7
        assert file.source.startswith("https://")
    assert weights.KNOWN["dinov2"].cached("a.pth") == tmp_path / "hub" / "checkpoints" / "a.pth"
    assert weights.KNOWN["inception"].cached("a.pt").name == "a.pt"


def test_a_quick_look_compares_sizes_alone(known, tmp_path):
    small, _ = known
    (tmp_path / small.file).write_bytes(b"WEIGHTS")
    assert weights.find("vgg16", tmp_path, quick=True) == tmp_path / small.file
    (tmp_path / small.file).write_bytes(DATA[:3])
    with pytest.raises(UserError, match=r"wrong size \(3 bytes instead of 7\)"):
        weights.find("vgg16", tmp_path, quick=True)
