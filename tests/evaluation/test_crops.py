from __future__ import annotations

import numpy as np
import pytest

from evaluation.crops import seeded_crop
from gigagan.errors import UserError


def seeded_crops(images: np.ndarray, indices: range, side: int) -> np.ndarray:
    return np.stack([seeded_crop(image, index, side) for image, index in zip(images, indices, strict=True)])


def places(n: int, height: int, width: int) -> np.ndarray:
    """Images whose pixels say where they are."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([np.stack([y, x, np.full_like(x, i)], axis=-1) for i in range(n)])


def test_a_crop_is_a_function_of_the_index_alone() -> None:
    images = places(40, 50, 70)
    whole = seeded_crops(images, range(40), 32)
    parts = [seeded_crops(images[i : i + 7], range(i, min(i + 7, 40)), 32) for i in range(0, 40, 7)]
    assert whole.shape == (40, 32, 32, 3)
    assert (np.concatenate(parts) == whole).all()
    assert (seeded_crops(255 - images, range(40), 32) == 255 - whole).all()  # alike in any other picture
    corners = whole[:, 0, 0, :2].astype(int)
    assert (whole[:, -1, -1, :2] == corners + 31).all()  # pixels as they were
    assert (whole[:, :, :, 2] == np.arange(40)[:, None, None]).all()
    assert (corners.max(axis=0) <= (18, 38)).all()
    assert (np.ptp(corners, axis=0) > (9, 19)).all()  # scattered


def test_an_image_of_the_crop_s_size_is_its_own_crop() -> None:
    images = places(3, 32, 32)
    assert (seeded_crops(images, range(3), 32) == images).all()


def test_images_smaller_than_a_crop_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="images of 40x20 px have no crops of 32 px"):
        seeded_crops(places(1, 20, 40), range(1), 32)
