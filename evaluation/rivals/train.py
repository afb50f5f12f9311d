"""Train a rival of GigaGAN's with GigaGAN's own trainer: another configuration, another list of phases.

python -m evaluation.rivals.train --family stylegan_t --out runs/mine --seed 0 data.name=scenes data.resolution=16
python -m evaluation.rivals.train --family diffusion --out runs/b --start runs/a diffusion.objective=guidance
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.rivals import config as configs
from evaluation.rivals.families import Family, family
from gigagan.clip import Clip, Clips
from gigagan.data.item import Dataset, Item
from gigagan.errors import UserError, command
from gigagan.overrides import written
from gigagan.train import Trained
from gigagan.training import distributed, run
from gigagan.training.batches import Batches, Told
from gigagan.training.phases import Phase


class StyleGAN2(Trained):
    """The paper's text-conditional baseline: what is left of GigaGAN when every part of it is switched off."""

    family = "stylegan2"
    OFF = {  # noqa: RUF012
        "attention.kinds": "none", "generator.kernels": (1,), "discriminator.multi_scale": "none",
        "loss.matching": "none", "loss.clip_weight": 0, "vision.weight": 0,
    }  # fmt: skip

    def __init__(self, config: Any, dataset: Dataset, seed: int, device: torch.device) -> None:
        """Raises UserError for a configuration that has a part of GigaGAN's."""
        for path, off in self.OFF.items():
            section, name = path.split(".")
            if (value := getattr(getattr(config, section), name)) != off:
                raise UserError(
                    f"{path}={written(value)}: StyleGAN2 has no such part: set {path}={written(off)} "
                    "(python -m ablations.registry show demo stylegan2 prints all its settings)"
                )
        super().__init__(config, dataset, seed, device)


class Rival:
    """A model of another family as a run trains it (``gigagan.training.run.Model``)."""

    def __init__(self, of: Family, name: str, config: Any, seed: int, device: torch.device, start: Path | None) -> None:
        clip = Clip.load(config.text.clip).to(device)
        self.of, self.family, self.config, self.device = of, name, config, device
        self.classes: list[str] = []
        self.clips = Clips(clip, clip, None)
        self.model = of.model(config, self.clips, seed, device, start)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return self.model.networks

    @property
    def shas(self) -> dict[str, str]:
        return self.model.shas

    @property
    def before(self) -> dict[str, float]:
        return self.model.before

    @property
    def effort(self) -> dict[str, int]:
        sampler = self.of.sampler(self.networks["generator"], self.config, self.clips.text, self.device)
        return {"steps": getattr(self.config.sampling, "steps", 1), "nfe": sampler.nfe}

    def phases(self) -> list[Phase]:
        return self.model.phases()

    def told(self, dataset: Dataset) -> Told:
        return Told(self.of.conditioning(self.clips.text, self.device), self.clips.text)

    def pictures(self, network: nn.Module, items: list[Item]) -> np.ndarray:
        sampler = self.of.sampler(network, self.config, self.clips.text, self.device)
        return sampler([item.caption for item in items], list(range(len(items))))

    def extras(self, network: nn.Module, batches: Batches, seed: int) -> dict[str, dict[str, Tensor]]:
        return {}


def main() -> None:
    parser = run.options("python -m evaluation.rivals.train", __doc__ or "")
    parser.add_argument("--family", required=True, choices=[name for name in configs.FAMILIES if name != "gigagan"])
    parser.add_argument("--start", type=Path, metavar="RUN", help="of a student: the run that it learns from")
    args = parser.parse_intermixed_args()
    config = configs.parse_overrides(args.family, args.overrides)
    device = distributed.start(args.device)

    def make(dataset: Dataset) -> run.Model:
        if args.family == StyleGAN2.family:
            if args.start:
                raise UserError(f"--start {args.start}: StyleGAN2 begins from nothing: leave it out")
            return StyleGAN2(config, dataset, args.seed, device)
        return Rival(family(args.family), args.family, config, args.seed, device, args.start)

    with ExitStack() as leaving:
        leaving.callback(distributed.stop)
        run.train(make, config, args, device, leaving)


if __name__ == "__main__":
    command(main)
