"""A tiny GigaGAN with its first batch of scenes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gigagan.clip import Clip
from gigagan.config import Config
from gigagan.data import open_dataset
from gigagan.training.batches import Batch, Batches
from gigagan.training.phases import GigaGAN

CPU = torch.device("cpu")


@pytest.fixture
def first_batch(clip: Clip) -> Callable[[Config], tuple[Batch, Tensor]]:
    return lambda config, seed=0: next(Batches(open_dataset(config.data, "train"), clip, config, seed, CPU).start(0))


@pytest.fixture
def gigagan(clip: Clip) -> Callable[[Config], GigaGAN]:
    """``gigagan(config)``, with its weights disturbed a little, so that nothing is switched off by a zero."""

    def make(config: Config, disturbed: float = 0.1) -> GigaGAN:
        model = GigaGAN(config, clip, 0, CPU)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for network in model.networks.values():
                for parameter in network.parameters():
                    parameter.add_(disturbed * torch.randn(parameter.shape, generator=generator))
        return model

    return make
