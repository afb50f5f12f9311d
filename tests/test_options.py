"""Options of the commands: what they refuse, in one line, before any work."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from gigagan import options
from gigagan.errors import UserError
from gigagan.training import distributed

ROOT = Path(__file__).parent.parent
SAMPLE = ("gigagan.sample", "--run", "x", "--caption", "a", "--out", "x.png")
CLIP = ("gigagan.pretrain_clip", "--data", "scenes", "--arch", "judge", "--out", "x")
TRAIN = ("gigagan.train", "--out", "x")
CURVE = ("evaluation.curve", "--run", "x", "--real", "x", "--reference-features", "x", "--judge", "x", "--out", "x")
FEATURES = ("evaluation.features", "--images", "x", "--judge", "x", "--out", "x")
REFERENCE = ("evaluation.reference", "--reference", "x", "--real", "x")
SPEED = ("evaluation.speed", "--runs", "x", "--suite", "x", "--out", "x")
SCORE = ("evaluation.rows", "--features", "x", "--images", "x", "--reference-features", "x", "--protocols", "x")
SCORE += ("--suite", "x", "--variant", "x", "--out", "x")


def run(monkeypatch, command, *words):
    monkeypatch.setattr("sys.argv", [*command, *words])
    importlib.import_module(command[0]).main()


@pytest.mark.parametrize(
    ("command", "option", "value", "said"),
    [
        (SAMPLE, "--n", "0", "must be at least 1, not 0"),
        (SAMPLE, "--n", "many", "'many' is no whole number"),
        (SAMPLE, "--batch", "0", "must be at least 1, not 0"),
        (SAMPLE, "--threads", "0", "must be at least 1, not 0"),
        (SAMPLE, "--threads", "99999999999", "must be at most 4096"),
        (SAMPLE, "--seed", "-1", "must be at least 0, not -1"),
        (SAMPLE, "--snapshot", "-1", "must be at least 0, not -1"),
        (CLIP, "--lr", "nan", "must be finite, not nan"),
        (CLIP, "--lr", "-1", "must be above 0, not -1"),
        (CLIP, "--lr", "fast", "'fast' is no number"),
        (CLIP, "--seed", "-1", "must be at least 0, not -1"),
        (CLIP, "--seed", "9" * 30, "must be at most 9223372036854775807"),
        (CLIP, "--batch", "1", "must be at least 2, not 1"),
        (CLIP, "--images", "0", "must be at least 1, not 0"),
        (CLIP, "--resolution", "0", "must be at least 8, not 0"),
        (TRAIN, "--seed", "-1", "must be at least 0, not -1"),
        (TRAIN, "--tick", "inf", "must be finite, not inf"),
        (TRAIN, "--checkpoint", "0", "must be above 0, not 0"),
        (TRAIN, "--picture", "-1", "must be at least 0, not -1"),
        (TRAIN, "--snapshots", "0", "must be at least 1, not 0"),
        (CURVE, "--batch", "0", "must be at least 1, not 0"),
        (FEATURES, "--batch", "0", "must be at least 1, not 0"),
        (REFERENCE, "--n-reference", "0", "must be at least 1, not 0"),
        (REFERENCE, "--n-real", "-5", "must be at least 1, not -5"),
        (SPEED, "--threads", "0", "must be at least 1, not 0"),
        (SCORE, "--seed", "-1", "must be at least 0, not -1"),
        (SCORE, "--kimg", "nan", "must be finite, not nan"),
    ],
)
def test_numbers_out_of_range_name_their_option(monkeypatch, capsys, command, option, value, said):
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, command, option, value)
    assert error.value.code == 2
    assert f"argument {option}: {said}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [SAMPLE, CLIP, TRAIN, CURVE, FEATURES, SPEED], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "--device gpu: no such device; say cpu, cuda"),
        ("meta", "--device meta: no such device"),
        ("cuda", "--device cuda: this machine shows no CUDA device; use --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(monkeypatch, command, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=said):
        run(monkeypatch, command, "--device", device)


def test_devices_of_a_machine_with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert options.device("cpu") == torch.device("cpu")
    assert options.device("auto") == options.device("cuda") == torch.device("cuda:0")
    assert options.device("cuda", local=1) == options.device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="--device cuda:2: this machine shows 2 CUDA devices, numbered from 0"):
        options.device("cuda:2")
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.start("cuda") == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]


def test_no_command_reads_plain_numbers():
    """Those let nan, zero and -1 through; gigagan.options has types that do not."""
    files = [path for package in ("gigagan", "ablations", "evaluation") for path in (ROOT / package).rglob("*.py")]
    assert not [path.name for path in files if re.search(r"\btype=(int|float)\b", path.read_text())]
