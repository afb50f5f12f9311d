"""Fixed random crops, for scores of fine detail: an extractor that shrinks large pictures first would not see it.

The paper's patch FID (Table 4) is on crops; of which size and how many, it does not say. Here it is one a picture.
"""

from __future__ import annotations

import numpy as np

from gigagan.errors import UserError


def seeded_crop(image: np.ndarray, seed: int, side: int) -> np.ndarray:
    """One square of an image, uint8 [H, W, 3] -> [side, side, 3], uncopied pixels at a place that is a function of the
    seed alone. An image's index in its set as the seed puts it alike in an enlarged picture and its ground truth.

    Raises UserError for an image smaller than a crop.
    """
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise UserError(f"images of {width}x{height} px have no crops of {side} px: leave the score of patches out")
    y, x = np.random.default_rng(seed).integers((height - side + 1, width - side + 1))
    return image[y : y + side, x : x + side]
