"""A run as what scoring sees of it: captions and seeds in, pictures out, whatever else it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.rivals import config as rivals
from evaluation.rivals import families
from evaluation.rivals.pretrained import bind
from gigagan import latents, sampling, upsample
from gigagan.archive import read_images
from gigagan.config import Config
from gigagan.errors import UserError
from gigagan.inference import Dtype
from gigagan.networks.condition import Condition
from gigagan.pixels import to_tensor
from gigagan.sampling import Sampler


class Enlarging:
    """An upsampler as a Sampler: what seed k draws is picture k of an image set, enlarged."""

    nfe = 1

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
    """A sampler with an upsampler behind it, as one Sampler, to which a further upsampler can be chained."""

    def __init__(self, base: Sampler, upsampling: upsample.Upsampling) -> None:
        """Raises UserError where the upsampler takes larger pictures; it enlarges larger ones than its own tile by
        tile."""
        side = base.resolution
        upsampling.check_size(side, side, "the pictures drawn")
        self.base, self.upsampling = base, upsampling
        self.resolution, self.device = side * upsampling.factor, upsampling.device
        self.nfe = base.nfe + 1  # tiles are drawn beside each other, not one after the other

    def encode(self, captions: list[str]) -> tuple[Any, Condition]:
        return self.base.encode(captions), self.upsampling.encode(captions)

    @torch.inference_mode()
    def generate(self, condition: tuple[Any, Condition], seeds: list[int]) -> Tensor:
        network, (before, own) = self.upsampling.network, condition
        # Rounded to the bytes in which samples are kept, so that what is timed is what is scored.
        levels = ((self.base.generate(before, seeds).float() + 1) * 127.5).round().clamp(0, 255)
        if self.base.resolution == network.input:
            z, noise = latents.draw(seeds, network.z_dim, network.noise_dim)
            return network(z.to(self.device), own, noise.to(self.device), levels / 127.5 - 1)[0]
        pictures = levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        bands = (self.upsampling.bands(pictures[i], own[i : i + 1], seed) for i, seed in enumerate(seeds))
        return torch.stack([torch.cat(list(parts), dim=1) for parts in bands]).to(self.device)

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        return self.upsampling(self.base(captions, seeds), captions, seeds)


def networks(sampler: Sampler) -> tuple[list[nn.Module], list[nn.Module]]:
    """Those of a sampler that draw, and those that read its captions."""
    if isinstance(sampler, Chained):
        own = [sampler.upsampling.network], _encoders(sampler.upsampling.encode)
        return tuple(a + b for a, b in zip(networks(sampler.base), own, strict=True))
    if isinstance(sampler, Enlarging):
        return [sampler.upsampling.network], _encoders(sampler.upsampling.encode)
    if isinstance(sampler, sampling.GeneratorSampler):
        return [sampler.generator], _encoders(sampler.encode)
    return [*sampler.networks], [*sampler.encoders]


def _encoders(encode: sampling.Conditioning) -> list[nn.Module]:
    return [encode.clip] if encode.clip else []


def load(
    run: Path,
    device: str | torch.device,
    snapshot: int | None = None,
    small: Path | None = None,
    dtype: Dtype | None = "fp32",
) -> Sampler:
    """A run's averaged generator, or its snapshot after so many images; an upsampler's with the pictures it enlarges;
    the pretrained model that a run is bound to.

    ``dtype`` as in sampling.load, of families that know it. Raises UserError as sampling.load, rivals.families.load and
    rivals.pretrained.bind.load, where an upsampler has no pictures, and for a snapshot of what was not trained here.
    """
    if bound := bind.read(Path(run)):
        if snapshot is not None:
            raise UserError(f"{run}: a pretrained model has no snapshots")
        return bind.load(bound, device)
    config = sampling.read_about(Path(run), rivals.kind)["config"]
    if not isinstance(config, Config):
        return families.load(run, device, snapshot, dtype)
    if not config.upsampler.input:
        return sampling.load(run, device, snapshot, dtype)
    if small is None:
        raise UserError(f"{run}: an upsampler: say with --small which pictures it is to enlarge")
    return Enlarging(upsample.load(run, device, snapshot, dtype=dtype), read_images(small)[0])
