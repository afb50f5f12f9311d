"""Networks with their first weights, and captions as a text encoder would hand them over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gigagan.networks.parameters import initialise
from gigagan.networks.text import TextFeatures

TEXT_WIDTH = 16


@pytest.fixture
def ready() -> Callable[..., nn.Module]:
    """``ready(module)``: with initial values, then disturbed a little, so that nothing is switched off by a zero."""

    def prepare(module: nn.Module, disturbed: float = 0.1) -> nn.Module:
        initialise(module, 0, "test")
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(disturbed * torch.randn(parameter.shape, generator=generator))
        return module.requires_grad_()

    return prepare


@pytest.fixture
def captions() -> Callable[..., TextFeatures]:
    """``captions(3)``: features of three captions of different lengths, [3, 6, 16]; by ``seed``."""

    def make(n: int, seed: int = 0) -> TextFeatures:
        generator = torch.Generator().manual_seed(seed)
        return TextFeatures(torch.randn(n, 6, TEXT_WIDTH, generator=generator), 2 + torch.arange(n) % 4)

    return make
