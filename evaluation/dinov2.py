"""DINOv2's image features (Oquab et al. 2023, https://arxiv.org/abs/2304.07193), on which FD-DINOv2 rests (Stein et al.
2023, https://arxiv.org/abs/2306.04675): the normalised class token of ViT-L/14 at 224 px.

timm builds the network; the authors' own file of weights is read, and its position embedding brought from 518 to 224 px
as their code does it, which is not as timm does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from gigagan.clip import read_weights
from gigagan.errors import UserError
from gigagan.files import sha256

SIDE, PATCH = 224, 14
OFFSET = (
    0.1  # the authors' guard against rounding; the resampling is that much off the grid, and so are all published FDs
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DinoV2(nn.Module):
    """A frozen DINOv2.

    Attributes:
        width: of its features.
        sha: hash of the file that its weights came from.

    Args:
        path: the authors' ``dinov2_vit*14_pretrain.pth``.
        model: timm's name of the network.

    Raises:
        UserError: a file that cannot be read safely, or holds another network.
    """

    def __init__(self, path: Path, model: str = "vit_large_patch14_dinov2") -> None:
        super().__init__()
        import timm

        with torch.device("meta"):
            self.network = timm.create_model(model, num_classes=0, img_size=SIDE)
        state = read_weights(path)
        state.pop("mask_token", None)  # of training alone
        expected = {name: value.shape for name, value in self.network.state_dict().items()}
        if state.keys() != expected.keys():
            odd = sorted(state.keys() ^ expected.keys())[0]
            raise UserError(f"{path}: not the weights of {model}: {odd} is missing or unknown")
        state["pos_embed"] = resampled(state["pos_embed"].float(), SIDE // PATCH)
        for name, shape in expected.items():
            if state[name].shape != shape:
                raise UserError(
                    f"{path}: not the weights of {model}: {name} is {list(state[name].shape)}, not {list(shape)}"
                )
        self.network.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
        self.width: int = self.network.num_features
        self.sha = sha256(path)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> DinoV2:
        """Stay in evaluation mode, whatever ``mode``."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 224, 224, 3], as ``prepare`` leaves them -> [B, width]"""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        return self.network((pixels - self.mean) / self.std)


def prepare(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [224, 224, 3]: Pillow's bicubic, whatever the shape, as in Stein et al.'s code."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def resampled(embedding: Tensor, side: int) -> Tensor:
    """Position embedding [1, 1 + n * n, D] of a class token and a grid, on another grid: [1, 1 + side * side, D]

    Bicubic, not antialiased, by a factor of (side + OFFSET) / n.
    """
    token, grid = embedding[:, :1], embedding[:, 1:]
    n = round(grid.shape[1] ** 0.5)
    if n == side or n * n != grid.shape[1]:
        return embedding
    grid = grid.reshape(1, n, n, -1).permute(0, 3, 1, 2)
    factor = (side + OFFSET) / n
    grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
    return torch.cat([token, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
