"""Pictures before a network scores them: the bytes of the reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from evaluation import preprocess

SIZES = [(64, 64), (37, 64), (64, 37), (301, 300), (256, 333), (7, 5), (640, 427), (300, 301)]


def picture(h: int, w: int) -> np.ndarray:
    rng = np.random.default_rng(h * 1000 + w)
    smooth = Image.fromarray(rng.integers(0, 256, (max(h // 7, 1), max(w // 7, 1), 3), dtype=np.uint8))
    noise = rng.normal(0, 20, (h, w, 3))
    return (np.asarray(smooth.resize((w, h), Image.Resampling.BICUBIC)) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_the_crop_is_torchvisions(h, w):
    image = picture(h, w)
    theirs = transforms.functional.center_crop(Image.fromarray(image), min(h, w))
    assert np.array_equal(preprocess.centre_crop(image), np.asarray(theirs))


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_clean_resize_is_clean_fids_to_the_bit(h, w):
    from cleanfid.resize import build_resizer

    image = picture(h, w)
    ours, theirs = preprocess.clean_resize(image), build_resizer("clean")(image).transpose(2, 0, 1)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("side", [16, 64, 256])
def test_lanczos_is_that_of_gigagans_evaluation(side):
    square = preprocess.centre_crop(picture(300, 427))
    resized = transforms.Resize(side, interpolation=transforms.InterpolationMode.LANCZOS)(Image.fromarray(square))
    assert np.array_equal(preprocess.resize(square, side, "lanczos"), np.asarray(resized))


def test_a_picture_that_was_a_tensor_in_between_loses_what_the_authors_code_loses():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    back = ((to_tensor(Image.fromarray(values)) + 1.0) * 127.5).clamp(0.0, 255.0).to(torch.uint8).permute(1, 2, 0)
    ours = preprocess.through_tensor(values)
    assert np.array_equal(ours, back.numpy())
    lost = values.astype(int) - ours
    assert lost[0, 1, 0] == 1
    assert lost.max() == 1


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_clips_own_preprocessing_up_to_its_normalisation(h, w):
    from open_clip.transform import image_transform

    image = picture(h, w)
    theirs = image_transform(32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(Image.fromarray(image))
    ours = preprocess.clip_input(image, 32)
    assert np.array_equal(ours, (theirs.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
