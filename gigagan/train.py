"""Train one variant at one seed; typed again, the same command goes on where it stopped.

python -m gigagan.train --out runs/mine --seed 0 data.name=scenes data.resolution=16 train.kimg=20
torchrun --nproc-per-node 8 -m gigagan.train --out ...
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from gigagan import provenance
from gigagan.clip import Clip, Clips
from gigagan.config import OWN, Config, parse_overrides, recipe_sha, to_dict
from gigagan.data.item import Dataset, Item
from gigagan.errors import UserError, command
from gigagan.files import write_json
from gigagan.latents import global_mean
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import initialise
from gigagan.networks.upsampler import Upsampler, generator_of
from gigagan.pixels import shrink, to_tensor, to_uint8
from gigagan.sampling import STYLE_MEAN, WEIGHTS, GeneratorSampler
from gigagan.training import distributed, run
from gigagan.training.batches import Batches, Told, class_names, told
from gigagan.training.checkpoint import save_tensors
from gigagan.training.phases import GigaGAN
from gigagan.upsample import Upsampling

MEAN_OVER = 1024  # training captions that the mean style is taken over


class Trained(GigaGAN):
    """GigaGAN as a run trains it."""

    family = OWN
    before: dict[str, float] = {}  # noqa: RUF012 - it begins with first weights
    effort = {"steps": 1, "nfe": 1}  # noqa: RUF012

    def __init__(self, config: Config, dataset: Dataset, seed: int, device: torch.device) -> None:
        clips = Clips.load(config, device)
        self.classes = class_names(dataset, config)
        super().__init__(config, clips, seed, device)

    def told(self, dataset: Dataset) -> Told:
        return told(self.config, self.clips, dataset, self.device)

    def pictures(self, network: Generator | Upsampler, items: list[Item]) -> np.ndarray:
        captions, seeds = [item.caption for item in items], list(range(len(items)))
        if isinstance(network, Generator):
            return GeneratorSampler(network, self.clips.text, self.device, self.classes)(captions, seeds)
        images = torch.from_numpy(np.stack([item.image for item in items]))
        small = to_uint8(shrink(to_tensor(images, self.device), network.input))
        return Upsampling(network, self.clips.text, self.device, self.classes)(small, captions, seeds)

    def extras(self, network: Generator | Upsampler, batches: Batches, seed: int) -> dict[str, dict[str, Tensor]]:
        """The global mean of w [w_dim], over training captions, for truncation (Appendix C.1)."""
        captions = [batches.order[k][1] for k in range(min(MEAN_OVER, len(batches.dataset)))]
        parts = (captions[k : k + 256] for k in range(0, len(captions), 256))
        return {STYLE_MEAN: {"w": global_mean(network, (batches.conditions(part) for part in parts), seed)}}


def write_untrained(config: Config, args: argparse.Namespace, leaving: ExitStack) -> None:
    """A run folder with the weights that training begins with, of any size and without any data, to try it out.

    Raises UserError where the folder holds a run already.
    """
    if (args.out / "config.json").exists():
        raise UserError(f"{args.out}: holds a run already: give another --out")
    clip = Clip.load(config.text.clip) if config.condition.kind == "text" else None
    generator = generator_of(config, clip.text_width if clip else 0)
    initialise(generator, args.seed, "generator")
    about = {
        "family": OWN,
        "recipe_sha": recipe_sha(config, {"clip": clip.sha if clip else ""}),
        "seed": args.seed,
        "clip_sha": clip.sha if clip else "",
        "trained_by": [],
        "classes": [],
        "config": to_dict(config),
        "provenance": provenance.collect("cpu", config.train.threads),
    }
    leaving.enter_context(run.alone(args.out))
    write_json(args.out / "config.json", about)
    save_tensors(args.out / WEIGHTS, generator.state_dict(), {"images": 0})
    n = sum(p.numel() for p in generator.parameters()) / 1e6
    print(f"{args.out}: {n:.1f}M parameters, untrained, seed {args.seed}")


def main() -> None:
    parser = run.options("python -m gigagan.train", __doc__ or "")
    parser.add_argument("--untrained", action="store_true", help="only write the weights that training begins with")
    args = parser.parse_intermixed_args()  # options may stand between overrides
    config = parse_overrides(args.overrides)
    device = distributed.start(args.device)
    with ExitStack() as leaving:
        leaving.callback(distributed.stop)
        if args.untrained:
            return write_untrained(config, args, leaving)
        run.train(lambda dataset: Trained(config, dataset, args.seed, device), config, args, device, leaving)


if __name__ == "__main__":
    command(main)
