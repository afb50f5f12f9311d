"""How different two pictures look: LPIPS, and a CLIP's features in its place where its weights are not at hand.

Both are differentiable. LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924) is what the paper trains its
upsampler with; the lpips package ships the learned heads alone, so the backbone comes from a file. Nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigagan.clip import RANDOM, Clip, read_weights
from gigagan.errors import UserError
from gigagan.files import sha256

NETWORKS = {"vgg": "vgg16", "alex": "alexnet"}  # the package's names, and torchvision's
LEAST = 32  # px: smaller pictures leave nothing of AlexNet's last maps


class Perceptual(Protocol):
    """A distance between pictures, with the hash of the file that its network came from."""

    sha: str

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1], twice -> [B]"""
        ...


def feature_distance(a: Iterable[Tensor], b: Iterable[Tensor]) -> Tensor:
    """Mean over several maps [B, C, h, w] of |f_a - f_b|^2, where f is the unit vector of channels at a place, averaged
    over places: LPIPS without its learned heads. -> [B], in [0, 4]"""
    distances = [
        (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(distances).mean(0)


class Lpips(nn.Module):
    """The lpips package's distance, version 0.1, on a backbone from a file.

    Pictures with a side below 32 px are enlarged to it, bilinearly, before they are compared.

    Args:
        backbone: weights of torchvision's vgg16 or alexnet, its ``state_dict()`` as .safetensors or as a file of
            torch.save that holds nothing but tensors; its classifier may be left out. ``random``: as torch sets them
            when it makes such a network, to try out a size.
        net: which of the two they are of.

    Raises:
        UserError: no such file; one that cannot be read, or of another network.
    """

    def __init__(self, backbone: Path, net: Literal["vgg", "alex"] = "vgg") -> None:
        super().__init__()
        import lpips

        backbone = Path(backbone)
        if str(backbone) == RANDOM:
            self.model = _network(net)
            self.sha = hashlib.sha256(f"{net}:{RANDOM}".encode()).hexdigest()
            self.requires_grad_(False).eval()
            return
        if not backbone.is_file():
            raise UserError(f"LPIPS: there is no file of weights {backbone}: give torchvision's {NETWORKS[net]}")
        # On "meta" the package neither fills half a gigabyte with random numbers nor asks for a download.
        with torch.device("meta"):
            self.model = _network(net)
        heads = read_weights(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth")
        state = {**_heads(heads), **_trunk(self.model, read_weights(backbone), backbone, net)}
        constants = {name: b for name, b in self.model.state_dict().items() if name.startswith("scaling_layer.")}
        self.model.load_state_dict({**constants, **state}, assign=True)
        self.sha = sha256(backbone)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Lpips:
        """Stay in evaluation mode, whatever ``mode``."""
        return super().train(False)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        maps = zip(self._maps(a), self._maps(b), self.model.lins, strict=True)
        return sum(head((x - y).square()).mean((1, 2, 3)) for x, y, head in maps)

    def _maps(self, images: Tensor) -> list[Tensor]:
        # The package's own normalisation has no gradient where all channels are zero, and training meets such places.
        features = self.model.net(self.model.scaling_layer(_at_least(images)))
        return [F.normalize(x, dim=1, eps=1e-10) for x in features]


def _network(net: str) -> nn.Module:
    """The package's own, as it is before it has any weights."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in the way of long ago
        return lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, use_dropout=False, verbose=False)


def _at_least(images: Tensor) -> Tensor:
    if min(images.shape[2:]) >= LEAST:
        return images
    size = [max(side, LEAST) for side in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _heads(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``lin0.model.1.weight`` as the package wrote it, with its dropout in place 0, under both names that it reads."""
    named = {}
    for key, value in weights.items():
        index = key.removeprefix("lin").partition(".")[0]
        named |= {f"lin{index}.model.0.weight": value, f"lins.{index}.model.0.weight": value}
    return named


def _trunk(model: nn.Module, weights: dict[str, Tensor], path: Path, net: str) -> dict[str, Tensor]:
    """torchvision's ``features.<i>.weight`` under the package's names, ``net.slice<k>.<i>.weight``."""
    wanted = {f"features.{key.partition('.')[2]}": (f"net.{key}", t.shape) for key, t in model.net.state_dict().items()}
    given = {key: value.float() for key, value in weights.items() if key.startswith("features.")}
    wrong = [f"{key} is missing" for key in wanted.keys() - given.keys()]
    wrong += [f"{key} is unknown" for key in given.keys() - wanted.keys()]
    wrong += [
        f"{key} has the shape {list(given[key].shape)}, not {list(shape)}"
        for key, (_, shape) in wanted.items()
        if key in given and given[key].shape != shape
    ]
    if wrong:
        raise UserError(f"{path}: not the weights of torchvision's {NETWORKS[net]}: {min(wrong)}")
    return {name: given[key] for key, (name, _) in wanted.items()}


class ClipDistance(nn.Module):
    """``feature_distance`` on every block of a CLIP's image tower.

    A CLIP sees pictures of one size. Larger ones are not made smaller, or their finest detail would not count: they are
    cut into squares of that size, which are compared each with its own, having been enlarged first to the next multiple
    of it.
    """

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.sha = clip.sha

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        parts_a, parts_b = self._parts(a), self._parts(b)
        distances = feature_distance(self.clip.image_maps(parts_a), self.clip.image_maps(parts_b))
        return distances.view(len(a), -1).mean(1)

    def _parts(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B * n, 3, s, s], s being the CLIP's size; a picture of up to s as it is"""
        side = self.clip.image_size
        if max(images.shape[2:]) <= side:
            return images
        size = [-(-length // side) * side for length in images.shape[2:]]
        if list(images.shape[2:]) != size:
            images = F.interpolate(images, size, mode="bicubic", align_corners=False)
        parts = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # [B, 3, rows, s, columns, s]
        return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, side, side)
