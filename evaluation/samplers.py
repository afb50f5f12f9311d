"""A trained run as what scoring sees of it: captions and seeds in, pictures out, whatever else it starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.rivals import config as rivals
from evaluation.rivals import families
from gigagan import latents, sampling, upsample
from gigagan.archive import read_images
from gigagan.config import Config
from gigagan.errors import UserError
from gigagan.networks.condition import Condition
from gigagan.pixels import to_tensor
from gigagan.sampling import Sampler


class Enlarging:
    """An upsampler as a Sampler: what seed k draws is picture k of an image set, enlarged."""

    def __init__(self, upsampling: upsample.Upsampling, small: np.ndarray) -> None:
        """``small``: uint8 [N, h, w, 3]. Raises UserError where the upsampler takes pictures of another size."""
        upsampling.check_size(*small.shape[1:3], "--small")
        self.upsampling, self.small = upsampling, small
        self.resolution, self.device = upsampling.resolution, upsampling.device

    def _pictures(self, seeds: list[int]) -> np.ndarray:
        return self.small[[seed % len(self.small) for seed in seeds]]

    def encode(self, captions: list[str]) -> Condition:
        return self.upsampling.encode(captions)

    @torch.inference_mode()
    def generate(self, condition: Condition, seeds: list[int]) -> Tensor:
        network = self.upsampling.network
        z, noise = latents.draw(seeds, network.z_dim, network.noise_dim)
        small = to_tensor(self._pictures(seeds), self.device)
        return network(z.to(self.device), condition, noise.to(self.device), small)[0]

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        return self.upsampling(self._pictures(seeds), captions, seeds)


class Chained:
    """A generator with an upsampler behind it, as one Sampler."""

    def __init__(self, base: Sampler, upsampling: upsample.Upsampling) -> None:
        """Raises UserError where the upsampler takes pictures of another size."""
        upsampling.check_size(base.resolution, base.resolution, "the pictures drawn")
        self.base, self.upsampling = base, upsampling
        self.resolution, self.device = upsampling.resolution, upsampling.device

    def encode(self, captions: list[str]) -> tuple[Condition, Condition]:
        return self.base.encode(captions), self.upsampling.encode(captions)

    @torch.inference_mode()
    def generate(self, condition: tuple[Condition, Condition], seeds: list[int]) -> Tensor:
        network = self.upsampling.network
        z, noise = latents.draw(seeds, network.z_dim, network.noise_dim)
        # Rounded to the bytes in which samples are kept, so that what is timed is what is scored.
        levels = ((self.base.generate(condition[0], seeds).float() + 1) * 127.5).round().clamp(0, 255)
        return network(z.to(self.device), condition[1], noise.to(self.device), levels / 127.5 - 1)[0]

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        return self.upsampling(self.base(captions, seeds), captions, seeds)


def load(run: Path, device: str | torch.device, snapshot: int | None = None, small: Path | None = None) -> Sampler:
    """A run's averaged generator, or its snapshot after so many images; an upsampler's with the pictures it enlarges.

    Raises UserError as sampling.load and rivals.families.load, and where an upsampler has no pictures.
    """
    config = sampling.read_about(Path(run), rivals.kind)["config"]
    if not isinstance(config, Config):
        return families.load(run, device, snapshot)
    if not config.upsampler.input:
        return sampling.load(run, device, snapshot)
    if small is None:
        raise UserError(f"{run}: an upsampler: say with --small which pictures it is to enlarge")
    return Enlarging(upsample.load(run, device, snapshot), read_images(small)[0])
