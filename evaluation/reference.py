"""Held-out real images: one set as the reference of the Fréchet distance, and another whose captions are the prompts.

    python -m evaluation.reference data.name=scenes data.resolution=16 \\
        --n-reference 4000 --n-real 1000 --reference reference.zip --real real.zip

Both come from the test split and share no picture. The "seed" of an image is its index in that split. Scoring the
second set itself gives the row ``real``.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gigagan.archive import write_images
from gigagan.config import DataConfig, parse_overrides
from gigagan.data import Dataset, Item, open_dataset
from gigagan.errors import UserError, command
from gigagan.options import positive
from gigagan.progress import Progress


def describe(config: DataConfig, items: Sequence[Item]) -> dict[str, Any]:
    """What of the data changes a score: part of every protocol hash.

    Scenes are described by their settings; photographs are whatever lies in a folder, so their contents are hashed.
    """
    about: dict[str, Any] = {"dataset": config.name, "resolution": config.resolution}
    if config.name == "scenes":
        return about | {"objects": list(config.objects), "placed": config.placed}
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.image.tobytes())
        digest.update(item.caption.encode())
    return about | {"contents": digest.hexdigest()[:12]}


def draw(dataset: Dataset, n: int) -> Iterator[tuple[int, Item]]:
    """``n`` different pictures of a data set with their indices, scattered over it, always the same.

    A picture may lie under several indices: with several captions, or in place of one that cannot be read.

    Raises UserError where the data set has fewer.
    """
    seen: set[bytes] = set()
    # Some data sets are sorted by class, and some have no end: sample() scatters the draw and needs no list of all.
    for index in random.Random(0).sample(range(len(dataset)), min(len(dataset), 20 * n)):
        item = dataset[index]
        picture = hashlib.sha256(item.image.tobytes()).digest()
        if picture not in seen:
            seen.add(picture)
            yield index, item
            if len(seen) == n:
                return
    raise UserError(
        f"the test split of {dataset.name} has {len(seen)} different pictures, {n} are wanted (reference and real "
        "together): hold out more, or choose a protocol that needs fewer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.reference", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("overrides", nargs="*", metavar="data.FIELD=VALUE", help="the data set, as in gigagan.train")
    parser.add_argument("--n-reference", type=positive, default=4000)
    parser.add_argument("--n-real", type=positive, default=1000)
    parser.add_argument("--reference", type=Path, required=True, help="image set to write")
    parser.add_argument("--real", type=Path, required=True, help="image set to write")
    args = parser.parse_intermixed_args()  # options may stand between overrides
    config = parse_overrides(args.overrides).data
    n = args.n_reference + args.n_real
    progress, drawn = Progress(n), []
    for found in draw(open_dataset(config, "test"), n):
        drawn.append(found)
        progress.update(len(drawn))
    about = describe(config, [item for _, item in drawn])
    for path, part in ((args.reference, drawn[: args.n_reference]), (args.real, drawn[args.n_reference :])):
        indices, items = zip(*part, strict=True)
        write_images(path, (item.image for item in items), [item.caption for item in items], indices, about)


if __name__ == "__main__":
    command(main)
