"""The gradients of every phase's first update, from weights that are the same for all; under torchrun, a script."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gigagan.clip import Clip, Clips
from gigagan.config import Config, parse_overrides
from gigagan.data import open_dataset
from gigagan.training import distributed
from gigagan.training.batches import Batches, told
from gigagan.training.checkpoint import Checkpoints
from gigagan.training.ema import EMA
from gigagan.training.phases import GigaGAN
from gigagan.training.trainer import Rhythm, Trainer

CPU = torch.device("cpu")


def disturbed_model(config: Config, clips: Clips) -> GigaGAN:
    """First weights, disturbed a little, so that nothing is switched off by a zero."""
    model = GigaGAN(config, clips, 0, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for network in model.networks.values():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def batches_of(config: Config, clips: Clips) -> Batches:
    dataset = open_dataset(config.data, "train")
    return Batches(dataset, told(config, clips, dataset, CPU), config, 0, CPU)


def make_trainer(config: Config, model: GigaGAN, folder: Path) -> Trainer:
    return Trainer(
        model.phases(),
        batches_of(config, model.clips),
        EMA(model.generator, config.train),
        Checkpoints(folder / "checkpoints", model.networks, {}, "recipe"),
        config.train,
        folder,
        Rhythm(tick=1000, checkpoint=1000, snapshots=1, picture=0),
        picture=lambda path: None,
    )


def gradients(config: Config, clips: Clips, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Phase -> parameter -> gradient, averaged over micro-batches and processes."""
    trainer = make_trainer(config, disturbed_model(config, clips), folder)
    batch, embeddings = next(trainer.batches.start(0))
    found = {}
    for phase in trainer.phases:
        phase.optimizer.step = lambda: None  # every phase from the first weights
        trainer._update(phase, batch, embeddings)
        named = phase.network.named_parameters()
        found[phase.name] = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return found


def main() -> None:
    folder, clip_folder, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    distributed.start("cpu")
    clip = Clip.load(clip_folder)
    clips = Clips(clip, clip, clip)
    for micro_batch in (0, 1):
        config = parse_overrides([*overrides, f"train.micro_batch={micro_batch}"])
        for phase, found in gradients(config, clips, Path(folder)).items():
            name = f"{phase}-{micro_batch}-{distributed.rank()}.safetensors"
            save_file({key: value.contiguous() for key, value in found.items()}, Path(folder, name))
    distributed.stop()


if __name__ == "__main__":
    main()
