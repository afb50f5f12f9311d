"""A tiny GigaGAN with its first batch of scenes, and its training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from first_step import batches_of, disturbed_model, make_trainer
from torch import Tensor

from gigagan.clip import Clips
from gigagan.config import Config
from gigagan.training.batches import Batch
from gigagan.training.phases import GigaGAN
from gigagan.training.trainer import Trainer


@pytest.fixture
def first_batch(clips: Clips) -> Callable[[Config], tuple[Batch, Tensor]]:
    return lambda config: next(batches_of(config, clips).start(0))


@pytest.fixture
def gigagan(clips: Clips) -> Callable[[Config], GigaGAN]:
    return lambda config: disturbed_model(config, clips)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[[Config, GigaGAN], Trainer]:
    return lambda config, model: make_trainer(config, model, tmp_path)
