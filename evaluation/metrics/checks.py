"""What every metric asks of its features before it counts with them."""

from __future__ import annotations

import numpy as np

from gigagan.errors import UserError


class Doubt(UserWarning):
    """A score that is given all the same, and why it is not to be trusted; said to whoever asked for it."""


ROWS = 1024  # at a time: float64 copies of them are small beside the features, and quick to come by


def check_features(metric: str, least: int, **sets: np.ndarray) -> None:
    """Raises UserError unless all ``sets``, {what they are of: features}, are finite, [N, D] with one D, and of at
    least ``least`` images each."""
    shapes = " and ".join(str(list(features.shape)) for features in sets.values())
    if any(features.ndim != 2 for features in sets.values()):
        raise UserError(f"{metric}: features of one extractor are [images, width]: got {shapes}")
    if len({x.shape[1] for x in sets.values()}) > 1:
        raise UserError(
            f"{metric}: features of one extractor are [images, width], of one width: got {shapes}, of other extractors "
            "or of pictures of another size"
        )
    for of, features in sets.items():
        if len(features) < least:
            there = f"the images are {len(features)}" if of == "images" else f"the {of} has {len(features)}"
            raise UserError(f"{metric} needs at least {least} images on either side: {there}")
        if (row := first_bad(features)) is not None:
            raise UserError(
                f"{metric}: row {row} of the features of the {of} holds NaN or infinity: look at that image, "
                "then extract them again"
            )


def first_bad(features: np.ndarray) -> int | None:
    """The first row of ``features`` [N, D] with a value that is not finite, if there is one."""
    for start in range(0, len(features), ROWS):
        bad = ~np.isfinite(features[start : start + ROWS]).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None
