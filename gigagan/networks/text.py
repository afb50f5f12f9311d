"""Text conditioning (Sec. 3.2): learned attention layers T on frozen CLIP features, t_local and t_global."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gigagan.config import TextConfig
from gigagan.networks.attention import TokenLayer, _normalise


class TextFeatures(NamedTuple):
    """Frozen CLIP text features of some captions."""

    tokens: Tensor  # [B, C, width], the penultimate layer
    end: Tensor  # [B], position of the end-of-text token

    def __getitem__(self, index: object) -> TextFeatures:  # type: ignore[override]
        return TextFeatures(self.tokens[index], self.end[index])  # type: ignore[index]

    def to(self, device: torch.device | str) -> TextFeatures:
        return TextFeatures(self.tokens.to(device), self.end.to(device))


class Text(NamedTuple):
    """t = T(E_txt(c)), as the networks use it."""

    local: Tensor  # t_local: [B, C, width], read together with ``mask``
    mask: Tensor  # [B, C] bool: every token but the end token belongs to t_local
    total: Tensor  # t_global: [B, width], T's output at the end token


class TextTransformer(nn.Module):
    """T, the learned attention layers on the frozen features.

    Deviation: the features are layer-normalised before and after T, so that the networks see the same scale whichever
    CLIP made them; the paper does not say.
    """

    def __init__(self, width: int, config: TextConfig, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(TokenLayer(width, config.head_width, mlp_ratio) for _ in range(config.depth))

    def forward(self, features: TextFeatures) -> Text:
        tokens = _normalise(features.tokens)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = _normalise(tokens)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        total = tokens[torch.arange(len(tokens), device=tokens.device), features.end]
        return Text(tokens, positions[None] != features.end[:, None], total)
