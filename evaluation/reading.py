"""One pass over a set of pictures: decoded and prepared by threads, shown to networks batch by batch, kept in files."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from evaluation.extractors import Extractor
from evaluation.feature_store import Features, Rows, Store, Sums, note
from evaluation.image_sets import ImageSet, decoded
from evaluation.metrics.checks import first_bad
from evaluation.preprocess import Change
from evaluation.protocols import captions_sha
from gigagan.degenerate import constant
from gigagan.errors import UserError
from gigagan.progress import Progress

Item = TypeVar("Item")


@dataclass(frozen=True)
class Read:
    """A set as it was read.

    Attributes:
        size: width and height of its first picture as it came, in pixels.
        files: the hash of each picture's file, in order.
        constant: indices of pictures that are of one colour throughout, as they came.
        features: by name, not in memory.
    """

    size: tuple[int, int]
    files: Sequence[str]
    constant: Sequence[int]
    features: Features

    @property
    def sha(self) -> str:
        """Of the files' contents, whatever their names and order."""
        return hashlib.sha256("".join(sorted(self.files)).encode()).hexdigest()


@dataclass(frozen=True)
class Reader:
    """How pictures are read.

    Attributes:
        change: what is done to each before an extractor sees it.
        made: in words, what changes it makes; part of what features are kept under.
        store: where features are kept.
        what: they are called in progress.
        one_size: whether pictures of several sizes are refused; those that come to a network in several sizes always
            are.
    """

    change: Change
    made: Sequence[object]
    store: Store
    batch: int
    threads: int
    progress: bool
    what: str
    one_size: bool

    def __call__(
        self, images: ImageSet, extractors: Sequence[Extractor], captions: Sequence[str] | None, sums: bool
    ) -> Read:
        """All features that ``extractors`` give of a set: from the store, or from the pictures in one pass.

        Args:
            captions: of the pictures; None where no text takes part.
            sums: whether mean and covariance are enough.

        Raises UserError for a picture that cannot be read or whose features are not finite, with its name, and for
        pictures of several sizes.
        """
        keys = {self._key(images, extractor, captions, sums): extractor for extractor in extractors}
        given = {key: extractor.given(captions is not None) for key, extractor in keys.items()}
        missing = {key: e for key, e in keys.items() if self.store.read(key, given[key], len(images)) is None}
        if missing:
            self._pass(images, missing, captions, sums)
        features: Features = {}
        about: Mapping[str, list] = {}
        for key in keys:
            kept = self.store.read(key, given[key], len(images))
            if kept is None:
                raise UserError(f"{self.store.folder}: features that were just kept there are gone: try again")
            features |= kept[0]
            about = kept[1]
        width, height = about["size"]
        return Read((width, height), about["files"], about["constant"], features)

    def _key(self, images: ImageSet, extractor: Extractor, captions: Sequence[str] | None, sums: bool) -> str:
        of_text = captions_sha(captions) if captions else ""
        of_network = [*extractor.gives, extractor.weights, extractor.how]
        whole = json.dumps([images.fingerprint, of_text, sums, self.one_size, *self.made, *of_network], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:24]

    def _pass(
        self, images: ImageSet, missing: Mapping[str, Extractor], captions: Sequence[str] | None, sums: bool
    ) -> None:
        extractors, first, files = list(missing.values()), None, []
        empty: set[int] = set()

        def prepared(image: np.ndarray, index: int) -> tuple[tuple[int, int], list[np.ndarray]]:
            if constant(image[None])[0]:
                empty.add(index)
            changed = self.change(image)
            return (image.shape[1], image.shape[0]), [extractor.prepare(changed, index) for extractor in extractors]

        bar = None
        if self.progress:
            print(f"reading {self.what}: {images.path}", file=sys.stderr, flush=True)
            bar = Progress(len(images), unit="images")
        with ExitStack() as stack, torch.inference_mode():
            folders = {key: stack.enter_context(self.store.new(key)) for key in missing}
            keep = {key: (Sums if sums else Rows)(folder, len(images)) for key, folder in folders.items()}
            for group in batches(decoded(images, prepared, self.threads), self.batch):
                start = len(files)
                for (size, parts), digest in group:
                    shapes = [part.shape for part in parts]
                    first = (size, shapes) if first is None else first
                    if (self.one_size and size != first[0]) or shapes != first[1]:
                        raise UserError(
                            f"{images.where(len(files))} is {size[0]}x{size[1]} px, the first is "
                            f"{first[0][0]}x{first[0][1]}: images of mixed sizes are not scored: make them alike"
                        )
                    files.append(digest)
                texts = captions[start : len(files)] if captions else []
                for k, (key, extractor) in enumerate(missing.items()):
                    found = extractor.features(np.stack([parts[k] for (_, parts), _ in group]), texts)
                    for name, values in found.items():
                        rows = values.float().cpu().numpy()
                        if (bad := first_bad(rows)) is not None:
                            raise UserError(
                                f"{images.where(start + bad)}: its features ({name}) hold NaN or infinity: look at "
                                "that image, and at the weights"
                            )
                        keep[key].take(name, start, rows)
                if bar:
                    bar.update(len(files))
            for key, folder in folders.items():
                keep[key].finish()
                note(folder, {"size": first[0] if first else (), "files": files, "constant": sorted(empty)})


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """``items`` in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
