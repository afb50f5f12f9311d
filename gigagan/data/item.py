"""What every data set yields, and what it can say about its captions."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from gigagan.data.skipped import Skipped


class Item(NamedTuple):
    """One captioned picture: ``image`` is uint8 ``[H, W, 3]``."""

    image: np.ndarray
    caption: str


class Dataset(Protocol):
    """A map-style data set; an index always gives the same item."""

    name: str
    skipped: Skipped
    """Which samples were left out so far, and why."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...

    def describe(self) -> str:
        """One line for logs: how many pictures of which size, and how many were left out."""
        ...

    def fingerprint(self) -> str:
        """12 hex digits of what would be yielded, or "" where the configuration alone decides that.

        It is part of the recipe, so that a run never goes on with other data. Where the files lie and how old they are
        is no part of it.
        """
        ...

    def classes(self) -> list[str]:
        """The captions there are, in the order of their numbers, where they are the names of classes; else none."""
        ...

    def meaning(self, caption: str) -> str:
        """A key that two captions share exactly when they mean the same."""
        ...

    def flippable(self, caption: str) -> bool:
        """Whether the caption still holds when the picture is mirrored left to right."""
        ...
