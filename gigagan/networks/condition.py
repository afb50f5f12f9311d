"""What a picture is asked for by, as the networks take it: a caption (Sec. 3.2), a class, or nothing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gigagan.config import Config
from gigagan.networks.parameters import normal
from gigagan.networks.text import Text, TextFeatures, TextTransformer


class Labels(NamedTuple):
    """Classes of some pictures; where pictures are asked for by nothing, only how many there are counts."""

    index: Tensor  # [B] int64

    def __getitem__(self, rows: object) -> Labels:  # type: ignore[override]
        return Labels(self.index[rows])  # type: ignore[index]

    def to(self, device: torch.device | str) -> Labels:
        return Labels(self.index.to(device))


Condition = TextFeatures | Labels


class ClassEmbedding(nn.Module):
    """A learned vector per class in t_global's place (ImageNet, Table A2)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = normal(classes, width)

    def forward(self, labels: Labels) -> Text:
        return _alone(self.table[labels.index])


class Unconditional(nn.Module):
    """Nothing in t_global's place (Table 5)."""

    width = 0

    def forward(self, labels: Labels) -> Text:
        return _alone(torch.empty(len(labels.index), 0, device=labels.index.device))


def _alone(total: Tensor) -> Text:
    """A condition without words to attend to."""
    return Text(total[:, None], torch.ones(len(total), 1, dtype=torch.bool, device=total.device), total)


def encoder(config: Config, text_width: int) -> TextTransformer | ClassEmbedding | Unconditional:
    """The learned part of a network's conditioning: condition -> Text; its ``width`` is t_global's."""
    condition = config.condition
    if condition.kind == "class":
        return ClassEmbedding(condition.classes, condition.width)
    return Unconditional() if condition.kind == "none" else TextTransformer(text_width, config.text)
