"""The whole of GigaGAN's COCO protocol against the authors' recipe, carried out step by step with clean-fid, open_clip
and torchvision: random weights in the real files' formats, pictures and captions of every kind."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from evaluation import protocols
from evaluation.image_sets import ImageSet
from evaluation.scorer import Scorer
from gigagan import pretrained as weights
from gigagan.files import sha256

N, M = 24, 26
CAPTIONS = [
    "A man riding a wave on top of a surfboard.",
    "  two   dogs & a cat ",
    "Ein Café — größer als das andere!!",
    " ".join(["a very long caption about a street"] * 20),
    "a photo depicts a photo",
    "x " * 73,
    "x " * 74,
    "one",
]


class Port(nn.Module):
    """Inception as its TorchScript file has it: ``layers`` up to the pooled features, ``output`` behind them."""

    def __init__(self) -> None:
        super().__init__()
        from cleanfid import inception_pytorch as port

        network = port._inception_v3(num_classes=1008, aux_logits=False, weights=None)
        blocks = [network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_2b_3x3, nn.MaxPool2d(3, 2)]
        blocks += [network.Conv2d_3b_1x1, network.Conv2d_4a_3x3, nn.MaxPool2d(3, 2)]
        blocks += [getattr(network, f"Mixed_{name}") for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")]
        blocks += [network.Mixed_7a, network.Mixed_7b, network.Mixed_7c, nn.AdaptiveAvgPool2d(1)]
        self.layers = nn.Sequential(*blocks)
        self.output = nn.Linear(2048, 1008)
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Without statistics of its own, a deep untrained network gives all pictures the same features."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the plain mean over all that it is shown
        coarse = torch.randn(16, 3, 5, 5)
        self.train()
        self.layers(F.interpolate(coarse, (299, 299), mode="bicubic") + 0.1 * torch.randn(16, 3, 299, 299))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers(x).flatten(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder: Inception in TorchScript and CLIP ViT-B/32 in safetensors, both with random weights."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Port().eval()).save(str(folder / weights.KNOWN["inception"].file))
    clip = open_clip.create_model("ViT-B-32-quickgelu")
    save_file(clip.state_dict(), folder / weights.KNOWN["clip-vit-b-32"].file)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``fake/fake_images`` with ``fake/captions.txt``, and ``val2014``: photographs of several sizes, grey ones too."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)

    def blob(width: int, height: int) -> Image.Image:
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        noise = rng.normal(0, 12, (height, width, 3))
        return Image.fromarray((np.asarray(small.resize((width, height))) + noise).clip(0, 255).astype(np.uint8))

    (root / "fake" / "fake_images").mkdir(parents=True)
    (root / "val2014").mkdir()
    for i in range(N):
        blob(200, 200).save(root / "fake" / "fake_images" / f"{i}.png")
    (root / "fake" / "captions.txt").write_text("\n".join(CAPTIONS[i % len(CAPTIONS)] for i in range(N)) + "\n")
    for i in range(M):
        image = blob(*[(320, 240), (241, 332), (256, 256)][i % 3])
        (image.convert("L") if i == 3 else image).save(root / "val2014" / f"COCO_val2014_{i:012}.jpg", quality=85)
    return root


@pytest.fixture
def scorer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    for name in ("inception", "clip-vit-b-32"):
        known = weights.KNOWN[name]
        monkeypatch.setitem(weights.KNOWN, name, dataclasses.replace(known, sha256=sha256(folder / known.file)))
    protocol = dataclasses.replace(protocols.load("gigagan-coco30k@1"), images=N, reference=M)
    return Scorer(protocol, weights=folder, progress=False, batch=8)


def official_fid(folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """evaluation.py's compute_fid: clean-fid with a transform of its own."""
    from cleanfid import features, fid
    from torchvision.transforms.functional import center_crop

    def transform(array: np.ndarray) -> np.ndarray:
        image = Image.fromarray(array)
        return np.array(center_crop(image, min(image.size)).resize((256, 256), Image.LANCZOS))

    network = functools.partial(features.InceptionV3W, download=False)
    monkeypatch.setattr(features, "InceptionV3W", lambda path, download, resize_inside: network(str(folder)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fid.compute_fid(
            str(pictures / "val2014"),
            str(pictures / "fake" / "fake_images"),
            model_name="inception_v3",
            custom_image_tranform=transform,
            device=torch.device("cpu"),
            num_workers=0,
            verbose=False,
            use_dataparallel=False,
        )


@torch.no_grad()
def official_clip_score(folder: Path, pictures: Path) -> float:
    """evaluation.py's compute_clip_score with open_clip's network; its loader normalises, tensor2pil undoes it."""
    import open_clip
    from torchvision import transforms as T

    file = folder / weights.KNOWN["clip-vit-b-32"].file
    clip, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32-quickgelu", pretrained=str(file))
    load = T.Compose([
        lambda image: T.functional.center_crop(image, min(image.size)),
        T.Resize(256, interpolation=T.InterpolationMode.LANCZOS),
        T.ToTensor(),
        T.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ])  # fmt: skip
    captions = (pictures / "fake" / "captions.txt").read_text().splitlines()
    cosines = []
    for i, caption in enumerate(captions):
        image = load(Image.open(pictures / "fake" / "fake_images" / f"{i}.png").convert("RGB"))
        array = ((image + 1.0) * 127.5).clamp(0.0, 255.0).to(torch.uint8).permute(1, 2, 0).numpy()
        seen = preprocess(Image.fromarray(array))[None]
        tokens = open_clip.tokenize([caption])
        prefix = open_clip.tokenize("A photo depicts ")[:, 1:4]
        tokens = torch.cat([tokens[:, :1], prefix, tokens[:, 1:]], dim=1)[:, :77]
        last = tokens[:, 76:77].clone()
        last[last > 0] = 49407
        tokens = torch.cat([tokens[:, :76], last], dim=1)
        cosines.append(F.cosine_similarity(clip.eval().encode_image(seen), clip.encode_text(tokens), dim=1))
    return float(torch.cat(cosines).mean())


def test_the_whole_protocol_equals_the_authors_recipe(folder, pictures, scorer, monkeypatch) -> None:
    result = scorer(ImageSet(pictures / "fake"), ImageSet(pictures / "val2014"))
    assert result.scores["fid"].value > 10
    assert result.scores["fid"].value == pytest.approx(official_fid(folder, pictures, monkeypatch), rel=1e-4)
    assert result.scores["clip_score"].value == pytest.approx(official_clip_score(folder, pictures), abs=1e-5)
    assert any("covariance is singular" in line for line in result.warnings)
