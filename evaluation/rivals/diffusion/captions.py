"""Captions as the U-Net takes them, and what stands for none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gigagan.clip import Clip
from gigagan.networks.text import TextFeatures


def conditioning(clip: Clip, device: torch.device) -> Callable[[list[str]], TextFeatures]:
    """What makes captions into frozen features, on the device."""
    clip = clip.to(device)

    @torch.no_grad()
    def features(captions: list[str]) -> TextFeatures:
        return TextFeatures(*clip.text_features(clip.tokenize(captions).to(device)))

    return features


def no_caption(clip: Clip, device: torch.device) -> TextFeatures:
    """The features of the empty caption, [1, C, width]"""
    return conditioning(clip, device)([""])


def dropped(text: TextFeatures, empty: TextFeatures, drop: Tensor) -> TextFeatures:
    """``text`` with no caption where ``drop`` [B] is true."""
    tokens = torch.where(drop[:, None, None], empty.tokens, text.tokens)
    return TextFeatures(tokens, torch.where(drop, empty.end, text.end))


def with_and_without(text: TextFeatures, empty: TextFeatures) -> TextFeatures:
    """[2B, ...]: the captions, then as many times none."""
    n = len(text.end)
    return TextFeatures(
        torch.cat([text.tokens, empty.tokens.expand(n, -1, -1)]), torch.cat([text.end, empty.end.expand(n)])
    )
