"""Pictures of prompts by any sampler, one by one, in batches that the device's memory holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gigagan.archive import write_images
from gigagan.degenerate import Tally
from gigagan.errors import UserError
from gigagan.memory import is_out_of_memory
from gigagan.progress import Progress
from gigagan.sampling import Sampler


def draw(
    sampler: Sampler, captions: list[str], seeds: list[int], batch: int, tally: Tally, *how: Any
) -> Iterator[np.ndarray]:
    """Pictures uint8 [R, R, 3], with progress, looked at by the tally. A batch that the device's memory does not hold
    is halved until it fits, and that is said. ``how``: what else the sampler's ``generate`` takes.

    Raises UserError where a single picture does not fit.
    """
    progress, start, asked = Progress(len(captions)), 0, batch
    while start < len(captions):
        rows, images = slice(start, start + batch), None
        try:
            images = sampler.generate(sampler.encode(captions[rows]), seeds[rows], *how)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
        if images is None:  # behind the handler, where the error holds no tensors any more
            if sampler.device.type == "cuda":
                torch.cuda.empty_cache()
            if batch == 1:
                raise UserError(
                    f"a single picture of {sampler.resolution} px does not fit into the memory of {sampler.device}: "
                    "take a smaller dtype or resolution, or another device"
                )
            batch = max(1, min(batch, len(captions) - start) // 2)
            continue
        if batch < asked:
            print(f"--batch {asked} does not fit into the memory of {sampler.device}: {batch} does", file=sys.stderr)
            asked = batch
        yield from tally.to_uint8(images)
        start += len(images)
        progress.update(start)


def write(out: Path, sampler: Sampler, captions: list[str], seeds: list[int], batch: int) -> Tally:
    """An archive of the pictures of captions, drawn as it is written: what 30,000 of 1024 px take fits on a disk, not
    into memory. How many held NaN, which bytes hide, stands in it, and is said with the other flaws.

    Raises UserError as ``draw``.
    """
    tally = Tally()

    def about() -> dict[str, Any] | None:
        return {"n_non_finite": tally.n_non_finite} if tally.n_non_finite else None

    write_images(out, draw(sampler, captions, seeds, batch, tally), captions, seeds, about)
    tally.warn(out)
    return tally
