"""Pictures that are none are counted, and said by the commands that draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gigagan import sample, upsample
from gigagan.degenerate import HEAD, Tally, constant, non_finite
from gigagan.pixels import to_uint8
from gigagan.sampling import load
from gigagan.training.checkpoint import load_tensors, save_tensors
from tests.made_run import NOTHING, make_run
from tests.upsamplers import NO_ATTENTION, TO_32, picture, save


def test_a_picture_of_one_colour_is_told_from_one_with_a_single_other_pixel():
    pictures = np.full((4, 32, 32, 3), (10, 20, 30), np.uint8)
    pictures[1, 0, 1, 2] += 1
    pictures[2, -1, -1, 0] += 1  # far behind what is looked at first
    assert pictures[2].size // 3 > HEAD
    assert constant(pictures).tolist() == [True, False, False, True]
    assert constant(pictures[:0]).tolist() == []


def test_nan_and_infinity_are_seen_before_they_become_bytes():
    images = torch.linspace(-1, 1, 16).expand(3, 3, 4, 16).clone()
    images[0, 1, 2, 3], images[2, 0, 0, 0] = torch.nan, -torch.inf
    assert non_finite(images).tolist() == [True, False, True]
    images[0] = torch.nan  # as bytes it would be of one colour
    tally = Tally()
    assert np.array_equal(tally.to_uint8(images), to_uint8(images))
    assert tally == Tally(n=3, n_constant=0, n_non_finite=2)
    tally.look(torch.zeros(2, 3, 4, 4))
    tally.look(np.zeros((1, 4, 4, 3), np.uint8))
    assert tally == Tally(n=6, n_constant=3, n_non_finite=2)


def test_a_picture_in_parts_is_counted_once():
    tally = Tally()
    tally.add_whole(Tally(n=3, n_constant=3))
    tally.add_whole(Tally(n=3, n_constant=2))
    tally.add_whole(Tally(n=3, n_non_finite=2))
    tally.add(Tally(n=1, n_constant=1))
    assert tally == Tally(n=4, n_constant=2, n_non_finite=1)


def test_nothing_is_said_where_all_is_well(capsys):
    Tally(n=5).warn("here")
    assert capsys.readouterr().err == ""
    Tally(n=5000, n_constant=1200, n_non_finite=1).warn("here")
    assert capsys.readouterr().err.splitlines() == [
        "warning: here: 1 of 5,000 pictures held NaN or infinity, which bytes cannot show",
        "warning: here: 1,200 of 5,000 pictures are of one colour throughout",
    ]


def spoil(run, names: str, value: float) -> None:
    """Set some weights of a run."""
    tensors, about = load_tensors(run / "weights.safetensors")
    for name in tensors:
        if names in name:
            tensors[name].fill_(value)
    save_tensors(run / "weights.safetensors", tensors, about)


@pytest.mark.parametrize(
    ("value", "said"),
    [(3e38, "4 of 4 pictures held NaN or infinity"), (0.0, "4 of 4 pictures are of one colour throughout")],
)
def test_sampling_says_it(tiny, tmp_path, monkeypatch, capsys, value, said):
    run = make_run(tmp_path / "run", tiny(*NOTHING))
    spoil(run, "to_rgb.bank", value)
    monkeypatch.setattr("sys.argv", ["sample", "--run", str(run), "--n", "4", "--out", str(tmp_path / "x.png")])
    sample.main()
    assert f"warning: {run}: {said}" in capsys.readouterr().err
    assert load(run)([""], [0]).shape == (1, 16, 16, 3)


def test_upsampling_says_it_of_whole_pictures_and_of_tiles(tiny, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    save(tiny(*NO_ATTENTION, *TO_32), run)
    spoil(run, "to_rgb.bank", 3e38)
    up = upsample.load(run)
    for side, factor in ((8, 4), (24, 4)):
        assert up(np.stack([picture(side, side)] * 2), ["", ""], [0, 1]).shape[1] == side * factor
    assert (up.tally.n, up.tally.n_non_finite) == (4, 4)
