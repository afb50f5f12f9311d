"""Extractors: what a network sees of a picture, and what it makes of it.

Each works in two steps. ``prepare`` is Pillow's and numpy's work on one picture, which threads share out; ``features``
is the network's on a batch of what was prepared. Networks come from files on this machine, by checksum, and are
computed in fp32.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation import dinov2, pyramid
from evaluation.crops import seeded_crop
from evaluation.image_sets import ImageSet
from evaluation.metrics.perceptual import psnr, ssim
from evaluation.preprocess import INCEPTION_SIDE, Change, clean_resize, clip_input, through_tensor
from evaluation.protocols import Protocol as ProtocolOfScores
from gigagan.clip import Clip, read_weights
from gigagan.errors import UserError
from gigagan.files import sha256
from gigagan.perceptual import Perceptual
from gigagan.pixels import to_tensor
from gigagan.pretrained import KNOWN, find

INCEPTION_WIDTH = 2048


class Extractor(Protocol):
    """Pictures, uint8 [H, W, 3], and their captions to named features [B, D].

    Attributes:
        gives: the names of its features.
        weights: what they rest on: hashes of weights, or the version of fixed statistics.
        how: whatever else changes them.
        width: of the features that a Fréchet distance may rest on, where it is known beforehand.
    """

    gives: Sequence[str]
    weights: Mapping[str, str]
    how: str
    width: int | None

    def given(self, text: bool) -> Sequence[str]:
        """Those of ``gives`` that there are with or without captions."""
        ...

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        """What the network wants of the picture at ``index`` of its set; called by several threads at once."""
        ...

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        """{name: [B, D]} of a stack of what was prepared; batches come in the order of their pictures."""
        ...


class Network:
    """What most extractors have in common: they take pictures as they are, and nothing but weights changes them."""

    gives: Sequence[str] = ()
    how = ""
    width: int | None = None

    def given(self, text: bool) -> Sequence[str]:
        return [name for name in self.gives if text or not name.endswith("_text")]

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return image


class Judge(Network):
    """``judge`` [B, F], ``judge_image`` and ``judge_text`` [B, E] of the CLIP that judges; ``prefix`` is put before
    each caption, as tokens of its own. Without captions there are no features of text."""

    gives = ("judge", "judge_image", "judge_text")

    def __init__(self, judge: Clip, prefix: str = "") -> None:
        self.judge, self.prefix = judge, prefix
        self.weights, self.how = {"judge": judge.sha}, prefix

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        pixels = to_tensor(prepared, self.judge.scale.device)
        found = {"judge": self.judge.image_features(pixels), "judge_image": self.judge.embed_image(pixels)}
        if captions:
            found["judge_text"] = self.judge.embed_text(self.judge.tokenize(list(captions), self.prefix))
        return found


class JudgeCrop(Network):
    """``judge_crop`` [B, F]: the judge's features of one square of each picture, of the size that it sees, which it
    need not shrink."""

    gives = ("judge_crop",)

    def __init__(self, judge: Clip) -> None:
        self.judge = judge
        self.weights = {"judge_crop": judge.sha}

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return seeded_crop(image, index, self.judge.image_size)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        return {"judge_crop": self.judge.image_features(to_tensor(prepared, self.judge.scale.device))}


class Pyramid(Network):
    """``pyramid`` [B, P]: caption-blind statistics, see evaluation/pyramid.py."""

    gives = ("pyramid",)
    weights: Mapping[str, str] = {"pyramid": pyramid.VERSION}

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        return {"pyramid": pyramid.features(prepared)}


# ------------------------------------------------------------------------------------------------------------ Inception


def load_inception(path: Path, device: torch.device, resize_inside: bool = False) -> torch.nn.Module:
    """Inception V3 as clean-fid has it. TorchScript runs code, so the file is loaded only if its checksum is right.

    Raises UserError where the file is missing, has another name or other contents.
    """
    known = KNOWN["inception"]
    if not path.is_file() or path.name != known.file:  # the one name under which clean-fid looks for it
        raise UserError(f"{path}: give the path of clean-fid's {known.file}")
    if sha256(path) != known.sha256:
        raise UserError(f"{path}: the checksum is wrong, so it is not loaded: fetch the file again")
    from cleanfid.inception_torchscript import InceptionV3W

    return InceptionV3W(str(path.parent), download=False, resize_inside=resize_inside).to(device)


class Inception(Network):
    """``inception`` [B, 2048] of whole pictures, resized as clean-fid's mode "clean"; with ``logits`` also
    ``inception_logits`` [B, 1008], without the last layer's bias.

    Raises UserError as ``load_inception``.
    """

    width = INCEPTION_WIDTH

    def __init__(self, path: Path, device: torch.device, logits: bool = False) -> None:
        self.network, self.device = load_inception(path, device), device
        self.gives = ("inception", "inception_logits") if logits else ("inception",)
        self.weights = dict.fromkeys(self.gives, KNOWN["inception"].sha256)
        self.last = self.network.base.output.weight.float() if logits else None

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return clean_resize(image)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        found = self.network(torch.from_numpy(prepared).to(self.device))
        logits = {} if self.last is None else {"inception_logits": found @ self.last.T}
        return {"inception": found, **logits}


class InceptionPatch(Network):
    """``inception_patch`` [B, 2048] of one square of each picture, of Inception's own size, not resized. Where it lies
    is a function of the picture's own pixels, so that names and order of files do not matter.

    Raises UserError as ``load_inception``, and for pictures smaller than that.
    """

    gives = ("inception_patch",)
    width = INCEPTION_WIDTH

    def __init__(self, path: Path, device: torch.device) -> None:
        self.network, self.device = load_inception(path, device), device
        self.weights = {"inception_patch": KNOWN["inception"].sha256}

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        own = hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest()
        return seeded_crop(image, int.from_bytes(own), INCEPTION_SIDE)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        return {"inception_patch": self.network(_channels_first(prepared, self.device))}


class InceptionTensorflow(Network):
    """``inception_tensorflow`` [B, 2048]: the same network, which resizes by itself, as NVIDIA's metrics have it.

    Raises UserError as ``load_inception``.
    """

    gives = ("inception_tensorflow",)
    width = INCEPTION_WIDTH

    def __init__(self, path: Path, device: torch.device) -> None:
        self.network, self.device = load_inception(path, device, resize_inside=True), device
        self.weights = {"inception_tensorflow": KNOWN["inception"].sha256}

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        return {"inception_tensorflow": self.network(_channels_first(prepared, self.device))}


class InceptionPytorch(Network):
    """``inception_pytorch`` [B, 2048]: pytorch-fid's port of Inception, with its resize.

    Raises UserError for a file that cannot be read safely, or holds another network.
    """

    gives = ("inception_pytorch",)
    width = INCEPTION_WIDTH

    def __init__(self, path: Path, device: torch.device) -> None:
        from cleanfid import inception_pytorch

        state = read_weights(path)
        # clean-fid's copy of the network would fetch its weights: it is handed those that were found.
        with patch.object(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state):
            try:
                network = inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False)
            except RuntimeError as e:
                raise UserError(f"{path}: not the weights of pytorch-fid's Inception: {e}") from None
        self.network, self.device = network.eval().to(device), device
        self.weights = {"inception_pytorch": sha256(path)}

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        pixels = _channels_first(prepared, self.device) / 255
        pixels = F.interpolate(pixels, (INCEPTION_SIDE, INCEPTION_SIDE), mode="bilinear", align_corners=False)
        return {"inception_pytorch": self.network(pixels)[0].flatten(1)}


# ----------------------------------------------------------------------------------------------------- other networks


class DinoV2(Network):
    """``dinov2`` [B, 1024]. Raises UserError as ``evaluation.dinov2.DinoV2``."""

    gives = ("dinov2",)

    def __init__(self, path: Path, device: torch.device) -> None:
        self.network, self.device = dinov2.DinoV2(path).to(device), device
        self.weights, self.width = {"dinov2": self.network.sha}, self.network.width

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        return dinov2.prepare(image)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        return {"dinov2": self.network(torch.from_numpy(prepared).to(self.device))}


class ClipScore(Network):
    """``NAME_image`` and ``NAME_text`` [B, E], unit norm, of a CLIP of gigagan.pretrained.

    Args:
        name: of the CLIP there, which begins the features' names.
        clip: the network.
        how: one of evaluation.declared.CLIP_RESIZES.
        prefix: put before each caption, as tokens of its own.
    """

    def __init__(self, name: str, clip: Clip, how: str, prefix: str) -> None:
        self.name, self.clip, self.resize, self.prefix = name, clip, how, prefix
        self.gives = (f"{name}_image", f"{name}_text")
        self.weights, self.how = {name: clip.sha}, f"{how}; {prefix}"

    @classmethod
    def load(cls, name: str, path: Path, device: torch.device, how: str, prefix: str) -> ClipScore:
        """Raises UserError as ``Clip.load``."""
        return cls(name, Clip.load(f"{KNOWN[name].clip.partition(':')[0]}:{path}").to(device), how, prefix)

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        if self.resize == "tensor":
            return image
        given = through_tensor(image) if self.resize == "pillow, after a tensor" else image
        return clip_input(given, self.clip.image_size)

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        pixels = to_tensor(prepared, self.clip.scale.device)
        if self.resize == "tensor":
            side = (self.clip.image_size, self.clip.image_size)
            pixels = F.interpolate(pixels, side, mode="bicubic", align_corners=False)
        found = {f"{self.name}_image": self.clip.embed_image(pixels)}
        if captions:
            found[f"{self.name}_text"] = self.clip.embed_text(self.clip.tokenize(list(captions), self.prefix))
        return found


class Pairs(Network):
    """``psnr``, ``ssim`` and perceptual distances [B, 1] of pictures whose ground truth lies in another set, in their
    order.

    Args:
        truth: the ground truths.
        networks: perceptual distances by their metric's name: ``lpips``, ``judge_distance``.
        device: where the networks are.
        change: what is done to a ground truth first, as to the pictures.
    """

    def __init__(
        self,
        truth: ImageSet,
        networks: Mapping[str, Perceptual],
        device: torch.device,
        change: Change = lambda image: image,
    ) -> None:
        self.truth, self.networks, self.device, self.change = truth, networks, device, change
        self.gives = ("psnr", "ssim", *networks)
        self.how = "; ".join([truth.fingerprint, *(f"{name} {network.sha}" for name, network in networks.items())])
        # The judge stands in a protocol's hash by a name of its own.
        self.weights = {name: network.sha for name, network in networks.items() if name != "judge_distance"}

    def match(self, captions: Sequence[str]) -> None:
        """Raises UserError unless there is a ground truth for each of the captions, of the same one."""
        own = self.truth.captions
        for k, caption in enumerate(captions):
            if k == len(self.truth):
                raise UserError(f"{self.truth.path}: has {k} pictures, and more are to be compared with them")
            if own and own[k] != caption:
                raise UserError(
                    f"{self.truth.path}: picture {k} is {own[k]!r:.60}, and the one to compare is {caption!r:.60}"
                )

    def prepare(self, image: np.ndarray, index: int) -> np.ndarray:
        """The picture and its ground truth, [2, H, W, 3]. Raises UserError where that is of another size, or none."""
        if index >= len(self.truth):
            raise UserError(f"{self.truth.path}: has {index} pictures, and more are to be compared with them")
        truth = self.change(self.truth.decode(index))
        if truth.shape != image.shape:
            (h, w, _), (h0, w0, _) = image.shape, truth.shape
            raise UserError(
                f"{self.truth.path}: pictures of {w0}x{h0} px do not compare with enlarged ones of {w}x{h} px"
            )
        return np.stack([image, truth])

    def features(self, prepared: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        a, b = (torch.from_numpy(np.ascontiguousarray(prepared[:, side])) for side in (0, 1))
        values = {"psnr": psnr(a, b), "ssim": ssim(a, b)}
        if self.networks:
            x, y = to_tensor(a, self.device), to_tensor(b, self.device)
            values |= {name: network.distance(x, y) for name, network in self.networks.items()}
        return {name: value[:, None] for name, value in values.items()}


def networks(
    protocol: ProtocolOfScores,
    wanted: Iterable[str],
    weights: str | Path | None,
    judge: Clip | None,
    device: torch.device,
) -> list[Extractor]:
    """The extractors that give the ``wanted`` features of a set's pictures, as a protocol asks for them.

    Args:
        weights: the user's folder of pretrained weights, as ``gigagan.pretrained.find`` takes it.
        judge: the CLIP that judges, where features of it are wanted.

    Raises UserError where a network's file is not there, or is another one.
    """
    wanted, found = {*wanted}, []
    inception = functools.partial(find, "inception", weights)
    if judge and wanted & {*Judge.gives}:
        found.append(Judge(judge, protocol.prefix))
    if judge and "judge_crop" in wanted:
        found.append(JudgeCrop(judge))
    if "pyramid" in wanted:
        found.append(Pyramid())
    if wanted & {"inception", "inception_logits"}:
        found.append(Inception(inception(), device, "inception_logits" in wanted))
    if "inception_patch" in wanted:
        found.append(InceptionPatch(inception(), device))
    if "inception_tensorflow" in wanted:
        found.append(InceptionTensorflow(inception(), device))
    if "inception_pytorch" in wanted:
        found.append(InceptionPytorch(find("inception-pytorch", weights), device))
    if "dinov2" in wanted:
        found.append(DinoV2(find("dinov2", weights), device))
    if protocol.clip and protocol.clip in KNOWN:
        path = find(protocol.clip, weights)
        found.append(ClipScore.load(protocol.clip, path, device, protocol.clip_resize, protocol.prefix))
    return found


def extract(
    batches: Iterable[tuple[np.ndarray, Sequence[str]]], extractors: Sequence[Extractor]
) -> dict[str, np.ndarray]:
    """Run all ``extractors`` over batches of images, uint8 [B, H, W, 3], and captions; {name: float32 [N, D]}."""
    parts: dict[str, list[np.ndarray]] = {}
    done = 0
    with torch.inference_mode():
        for images, captions in batches:
            for extractor in extractors:
                prepared = np.stack([extractor.prepare(image, done + i) for i, image in enumerate(images)])
                for name, found in extractor.features(prepared, captions).items():
                    parts.setdefault(name, []).append(found.float().cpu().numpy())
            done += len(images)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def _channels_first(images: np.ndarray, device: torch.device) -> Tensor:
    """[B, H, W, 3] -> float32 [B, 3, H, W], values as they are"""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().to(device)
