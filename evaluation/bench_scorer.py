"""How fast the scorer reads pictures, side by side with clean-fid's loader, and how much memory a whole scoring takes.

    OMP_NUM_THREADS=1 python -m evaluation.bench_scorer --loader 1000 --images 30000

Both loaders decode the same JPEGs, of COCO's usual size, and resize as clean-fid's mode "clean" does, on all cores;
they take turns, and what they hand over is compared bit for bit. The scoring is of as many pictures on either side,
with features as wide as Inception's from a network that costs nothing, so that what remains is the scorer's own.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from evaluation import protocols
from evaluation.extractors import INCEPTION_WIDTH, Extractor, Network
from evaluation.image_sets import ImageSet, decoded
from evaluation.preprocess import clean_resize
from evaluation.reading import batches
from evaluation.scorer import Scorer
from gigagan.errors import UserError, command
from gigagan.options import positive, threads

BATCH = 32
MOST_MEMORY = 4.0
"""GiB that scoring 30,000 images may take."""


def photograph(seed: int, width: int = 640, height: int = 480) -> bytes:
    """A JPEG with as much detail as a photograph has."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64, 160):
        part = rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8)
        image += np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 4
    out = BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def ours(images: ImageSet, cores: int) -> Iterator[np.ndarray]:
    """Batches, float32 [B, 3, 299, 299], as the scorer hands them to a network."""
    pictures = decoded(images, lambda image, _: clean_resize(image), cores)
    return (np.stack([image for image, _ in group]) for group in batches(pictures, BATCH))


def clean_fids(images: ImageSet, cores: int) -> Iterator[np.ndarray]:
    """The same from clean-fid's data set and torch's loader, one process for each core."""
    from cleanfid.utils import ResizeDataset
    from torch.utils.data import DataLoader

    files = [images.path / name for name in images.names]
    loader = DataLoader(ResizeDataset(files, "clean"), batch_size=BATCH, shuffle=False, num_workers=cores)
    return (batch.numpy() for batch in loader)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def timed(load: Callable[[ImageSet, int], Iterator[np.ndarray]], images: ImageSet, cores: int) -> tuple[float, float]:
    """CPU and wall seconds for all batches where nothing is done with them."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    deque(load(images, cores), maxlen=0)
    return cpu_seconds() - cpu, time.perf_counter() - wall


def loaders(n: int, rounds: int, cores: int) -> list[str]:
    """The lines of the first table. Raises UserError where the two hand over different bits."""
    taken: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            Path(folder, f"{i:06}.jpg").write_bytes(photograph(i))
        images = ImageSet(folder)
        for mine, theirs in zip(ours(images, cores), clean_fids(images, cores), strict=True):
            if not np.array_equal(mine, theirs):
                raise UserError("the two loaders hand over different bits: one of them is wrong")
        for _ in range(rounds):
            for row, load in zip(taken, (ours, clean_fids), strict=True):
                row.append(timed(load, images, cores))
    (cpu, wall), (their_cpu, their_wall) = ([median(column) for column in zip(*row, strict=True)] for row in taken)
    verdict = "reached" if their_wall >= wall else "missed"
    return [
        f"decoding and resizing {n:,} JPEGs of 640x480 px on {cores} cores, medians of {rounds}, bit for bit the same:",
        f"{'who':<11}{'CPU s':>8}{'wall s':>8}{'images/s':>10}",
        f"{'ours':<11}{cpu:>8.2f}{wall:>8.2f}{n / wall:>10.1f}",
        f"{'clean-fid':<11}{their_cpu:>8.2f}{their_wall:>8.2f}{n / their_wall:>10.1f}",
        f"{'ratio':<11}{their_cpu / cpu:>8.2f}{their_wall / wall:>8.2f}  wanted 1: {verdict}",
    ]


class StandIn(Network):
    """Features as wide as Inception's, by a fixed projection of what Inception would be shown."""

    gives: Sequence[str] = ("inception",)
    weights = {"inception": "stand-in"}  # noqa: RUF012
    width = INCEPTION_WIDTH

    def __init__(self) -> None:
        self.projection = torch.randn(3 * 25 * 25, self.width, generator=torch.Generator().manual_seed(0)) / 45

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return clean_resize(image)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        small = torch.from_numpy(np.ascontiguousarray(prepared[:, :, ::12, ::12])).flatten(1)
        return {"inception": (small / 64 @ self.projection).relu()}


class Bench(Scorer):
    @cached_property
    def networks(self) -> list[Extractor]:
        return [StandIn()]


def noise(path: Path, n: int, seed: int) -> ImageSet:
    """``n`` pictures of 32 px that share nothing, in a zip."""
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(n):
            out = BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(out, "PNG", compress_level=1)
            archive.writestr(f"{i:06}.png", out.getvalue())
    return ImageSet(path)


def whole(n: int, cores: int) -> list[str]:
    """The lines on a whole scoring: FID with its interval, and KID."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [noise(Path(folder, f"{seed}.zip"), n, seed) for seed in (0, 1)]
        began = time.perf_counter()
        protocol = replace(protocols.load("clean-fid@1"), name="bench@1")
        result = Bench(protocol, threads=cores)(*sets)
        taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    verdict = "reached" if peak < MOST_MEMORY else "missed"
    fid = result.scores["fid"]
    return [
        f"FID with interval, and KID, of {n:,} against {n:,} images (stand-in features, {INCEPTION_WIDTH} wide):",
        f"  {taken:.0f} s, FID {fid.value:.6g}",
        f"  peak memory {peak:.2f} GiB; wanted below {MOST_MEMORY:g}: {verdict}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.bench_scorer", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--loader", type=positive, default=1000, metavar="N", help="pictures for the loaders")
    parser.add_argument("--rounds", type=positive, default=3, help="turns of each loader")
    parser.add_argument("--images", type=positive, default=30_000, help="pictures of a whole scoring, on either side")
    parser.add_argument("--threads", type=threads, default=len(os.sched_getaffinity(0)), help="and loader processes")
    args = parser.parse_args()
    print("\n".join(loaders(args.loader, args.rounds, args.threads)), flush=True)
    print("\n".join(whole(args.images, args.threads)))


if __name__ == "__main__":
    command(main)
