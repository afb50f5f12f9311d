"""The frozen ViT that the discriminator looks through (Sec. 3.2): DINO's, or the image tower of a CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigagan.clip import Clip, read_weights
from gigagan.errors import UserError
from gigagan.files import sha256
from gigagan.training.checkpoint import load_into

DINO = "vit_small_patch16_224.dino"  # as timm calls it
REPOSITORY, FILE = f"timm/{DINO}", "model.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as DINO was trained


@dataclass(frozen=True)
class Backbone:
    """A frozen ViT. It is no part of any network that is trained or kept.

    Raises UserError for a level that it has not got.
    """

    embed: Callable[[Tensor], Tensor]  # [B, 3, side, side] in [-1, 1] -> tokens [B, 1 + T, width], class token first
    blocks: Sequence[nn.Module]
    side: int  # px of the pictures that it sees
    width: int  # channels of a token
    levels: tuple[int, ...]  # blocks that are looked at, counted from 1; 0 = the embedded patches
    sha: str  # of its file; empty where it is a CLIP's, whose hash is known already

    def __post_init__(self) -> None:
        if max(self.levels) > len(self.blocks):
            raise UserError(
                f"discriminator.levels={','.join(map(str, self.levels))}: this ViT has {len(self.blocks)} blocks"
            )

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, side, side] in [-1, 1] -> [B, width, T] for each level: patch tokens, the class token added to all."""
        tokens, found = self.embed(images), []
        for k in range(max(self.levels) + 1):
            if k:
                tokens = self.blocks[k - 1](tokens)
            if k in self.levels:
                found.append((tokens[:, 1:] + tokens[:, :1]).transpose(1, 2))
        return found

    def resize(self, images: Tensor) -> Tensor:
        """To the side that it sees, each pixel a mean over its area."""
        return images if images.shape[-1] == self.side else F.interpolate(images, self.side, mode="area")


def load(name: str, levels: tuple[int, ...], clip: Clip, device: torch.device) -> Backbone:
    """What ``discriminator.backbone`` names: dino, clip, or a file of DINO's weights. Raises UserError as those two."""
    return image_tower(clip, levels) if name == "clip" else dino(name, levels, device)


def dino(name: str, levels: tuple[int, ...], device: torch.device) -> Backbone:
    """DINO's ViT-S/16 (Caron et al. 2021), from timm's cache (``dino``) or a .safetensors or .pth file.

    Raises UserError for a file that is not there, cannot be read safely, or holds another network.
    """
    import timm

    path = _cached() if name == "dino" else Path(name)
    if not path.is_file():
        raise UserError(f"discriminator.backbone={name}: there is no such file, nor is it dino or clip")
    with torch.device("meta"):
        network = timm.create_model(DINO, num_classes=0)
    network = network.to_empty(device="cpu")
    load_into(network, {key: value.float() for key, value in read_weights(path).items()}, path)
    network = network.to(device).eval().requires_grad_(False)
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))

    def embed(images: Tensor) -> Tensor:
        return network._pos_embed(network.patch_embed((images * 0.5 + 0.5 - mean) / std))

    return Backbone(embed, network.blocks, network.patch_embed.img_size[0], network.embed_dim, levels, sha256(path))


def _cached() -> Path:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(REPOSITORY, FILE)
    if isinstance(found, str):
        return Path(found)
    raise UserError(
        f"discriminator.backbone=dino: DINO's ViT-S/16 is not on this machine: `hf download {REPOSITORY} {FILE}` "
        f"puts it into {constants.HF_HUB_CACHE}; or name its file, discriminator.backbone=FILE"
    )


def image_tower(clip: Clip, levels: tuple[int, ...]) -> Backbone:
    """The image tower of a CLIP that is a ViT.

    Deviation: it stands in for DINO where pictures are so small, and of such things, that DINO has nothing to say of
    them. It was trained with captions, which DINO was not; only the CLIP that guides the generator is taken, which the
    judge is not.

    Raises UserError for a tower that is no ViT of open_clip's own.
    """
    visual = clip.model.visual
    if not hasattr(visual, "_embeds"):
        raise UserError("discriminator.backbone=clip: the image tower of text.clip is no ViT: take dino")
    blocks = visual.transformer.resblocks

    def embed(images: Tensor) -> Tensor:
        return visual._embeds(clip.preprocess(images))

    return Backbone(embed, blocks, clip.image_size, visual.transformer.width, levels, "")
