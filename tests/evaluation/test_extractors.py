"""Extractors against the reference implementations' own steps, with random weights in the real files' formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from evaluation.extractors import ClipScore, Extractor, Inception, InceptionPytorch, InceptionTensorflow, extract
from evaluation.preprocess import through_tensor
from gigagan import pretrained
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.files import sha256

CPU = torch.device("cpu")


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def features(
    extractor: Extractor, images: list[np.ndarray], captions: list[str] | None = None
) -> dict[str, np.ndarray]:
    """One by one, as they are of several sizes."""
    texts = captions or []
    parts = [extract([(image[None], texts[i : i + 1])], [extractor]) for i, image in enumerate(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# Inception -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytorch-fid's file: the state of its patched network."""
    from cleanfid import inception_pytorch as module

    torch.manual_seed(0)
    plain = module._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for name, value in (state := plain.state_dict()).items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
    path = tmp_path_factory.mktemp("port") / pretrained.KNOWN["inception-pytorch"].file
    torch.save(state, path)
    return path


def test_pytorch_fids_features_are_those_of_mlperfs_script(port: Path) -> None:
    """tools/fid/fid_score.py: ToTensor, then the network's own bilinear resize and normalisation."""
    from cleanfid import inception_pytorch as module
    from torchvision.transforms import ToTensor

    images = [picture(320, 240), picture(200, 200, 1)]
    with patch.object(module, "load_state_dict_from_url", lambda *_, **__: torch.load(port, weights_only=True)):
        network = module.InceptionV3(output_blocks=[3], resize_input=False, normalize_input=False).eval()
    wanted = []
    for image in images:
        pixels = ToTensor()(Image.fromarray(image))[None]
        resized = F.interpolate(pixels, size=(299, 299), mode="bilinear", align_corners=False)
        with torch.no_grad():
            wanted.append(network(2 * resized - 1)[0].squeeze(3).squeeze(2))
    found = features(InceptionPytorch(port, CPU), images)["inception_pytorch"]
    assert found.shape == (2, 2048)
    assert found.std() > 0
    np.testing.assert_allclose(found, torch.cat(wanted), rtol=1e-4, atol=1e-6 * float(found.max()))


def test_another_network_s_weights_are_one_clear_line(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: not the weights of pytorch-fid's Inception") as error:
        InceptionPytorch(tmp_path / "w.pth", CPU)
    assert "\n" not in error.value.message


class Channels(torch.nn.Module):
    """A TorchScript stand-in that says how it was called: its features are the means of its input's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2048))
        self.output = torch.nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        if not return_features:
            return self.output(self.layers(x))
        size = torch.tensor([float(x.shape[2]), float(x.shape[3])]).repeat(x.shape[0], 1)
        return torch.cat([x.mean(dim=(2, 3)), size, torch.zeros(x.shape[0], 2043)], dim=1)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    known = pretrained.KNOWN["inception"]
    torch.jit.script(Channels()).save(str(tmp_path / known.file))
    known = dataclasses.replace(known, sha256=sha256(tmp_path / known.file))
    monkeypatch.setitem(pretrained.KNOWN, "inception", known)
    return tmp_path / known.file


def test_tensorflows_resize_is_left_to_the_network(script: Path) -> None:
    image = picture(64, 48)
    found = features(InceptionTensorflow(script, CPU), [image])["inception_tensorflow"][0]
    np.testing.assert_allclose(found[:3], image.mean(axis=(0, 1)), rtol=1e-5)  # bytes as they are
    assert found[3:5].tolist() == [48, 64]


def test_logits_are_the_last_layer_without_its_bias(script: Path) -> None:
    extractor = Inception(script, CPU, logits=True)
    found = features(extractor, [picture(64, 48), picture(30, 50, 1)])
    weight = extractor.network.base.output.weight.detach().numpy()
    np.testing.assert_allclose(found["inception_logits"], found["inception"] @ weight.T, rtol=1e-4, atol=1e-4)
    assert extractor.weights.keys() == {"inception", "inception_logits"}
    assert Inception(script, CPU).gives == ("inception",)


# CLIP ----------------------------------------------------------------------------------------------------------------

SIZES = [(64, 64), (31, 50), (77, 20), (16, 16), (9, 12)]


def own(clip: Clip, pixels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return F.normalize(clip.model.encode_image(pixels), dim=-1).numpy()


@pytest.mark.parametrize("tensor", [False, True])
def test_pictures_come_to_clip_as_open_clip_brings_them(clip: Clip, tensor: bool) -> None:
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, image_transform

    preprocess = image_transform(clip.image_size, False, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    images = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    how = "pillow, after a tensor" if tensor else "pillow"
    found = features(ClipScore("clip", clip, how, ""), images, ["a cat"] * len(images))
    given = [through_tensor(image) if tensor else image for image in images]
    wanted = own(clip, torch.stack([preprocess(Image.fromarray(image)) for image in given]))
    np.testing.assert_allclose(found["clip_image"], wanted, atol=1e-5)
    assert found["clip_text"].shape == found["clip_image"].shape


def test_pictures_come_to_clip_as_stylegan_t_brings_them(clip: Clip) -> None:
    """networks/clip.py: floats, bicubic without antialiasing, whatever the shape."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from torchvision.transforms import Normalize

    normalise = Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    for seed, size in enumerate(SIZES):
        image = picture(*size, seed)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        wanted = own(clip, normalise(F.interpolate(pixels, clip.image_size, mode="bicubic", align_corners=False)))
        found = features(ClipScore("clip", clip, "tensor", ""), [image])
        np.testing.assert_allclose(found["clip_image"], wanted, atol=1e-5)
        assert found.keys() == {"clip_image"}  # without captions there is no text


def test_the_prefix_is_put_before_each_caption(clip: Clip) -> None:
    captions = ["a cat", "a dog on a sofa"]
    images = [picture(16, 16)] * 2
    found = features(ClipScore("clip", clip, "pillow", "A photo depicts "), images, captions)["clip_text"]
    with torch.no_grad():
        wanted = clip.embed_text(clip.tokenize(captions, "A photo depicts ")).numpy()
        without = clip.embed_text(clip.tokenize(captions)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(found - without).max() > 1e-3
