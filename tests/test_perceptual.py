"""Perceptual distances, each against its formula, and which files of weights are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from gigagan.clip import CONFIG_FILE, WEIGHTS_FILE, Clip, build
from gigagan.errors import UserError
from gigagan.perceptual import ClipDistance, Lpips, feature_distance

# torchvision's layers: (place in `features`, channels in and out, kernel, stride, padding), "pool", and after which
# ReLUs LPIPS reads.
VGG16 = [
    (0, 3, 64), (2, 64, 64), "read", "pool", (5, 64, 128), (7, 128, 128), "read", "pool",
    (10, 128, 256), (12, 256, 256), (14, 256, 256), "read", "pool",
    (17, 256, 512), (19, 512, 512), (21, 512, 512), "read", "pool",
    (24, 512, 512), (26, 512, 512), (28, 512, 512), "read",
]  # fmt: skip
ALEXNET = [
    (0, 3, 64, 11, 4, 2), "read", "pool", (3, 64, 192, 5, 1, 2), "read", "pool", (6, 192, 384), "read",
    (8, 384, 256), "read", (10, 256, 256), "read",
]  # fmt: skip
LAYERS = {"vgg": VGG16, "alex": ALEXNET}


def weights(net: str) -> dict[str, Tensor]:
    """Random ones, named as torchvision has them, with some of the classifier, which LPIPS does not read."""
    rng = torch.Generator().manual_seed(0)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for layer in LAYERS[net]:
        if not isinstance(layer, str):
            place, n_in, n_out, kernel = (*layer, 3)[:4]
            shape = (n_out, n_in, kernel, kernel)
            std = (2 / (n_in * kernel * kernel)) ** 0.5
            state[f"features.{place}.weight"] = std * torch.randn(shape, generator=rng)
            state[f"features.{place}.bias"] = 0.1 * torch.randn(n_out, generator=rng)
    return state


def read_heads(net: str) -> list[Tensor]:
    import lpips

    path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    return list(torch.load(path, "cpu", weights_only=True).values())


def by_formula(net: str, state: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Zhang et al. 2018, Eq. 1, in the colours that their networks were trained on."""
    total, heads = torch.zeros(len(a), dtype=torch.float64), iter(read_heads(net))
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    x, y = ((image.double() - shift) / scale for image in (a, b))
    for layer in LAYERS[net]:
        if layer == "pool":
            x, y = (F.max_pool2d(h, *((2,) if net == "vgg" else (3, 2))) for h in (x, y))
        elif layer == "read":
            unit = [h / h.square().sum(1, keepdim=True).sqrt().clamp_min(1e-10) for h in (x, y)]
            total += (next(heads).double() * (unit[0] - unit[1]).square()).sum(1).mean((1, 2))
        else:
            place, _, _, _, stride, padding = (*layer, *(3, 1, 1)[len(layer) - 3 :])
            kernel, bias = (state[f"features.{place}.{name}"].double() for name in ("weight", "bias"))
            x, y = (F.conv2d(h, kernel, bias, stride, padding).relu() for h in (x, y))
    return total


def pictures(side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(2, 3, side, side, generator=rng) * 2 - 1 for _ in range(2))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("backbones")
    save_file(weights("vgg"), folder / "vgg.safetensors")
    torch.save(weights("alex"), folder / "alex.pth")
    return {"vgg": folder / "vgg.safetensors", "alex": folder / "alex.pth"}


@pytest.mark.parametrize("net", ["vgg", "alex"])
@pytest.mark.parametrize("side", [32, 48])
def test_lpips_is_its_formula(backbones, net, side):
    a, b = pictures(side)
    found = Lpips(backbones[net], net).distance(a, b)
    torch.testing.assert_close(found.double(), by_formula(net, weights(net), a, b), rtol=1e-4, atol=1e-6)
    assert (found > 0.01).all()


def test_lpips_is_the_package_s(backbones):
    distance = Lpips(backbones["vgg"])
    a, b = pictures(32)
    torch.testing.assert_close(distance.distance(a, b), distance.model(a, b).flatten(), rtol=1e-5, atol=1e-7)


def test_pictures_below_32_px_are_enlarged_to_it(backbones):
    distance = Lpips(backbones["alex"], "alex")
    a, b = pictures(16)
    large = (F.interpolate(image, 32, mode="bilinear", align_corners=False) for image in (a, b))
    torch.testing.assert_close(distance.distance(a, b), distance.distance(*large))


def test_a_distance_is_nothing_between_equals_and_has_gradients_that_lower_it(backbones, clip):
    for distance in (Lpips(backbones["vgg"]), ClipDistance(clip)):
        a, b = pictures(32)
        assert distance.distance(a, a).abs().max() < 1e-6
        a = a.requires_grad_()
        before = distance.distance(a, b)
        (gradient,) = torch.autograd.grad(before.sum(), a)
        assert gradient.isfinite().all()
        step = 0.02 * gradient / gradient.abs().amax((1, 2, 3), keepdim=True)
        assert (distance.distance(a - step, b) < before).all()
        assert not [p for p in distance.parameters() if p.requires_grad]


def test_where_all_channels_are_zero_the_gradient_is_finite(backbones):
    """The package's own normalisation gives NaN there."""
    distance = Lpips(backbones["vgg"])
    with torch.no_grad():
        distance.model.net.slice1[2].bias.fill_(-100)
    a, b = pictures(32)
    (gradient,) = torch.autograd.grad(distance.distance(a.requires_grad_(), b).sum(), a)
    assert gradient.isfinite().all()


def test_lpips_stays_as_it_was_loaded(backbones):
    distance = Lpips(backbones["vgg"]).train()
    assert not any(module.training for module in distance.modules())
    assert len(distance.sha) == 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("features.28.weight"), r"torchvision's vgg16: features\.28\.weight is missing"),
        (lambda s: s.update({"features.30.weight": torch.zeros(1)}), r"features\.30\.weight is unknown"),
        (
            lambda s: s.update({"features.5.bias": torch.zeros(3)}),
            r"features\.5\.bias has the shape \[3\], not \[128\]",
        ),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, words):
    state = weights("vgg")
    change(state)
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=words):
        Lpips(tmp_path / "vgg.pth")


def test_files_that_cannot_be_read_safely_are_refused(tmp_path, backbones):
    with pytest.raises(UserError, match=r"no file of weights .*gone\.pth"):
        Lpips(tmp_path / "gone.pth")
    torch.save({"features.0.weight": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="nothing in it was run"):
        Lpips(tmp_path / "code.pth")
    (tmp_path / "cut.safetensors").write_bytes(backbones["vgg"].read_bytes()[:1000])
    with pytest.raises(UserError, match="not weights that can be read safely"):
        Lpips(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="not the weights of torchvision's alexnet"):
        Lpips(backbones["vgg"], "alex")


# A CLIP's features ----------------------------------------------------------------------------------------------------


def test_feature_distance_is_its_formula():
    rng = torch.Generator().manual_seed(0)
    a, b = ([torch.randn(2, c, s, s, generator=rng) for c, s in ((3, 4), (5, 2))] for _ in range(2))
    wanted = torch.zeros(2)
    for k in range(2):
        for x, y in zip(a, b, strict=True):
            side = x.shape[2]
            for i in range(side):
                for j in range(side):
                    u, v = x[k, :, i, j], y[k, :, i, j]
                    wanted[k] += (u / u.norm() - v / v.norm()).square().sum() / side**2 / 2
    torch.testing.assert_close(feature_distance(a, b), wanted)
    torch.testing.assert_close(feature_distance(a, [-x for x in a]), torch.full((2,), 4.0))


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> dict[str, Clip]:
    """A transformer and a ResNet, as the shipped CLIPs have them, of 32 px."""
    text = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    kinds = {
        "transformer": {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 3},
        "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    }
    made = {}
    for name, vision in kinds.items():
        config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
        folder = tmp_path_factory.mktemp(name)
        (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_file(build(config).state_dict(), folder / WEIGHTS_FILE)
        made[name] = Clip.load(str(folder))
    return made


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_the_clip_distance_is_over_every_block_s_map(towers, kind):
    clip = towers[kind]
    a, b = pictures(32)
    maps = clip.image_maps(a)
    assert len(maps) == {"transformer": 3, "resnet": 5}[kind]
    assert all(m.ndim == 4 and len(m) == 2 for m in maps)
    distance = ClipDistance(clip)
    torch.testing.assert_close(distance.distance(a, b), feature_distance(maps, clip.image_maps(b)))
    assert distance.sha == clip.sha
    small = pictures(16)
    torch.testing.assert_close(
        distance.distance(*small), feature_distance(clip.image_maps(small[0]), clip.image_maps(small[1]))
    )


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_larger_pictures_are_compared_part_by_part(towers, kind):
    """At 64 px a CLIP of 32 px would see nothing of the finest detail."""
    distance = ClipDistance(towers[kind])
    a, b = pictures(64)
    corners = [(slice(None), slice(None), slice(y, y + 32), slice(x, x + 32)) for y in (0, 32) for x in (0, 32)]
    wanted = torch.stack([distance.distance(a[corner], b[corner]) for corner in corners]).mean(0)
    torch.testing.assert_close(distance.distance(a, b), wanted)
    # A checkerboard that averages to nothing is seen.
    board = 0.3 * (1 - 2 * (torch.arange(64)[:, None] + torch.arange(64)[None]).remainder(2))
    flat = torch.zeros(1, 3, 64, 64)
    assert distance.distance(flat + board, flat) > 1e-4


def test_a_size_that_is_no_multiple_is_enlarged_to_the_next(towers):
    distance = ClipDistance(towers["transformer"])
    a, b = pictures(40)
    large = (F.interpolate(image, 64, mode="bicubic", align_corners=False) for image in (a, b))
    torch.testing.assert_close(distance.distance(a, b), distance.distance(*large))
