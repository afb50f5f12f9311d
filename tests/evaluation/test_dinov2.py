"""DINOv2 from the authors' own file format, with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from evaluation import dinov2
from evaluation.dinov2 import DinoV2
from gigagan.errors import UserError

SMALL = "vit_small_patch14_dinov2"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights as the authors save them: at 518 px, with a mask token."""
    torch.manual_seed(0)
    state = timm.create_model(SMALL, num_classes=0, img_size=518).state_dict()
    state["pos_embed"] = torch.randn_like(state["pos_embed"])
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, path)
    return path


def test_features_are_the_normalised_class_token(file):
    network = DinoV2(file, SMALL)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    features = network(torch.from_numpy(images))
    assert features.shape == (2, network.width) == (2, 384)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        pixels[:, channel] = (pixels[:, channel] - mean) / std
    tokens = network.network.forward_features(pixels)
    torch.testing.assert_close(features, tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.mean(1), torch.zeros(2), rtol=0, atol=1e-4)  # LayerNorm with gain 1
    assert not any(p.requires_grad for p in network.train().parameters())
    assert not network.training


def cubic(t: float) -> list[float]:
    """Keys' kernel with a = -0.75, which torch uses, at the four neighbours of a point t behind the second one."""
    a = -0.75
    near, far = lambda x: (a + 2) * x**3 - (a + 3) * x**2 + 1, lambda x: a * (x**3 - 5 * x**2 + 8 * x - 4)
    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def test_the_position_embedding_is_resampled_a_little_off_the_grid():
    embedding = torch.randn(1, 1 + 37 * 37, 3, generator=torch.Generator().manual_seed(0))
    found = dinov2.resampled(embedding, 16)
    assert torch.equal(found[:, 0], embedding[:, 0])
    grid = embedding[0, 1:].view(37, 37, 3)

    def weights(place: int) -> list[tuple[int, float]]:
        x = (place + 0.5) * 37 / 16.1 - 0.5
        first = int(np.floor(x))
        return [(min(max(first - 1 + k, 0), 36), w) for k, w in enumerate(cubic(x - first))]

    for row, column in ((0, 0), (3, 7), (15, 15)):
        expected = sum(grid[y, x] * v * w for y, v in weights(row) for x, w in weights(column))
        torch.testing.assert_close(found[0, 1 + row * 16 + column], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(dinov2.resampled(found, 16), found)


def test_pictures_of_any_shape_become_squares_as_pillow_makes_them():
    image = np.random.default_rng(1).integers(0, 256, (50, 91, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    assert np.array_equal(dinov2.prepare(image), expected)


def test_another_network_is_refused_in_one_line(file, tmp_path):
    with pytest.raises(UserError, match=r"not the weights of vit_base_patch14_dinov2: \S+ is \["):
        DinoV2(file, "vit_base_patch14_dinov2")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"not the weights of vit_small_patch14_dinov2: \S+ is missing or unknown"):
        DinoV2(tmp_path / "a.pth", SMALL)
