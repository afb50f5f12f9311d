"""Which weights a protocol is scored with, and where they are."""

from __future__ import annotations

import dataclasses

import pytest

from evaluation import protocols, weights
from gigagan import pretrained
from gigagan.errors import UserError


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        ("scenes@2", []),
        ("photos-inception@1", ["inception"]),
        ("gigagan-coco30k@1", ["clip-vit-b-32", "inception"]),
        ("stylegan-t-coco30k-64@1", ["clip-vit-g-14", "inception"]),
        ("mlperf-sdxl@1", ["clip-vit-b-32", "inception-pytorch"]),
        ("pairs@1", ["vgg16"]),
        ("dinov2@1", ["dinov2"]),
        ("fixture-random-weights@1", []),
    ],
)
def test_a_protocol_says_which_weights_it_is_scored_with(protocol, names):
    assert weights.wanted(protocols.load(protocol)) == names


def test_the_command_says_where_they_are(tmp_path, monkeypatch, capsys):
    for name in ("vgg16", "inception"):
        small = dataclasses.replace(pretrained.KNOWN[name], size=3, cached=lambda file: None)
        monkeypatch.setitem(pretrained.KNOWN, name, small)
        (tmp_path / small.file).write_bytes(b"any")
    words = ["weights", "--protocols", "photos-inception@1", "vgg16", "--weights", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*words, "--quick"])
    weights.main()
    files = {name: tmp_path / pretrained.KNOWN[name].file for name in ("inception", "vgg16")}
    assert capsys.readouterr().out == "".join(f"{name}={file}\n" for name, file in files.items())
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(UserError, match="wrong checksum"):
        weights.main()
    monkeypatch.setattr("sys.argv", ["weights"])
    with pytest.raises(UserError, match="say of which protocols"):
        weights.main()
