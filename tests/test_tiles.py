"""Large pictures by tiles: windows, noise, tiled as untiled, no seams, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from upsamplers import CAPTION, CPU, NO_ATTENTION, NO_WORDS, TO_32, network, picture, save, sides

from gigagan import latents, tiles
from gigagan.networks.condition import Labels
from gigagan.networks.upsampler import generator_of
from gigagan.pixels import to_tensor
from gigagan.tiles import NoiseField
from gigagan.upsample import Upsampling

SELF_ATTENTION = (*NO_WORDS, "attention.kinds=self")


# Windows, tiles, noise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "step"),
    [(64, 64, 16, 8), (72, 64, 16, 8), (1024, 128, 32, 8), (1000, 128, 64, 8), (40, 16, 12, 4), (24, 8, 4, 2)],
)
def test_tiles_cover_a_side_evenly_and_their_windows_sum_to_one(length, tile, overlap, step):
    places = tiles.starts(length, tile, overlap, step)
    assert (places[0], places[-1]) == (0, length - tile)
    assert all(place % step == 0 for place in places)
    assert all(a < b and a + tile - b >= overlap for a, b in pairwise(places))
    margin = overlap // 4
    total = torch.zeros(length)
    for place, window in zip(places, tiles.windows(places, tile, overlap, margin), strict=True):
        assert (window >= 0).all()
        assert place == 0 or not window[:margin].any()
        assert place == length - tile or not window[tile - margin :].any()
        total[place : place + tile] += window
    torch.testing.assert_close(total, torch.ones(length))
    middle = tiles.windows(places, tile, overlap, margin)[len(places) // 2]
    assert middle.diff().abs().max() < 4 / max(overlap - 2 * margin, 4) + 1e-6 or len(places) == 1  # no edge


def test_noise_belongs_to_its_place(tiny):
    up = network(tiny(*TO_32, *NO_ATTENTION))
    field = NoiseField(up, 3)
    z, first = latents.draw([3], up.z_dim, up.noise_dim)
    assert torch.equal(field.z, z)
    assert torch.equal(field.cut((0, 0)), first[0])  # a picture of the run's own size has the noise of any sampler
    a, b = (dict(enumerate(_layers(field, field.cut(place)))) for place in ((8, 4), (12, 6)))
    for k, (_, side) in enumerate(field.parts):
        down, right = 4 * side // 8, 2 * side // 8
        assert torch.equal(a[k][:, down:, right:], b[k][:, : side - down, : side - right])
    other = NoiseField(up, 4)
    assert not torch.equal(other.cut((8, 4)), field.cut((8, 4)))
    far = field.cut((80, 160))
    assert abs(float(far.mean())) < 0.1
    assert abs(float(far.std()) - 1) < 0.1
    assert torch.equal(NoiseField(up, 3).cut((80, 160)), far)


def _layers(field: NoiseField, noise: Tensor) -> list[Tensor]:
    split = noise.split([n * side * side for n, side in field.parts])
    return [part.view(n, side, side) for part, (n, side) in zip(split, field.parts, strict=True)]


# Tiled is untiled -----------------------------------------------------------------------------------------------------


def twice(tiny):
    """A network without attention, of 64 to 128 px, and the same one (its weights, its channels) of twice that size:
    what it is when it sees a larger picture at once."""

    def config(by: int):
        sizes = [f"upsampler.input={64 * by}", f"upsampler.lowest={32 * by}", f"data.resolution={128 * by}"]
        channels = [f"{part}.channel_base={512 * by}" for part in ("generator", "discriminator")]
        return tiny(*NO_ATTENTION, *sizes, *channels)

    small, large = network(config(1)), generator_of(config(2), 16)
    state = {}
    for name, value in small.state_dict().items():
        part, *rest = name.split(".")
        if part in ("encoder", "skips"):  # their parts are named by resolution
            rest[0] = str(int(rest[0]) * 2)
        state[".".join([part, *rest])] = value
    large.load_state_dict(state)
    return small, large


def at_once(large, field: NoiseField, image: np.ndarray) -> Tensor:
    """The large picture [3, R, R] in one pass, with the noise of the field over all of it."""
    n = large.input // field.tile
    blocks = [[_layers(field, field.cut((i * field.tile, j * field.tile))) for j in range(n)] for i in range(n)]
    noise = [
        torch.cat([torch.cat([blocks[i][j][k] for j in range(n)], 2) for i in range(n)], 1).flatten()
        for k in range(len(field.parts))
    ]
    nothing = Labels(torch.zeros(1, dtype=torch.int64))
    return large(field.z, nothing, torch.cat(noise)[None], to_tensor(image[None]))[0][0]


def by_tiles(up: Upsampling, image: np.ndarray, seed: int, overlap: int, batch: int = 3) -> Tensor:
    """As ``Upsampling.rows``, before rounding."""
    field, plan = NoiseField(up.network, seed), up.plan(*image.shape[:2], 0, overlap)
    style = up.network.style(field.z, Labels(torch.zeros(1, dtype=torch.int64)))

    def draw(parts: Tensor, places: list[tiles.Tile]) -> Tensor:
        styles = [latents.pick(style, [0] * len(parts))] * len(up.network.levels)
        return up.network.synthesise(styles, torch.stack([field.cut(place) for place in places]), parts)[0]

    rows = list(tiles.bands(image, plan, draw, batch, lambda n: None))
    return torch.cat(rows, dim=1)


@torch.no_grad()
def test_tiled_is_untiled_where_what_is_thrown_away_is_all_that_a_border_reaches(tiny):
    """Without attention a network sees only so far. With that much thrown away, every pixel is the same."""
    small, large = twice(tiny)
    up, image, field = Upsampling(small, None, CPU), picture(128, 128), NoiseField(small, 5)
    whole = at_once(large, field, image)
    changed = image.copy()
    changed[:, 64:] = 255 - changed[:, 64:]
    reached = (at_once(large, field, changed) - whole).abs().amax((0, 1)).nonzero()
    reach = 64 - int(reached.min()) // 2  # px of the input
    assert 4 < reach <= 13

    # Of 52 px in common, 13 are thrown away at either end.
    assert up.plan(128, 128, 0, 52).n_tiles == 49
    torch.testing.assert_close(by_tiles(up, image, 5, 52), whole, rtol=0, atol=1e-4)
    # With less, pixels differ where tiles meet, and nowhere else: what the picture shows is the same field of noise.
    less = (by_tiles(up, image, 5, 16) - whole).abs().amax(0)
    assert less.max() > 1e-3
    assert up.plan(128, 128, 0, 16).places[1] == [0, 32, 64]
    free = torch.zeros(256, dtype=torch.bool)
    for start, stop in ((0, 35), (62, 66), (94, 128)):
        free[2 * start : 2 * stop] = True
    assert less[free][:, free].max() < 1e-4
    # A picture of the run's own size is one tile, the very picture of an untiled pass.
    one = image[:64, :64]
    torch.testing.assert_close(by_tiles(up, one, 5, 16), at_once(small, field, one), rtol=0, atol=1e-5)


@pytest.mark.parametrize("overrides", [SELF_ATTENTION, ()], ids=["self-attention", "text"])
def test_tiles_that_differ_give_way_to_each_other_without_a_line(tiny, clip, overrides):
    """Attention sees a whole tile, so neighbours do differ."""
    config = tiny(*overrides, "data.resolution=64", "upsampler.input=32", "upsampler.lowest=8")
    up = Upsampling(network(config), None if overrides else clip, CPU)
    blended, laid = np.zeros((24, 255)), np.zeros((24, 255))
    for k in range(24):
        image = picture(32, 128, k)
        blended[k] = _steps(up.rows(image, CAPTION, k))
        side_by_side = [next(up.rows(image[:, x : x + 32], CAPTION, k)) for x in range(0, 128, 32)]
        laid[k] = _steps([np.concatenate(side_by_side, axis=1)])
    assert up.plan(32, 128).n_tiles == 5
    assert _line(blended) < 0.2
    assert _line(laid) > 0.6


def _steps(rows) -> np.ndarray:
    """Mean difference of horizontal neighbours at each of their places."""
    return np.abs(np.diff(np.concatenate(list(rows)).astype(np.float64), axis=1)).mean((0, 2))


def _line(steps: np.ndarray) -> float:
    """By how much a place is steeper than those around it, at most; the picture's own borders left out.

    The 8 px that a coarse pixel makes differ among themselves, so each is first divided by the median of its like.
    """
    mean = np.append(steps.mean(0), np.nan).reshape(-1, 8)
    like = (mean / np.nanmedian(mean, axis=0)).ravel()
    return float(np.max((like - (np.roll(like, 3) + np.roll(like, -3)) / 2)[16:-16]))


# Memory ---------------------------------------------------------------------------------------------------------------

AT_ONCE = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system
PEAK = """
import sys
from gigagan.upsample import main
main()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_peak_memory_does_not_grow_with_the_number_of_tiles(tiny, tmp_path):
    """Five times as many tiles, for a picture of 19 MB more, of which none is held."""
    run = save(tiny("generator.channel_max=4", *NO_ATTENTION, *sides(32, 256)), tmp_path / "run")
    peak, made = [], []
    for height in (96, 480):
        Image.fromarray(picture(height, 256)).save(tmp_path / "in.png")
        out = tmp_path / f"{height}.png"
        arguments = ["--run", run, tmp_path / "in.png", "--batch", 4, "--out", out]
        command = [sys.executable, "-c", PEAK, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **AT_ONCE})
        peak.append(int(done.stdout) * 1024)
        with Image.open(out) as image:
            assert image.size == (2048, 8 * height)
        made.append(8 * height * 2048 * 3)
    assert peak[1] - peak[0] < (made[1] - made[0]) / 6, (peak, made)
