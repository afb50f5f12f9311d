"""How enlarged pictures are scored against their ground truth, and the rows that plain filters give."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from evaluation import upsampling
from evaluation.extractors import Pairs, extract
from evaluation.image_sets import ImageSet
from evaluation.metrics.perceptual import MOST_PSNR, psnr, ssim
from gigagan.archive import read_batches, read_images, read_prompts, write_images
from gigagan.data.scenes import Scenes
from gigagan.errors import UserError
from gigagan.networks.discriminator import image_pyramid
from gigagan.perceptual import ClipDistance
from gigagan.pixels import shrink, to_tensor, to_uint8

CPU = torch.device("cpu")
SCENES = Scenes(32, (0.75, 0.25, 0.0), "test")


@pytest.fixture
def real(tmp_path) -> Path:
    items = [SCENES[i] for i in range(6)]
    path = tmp_path / "real.zip"
    write_images(path, (item.image for item in items), [item.caption for item in items], range(100, 106))
    return path


def noisy(images: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


# Making small --------------------------------------------------------------------------------------------------------


def test_shrinking_is_the_mean_of_each_area_and_the_pyramid_of_training():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    small = shrink(images, 8)
    torch.testing.assert_close(small[1, 2, 3, 5], images[1, 2, 12:16, 20:24].mean())
    assert torch.equal(small, image_pyramid(images, 3)[2])
    assert shrink(images, 32) is images
    for side in (5, 12, 64, 24):
        with pytest.raises(ValueError, match="cannot be halved"):
            shrink(images, side)


@pytest.fixture
def command(monkeypatch):
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["upsampling", *map(str, arguments)])
        upsampling.main()

    return run


def test_the_small_set_and_the_filters_rows(real, tmp_path, command):
    small, large = tmp_path / "small.zip", {name: tmp_path / f"{name}.zip" for name in upsampling.FILTERS}
    command("shrink", "--real", real, "--side", 8, "--out", small)
    images, captions = read_images(real)
    made, own = read_images(small)
    assert own == captions
    assert [prompt["seed"] for prompt in read_prompts(small)] == list(range(100, 106))
    assert np.array_equal(made, to_uint8(shrink(to_tensor(images), 8)))
    for name, path in large.items():
        command("enlarge", "--small", small, "--side", 32, "--filter", name, "--out", path)
        enlarged, own = read_images(path)
        assert (enlarged.shape, own) == (images.shape, captions)
        by_pillow = Image.fromarray(made[0]).resize((32, 32), getattr(Image.Resampling, name.upper()))
        assert np.array_equal(enlarged[0], np.asarray(by_pillow))
    assert large["bicubic"].read_bytes() != large["lanczos"].read_bytes()
    before = small.read_bytes()
    command("shrink", "--real", real, "--side", 8, "--out", small)
    assert small.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shrink", "--real", "real.zip", "--side", 5), "--side 5: pictures of 32x32 px can only be halved"),
        (
            ("shrink", "--real", "wide.zip", "--side", 8),
            "--side 8: pictures of 32x16 px can only be halved, as squares",
        ),
        (("enlarge", "--small", "real.zip", "--side", 32, "--filter", "bicubic"), "are 32 px already"),
        (("shrink", "--real", "gone.zip", "--side", 8), "no image set at gone.zip"),
    ],
)
def test_sizes_that_cannot_be_made_are_refused(real, tmp_path, monkeypatch, command, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_images("wide.zip", np.zeros((1, 16, 32, 3), np.uint8), ["a"], [0])
    with pytest.raises(UserError, match=words):
        command(*arguments, "--out", "out.zip")
    assert not Path("out.zip").exists()


# Measures ------------------------------------------------------------------------------------------------------------


def test_psnr_is_its_formula_and_has_an_end():
    a = torch.from_numpy(np.stack([SCENES[i].image for i in range(3)]))
    b = torch.from_numpy(np.stack([noisy(a[0].numpy(), 5), noisy(a[1].numpy(), 20), a[2].numpy()]))
    mse = (a.double() - b.double()).square().mean((1, 2, 3))
    wanted = 10 * torch.log10(255**2 / mse)
    torch.testing.assert_close(psnr(a, b)[:2].double(), wanted[:2], rtol=1e-5, atol=1e-5)
    assert float(psnr(a, b)[2]) == pytest.approx(MOST_PSNR)
    assert pytest.approx(58.92, abs=0.01) == MOST_PSNR


def test_ssim_is_its_formula():
    """Wang et al. 2004, with scipy's Gaussian; pictures are continued by their mirror images."""
    a = np.stack([SCENES[i].image for i in range(3)])
    b = noisy(a, 20)
    wanted = []
    for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True):
        maps = []
        for c in range(3):
            mean = lambda z: ndimage.gaussian_filter(z, 1.5, truncate=5 / 1.5, mode="mirror")  # noqa: E731
            u, v = x[..., c], y[..., c]
            m, n = mean(u), mean(v)
            su, sv, suv = mean(u * u) - m * m, mean(v * v) - n * n, mean(u * v) - m * n
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            maps.append((2 * m * n + c1) * (2 * suv + c2) / ((m * m + n * n + c1) * (su + sv + c2)))
        wanted.append(np.stack(maps).mean())
    found = ssim(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3)
    assert ssim(torch.from_numpy(a), torch.from_numpy(a)).min() > 0.999  # in fp32 a flat area's variance is not quite 0


def test_pairs_are_columns_of_the_feature_file_and_worse_pictures_have_worse_ones(real, clip):
    images, captions = read_images(real)
    columns = []
    for sigma in (0, 4, 30):
        batches = [(noisy(images[i : i + 4], sigma, i), captions[i : i + 4]) for i in (0, 4)]
        found = extract(batches, [Pairs(ImageSet(real), {"judge_distance": ClipDistance(clip)}, CPU)])
        assert {name: column.shape for name, column in found.items()} == dict.fromkeys(
            ("psnr", "ssim", "judge_distance"), (6, 1)
        )
        columns.append(found)
    for better, worse in ((0, 1), (1, 2)):
        assert (columns[better]["psnr"] > columns[worse]["psnr"]).all()
        assert (columns[better]["ssim"] > columns[worse]["ssim"]).all()
        assert columns[better]["judge_distance"].mean() < columns[worse]["judge_distance"].mean()
    with torch.inference_mode():
        alone = ClipDistance(clip).distance(to_tensor(noisy(images[4:], 30, 4)), to_tensor(images[4:]))
    np.testing.assert_allclose(columns[2]["judge_distance"][4:, 0], alone, rtol=1e-4, atol=1e-6)


def test_every_network_is_under_its_own_name(real):
    class Difference:
        sha = "0" * 64

        def distance(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b).abs().mean((1, 2, 3))

    images, captions = read_images(real)
    found = extract([(255 - images, captions)], [Pairs(ImageSet(real), {"lpips": Difference()}, CPU)])
    assert list(found) == ["psnr", "ssim", "lpips"]
    wanted = np.abs(images / 127.5 - 1 - ((255 - images) / 127.5 - 1)).mean((1, 2, 3))
    np.testing.assert_allclose(found["lpips"][:, 0], wanted, rtol=1e-4)
    without = extract([(images, captions)], [Pairs(ImageSet(real), {}, CPU)])
    assert list(without) == ["psnr", "ssim"]


def test_pictures_of_another_set_do_not_pair(real):
    images, captions = read_images(real)
    with pytest.raises(UserError, match=r"real\.zip: picture 0 is .*, and the one to compare is 'another'"):
        Pairs(ImageSet(real), {}, CPU).match(["another", *captions[1:]])
    with pytest.raises(UserError, match="has 6 pictures, and more are to be compared"):
        Pairs(ImageSet(real), {}, CPU).match([*captions, "more"])
    with pytest.raises(UserError, match="pictures of 32x32 px do not compare with enlarged ones of 16x16 px"):
        extract([(images[:, :16, :16], captions)], [Pairs(ImageSet(real), {}, CPU)])
    twice = [*read_batches(real, 6), *read_batches(real, 6)]
    with pytest.raises(UserError, match="has 6 pictures, and more are to be compared"):
        extract(twice, [Pairs(ImageSet(real), {}, CPU)])
