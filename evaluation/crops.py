"""Fixed random crops, for scores of fine detail: an extractor that shrinks large pictures first would not see it.

The paper's patch FID (Table 4) is on crops; of which size and how many, it does not say. Here it is one a picture.
"""

from __future__ import annotations

import numpy as np

from gigagan.errors import UserError


def seeded_crops(images: np.ndarray, indices: range, side: int) -> np.ndarray:
    """One square of each image, uint8 [B, H, W, 3] -> [B, side, side, 3], uncopied pixels at a place that is a function
    of the image's index in its set alone: whatever the batch, and alike in the enlarged picture and its ground truth.

    Raises UserError for images smaller than a crop.
    """
    height, width = images.shape[1:3]
    if min(height, width) < side:
        raise UserError(f"images of {width}x{height} px have no crops of {side} px: leave the score of patches out")
    corners = [np.random.default_rng(index).integers((height - side + 1, width - side + 1)) for index in indices]
    return np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(images, corners, strict=True)])
