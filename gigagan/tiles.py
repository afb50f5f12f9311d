"""Pictures larger than an upsampler's input: tile by tile, without seams, in memory that one row of tiles takes.

Neighbouring tiles overlap. What a tile shows near its inner borders, where the network saw zeros in its neighbour's
place, is thrown away; over the rest of the overlap it gives way to its neighbour smoothly, by windows that sum to one.
The noise is one field over the whole picture, keyed by position, and tiles begin where the U-Net's coarsest pixels do:
so where two tiles overlap, they are two views of the same computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gigagan import latents
from gigagan.networks.parameters import derive
from gigagan.networks.upsampler import Upsampler
from gigagan.pixels import shrink, to_tensor

Tile = tuple[int, int]
"""Top and left of a tile, in pixels of the picture that is enlarged."""


def starts(length: int, tile: int, overlap: int, step: int) -> list[int]:
    """Where tiles begin along a side: from 0 to ``length - tile``, evenly, on multiples of ``step``, with at least
    ``overlap`` px in common. All four are multiples of ``step``, in pixels."""
    gaps = math.ceil((length - tile) / (tile - overlap))
    return [k * ((length - tile) // step) // gaps * step for k in range(gaps)] + [length - tile]


def windows(places: list[int], tile: int, overlap: int, margin: int) -> list[Tensor]:
    """The weights [tile] of each tile along a side: nothing over the ``margin`` px at an inner border, the rest of the
    least overlap a smooth rise; at every pixel, all tiles' weights sum to one."""
    rise = ((torch.arange(tile, dtype=torch.float64) + 0.5 - margin) / (overlap - 2 * margin)).clamp(0, 1)
    rise = (rise * (math.pi / 2)).sin().square()
    total, last = torch.zeros(places[-1] + tile, dtype=torch.float64), len(places) - 1
    weights = []
    for k, place in enumerate(places):
        own = torch.ones(tile, dtype=torch.float64)
        own = own if k == 0 else own * rise
        weights.append(own if k == last else own * rise.flip(0))
        total[place : place + tile] += weights[-1]
    return [(own / total[place : place + tile]).float() for own, place in zip(weights, places, strict=True)]


class NoiseField:
    """An endless field of noise for every layer of a network, of which each tile is given its part.

    It is made of blocks of a tile's size, each a function of the seed and its place; that at (0, 0) is the noise that a
    picture of the network's own size is drawn with. Four of them are kept, as many as a tile can touch.
    """

    def __init__(self, network: Upsampler, seed: int) -> None:
        self.tile, self.seed, self.size = network.input, seed, network.noise_dim
        self.parts = [(3, network.input), *((sum(level.n_convs), level.resolution) for level in network.levels)]
        """Fields of one layer and their side on a tile, in the order in which the network takes them."""
        self.z, first = latents.draw([seed], network.z_dim, self.size)
        self._first = first[0]
        self._block = lru_cache(maxsize=4)(self._draw)

    def _draw(self, row: int, column: int) -> Tensor:
        if (row, column) == (0, 0):
            return self._first
        return latents.draw([derive(self.seed, "noise", row, column)], 0, self.size)[1][0]

    def cut(self, tile: Tile) -> Tensor:
        """The noise [noise_dim] of the tile there."""
        (row, y), (column, x) = (divmod(place, self.tile) for place in tile)
        noise = torch.empty(self.size)
        for i in (0, 1) if y else (0,):
            for j in (0, 1) if x else (0,):
                self._copy(self._block(row + i, column + j), noise, (i, y), (j, x))
        return noise

    def _copy(self, block: Tensor, noise: Tensor, vertical: tuple[int, int], horizontal: tuple[int, int]) -> None:
        """From one block what a tile sees of it, if the tile begins so far within the first of two blocks."""
        for (n, side), source, target in zip(self.parts, self._fields(block), self._fields(noise), strict=True):
            (out_y, in_y), (out_x, in_x) = (
                (slice(0, side - shift), slice(shift, side)) if i == 0 else (slice(side - shift, side), slice(0, shift))
                for i, shift in ((i, offset * side // self.tile) for i, offset in (vertical, horizontal))
            )
            target.view(n, side, side)[:, out_y, out_x] = source.view(n, side, side)[:, in_y, in_x]

    def _fields(self, noise: Tensor) -> tuple[Tensor, ...]:
        return noise.split([n * side * side for n, side in self.parts])


class Plan:
    """How a picture of ``height`` x ``width`` px is cut into a network's tiles and enlarged ``scale`` times.

    Args:
        overlap: px that neighbouring tiles have in common, less than a tile; a quarter of it is thrown away at either
            end. By default a quarter of a tile.
    """

    def __init__(self, network: Upsampler, height: int, width: int, scale: int, overlap: int = 0) -> None:
        self.tile, self.scale = network.input, scale
        self.height, self.width = height, width
        # Tiles begin where a pixel of the coarsest level does; a picture that ends within one is continued to its end.
        self.step = step = network.input // network.levels[0].resolution
        self.overlap = min(math.ceil((overlap or self.tile // 4) / step) * step, self.tile - step)
        tile, common = self.tile * scale, self.overlap * scale
        self.places = [starts(math.ceil(n / step) * step, self.tile, self.overlap, step) for n in (height, width)]
        self.rows, self.columns = (
            windows([place * scale for place in places], tile, common, common // 4) for places in self.places
        )

    @property
    def n_tiles(self) -> int:
        return len(self.rows) * len(self.columns)


Draw = Callable[[Tensor, list[Tile]], Tensor]
"""Tiles [n, 3, tile, tile] in [-1, 1] and where they begin -> the same enlarged, [n, 3, R, R]"""


def bands(picture: np.ndarray, plan: Plan, draw: Draw, batch: int, done: Callable[[int], None]) -> Iterator[Tensor]:
    """The enlarged picture from top to bottom, [3, h, W * scale] in [-1, 1] for each row of tiles, on their device.

    Args:
        picture: uint8 [H, W, 3].
        batch: tiles that are drawn at once.
        done: told how many tiles were drawn since it was told before.
    """
    side, scale = plan.tile * plan.scale, plan.scale
    bottom, right = (places[-1] + plan.tile for places in plan.places)
    band = torch.zeros(0)
    for row, top in enumerate(plan.places[0]):
        strip = picture[top : top + plan.tile]
        strip = np.pad(strip, ((0, plan.tile - len(strip)), (0, right - plan.width), (0, 0)), "edge")
        for first in range(0, len(plan.columns), batch):
            lefts = plan.places[1][first : first + batch]
            tiles = to_tensor(np.stack([strip[:, left : left + plan.tile] for left in lefts]))
            drawn = shrink(draw(tiles, [(top, left) for left in lefts]), side).float()
            if not band.numel():
                band = drawn.new_zeros(1, 3, side, right * scale)
            for column, (left, tile) in enumerate(zip(lefts, drawn, strict=True), first):
                weights = plan.rows[row].to(tile.device)[:, None] * plan.columns[column].to(tile.device)
                band[0, :, :, left * scale : left * scale + side] += weights * tile
            done(len(lefts))
        below = plan.places[0][row + 1] if row + 1 < len(plan.rows) else bottom
        finished = (below - top) * scale
        yield band[0, :, : min(finished, (plan.height - top) * scale), : plan.width * scale]
        band = F.pad(band[:, :, finished:], (0, 0, 0, finished))
