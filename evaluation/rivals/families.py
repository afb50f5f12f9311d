"""The rivals that are trained here: of each family its networks, phases and sampler, and a trained run as a Sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluation.rivals import config as configs
from gigagan.clip import Clip
from gigagan.errors import UserError, nearest
from gigagan.inference import Dtype
from gigagan.networks.condition import Condition
from gigagan.sampling import Sampler, clip_of, fill, read_about


@dataclass(frozen=True)
class Family:
    """What training and sampling take of a family."""

    model: Callable[..., Any]  # (config, clips, seed, device, start): networks, shas, phases()
    conditioning: Callable[[Clip, torch.device], Callable[[list[str]], Condition]]
    generator_of: Callable[[Any, Clip], nn.Module]
    sampler: Callable[[nn.Module, Any, Clip, torch.device], Sampler]
    prepare: Callable[[Any], None] | None = None  # what follows from a network's weights alone is computed once


def _stylegan_t() -> Family:
    from evaluation.rivals.stylegan_t.generator import generator_of, prepare
    from evaluation.rivals.stylegan_t.phases import StyleGANT
    from evaluation.rivals.stylegan_t.sampler import StyleGANTSampler, conditioning

    return Family(StyleGANT, conditioning, generator_of, StyleGANTSampler, prepare)


def _diffusion() -> Family:  # diffusers takes seconds to import
    from evaluation.rivals.diffusion.captions import conditioning
    from evaluation.rivals.diffusion.network import generator_of
    from evaluation.rivals.diffusion.phases import Diffusion
    from evaluation.rivals.diffusion.sampler import DiffusionSampler

    return Family(Diffusion, conditioning, generator_of, DiffusionSampler)


FAMILIES = {"stylegan_t": _stylegan_t, "diffusion": _diffusion}
"""Of configurations that are not GigaGAN's."""


def family(name: str) -> Family:
    """Raises UserError, with the nearest known family."""
    if name not in FAMILIES:
        raise UserError(f"unknown family {name!r}{nearest(name, FAMILIES)}")
    return FAMILIES[name]()


def load(run: Path, device: str | torch.device, snapshot: int | None = None, dtype: Dtype | None = "fp32") -> Sampler:
    """The averaged generator of a rival's run, or its snapshot after so many images; ready to draw, unless ``dtype`` is
    None, which leaves the network as it was trained. Only fp32 is known here.

    Raises UserError for a folder without a config, of an unknown family, without weights or with those of another
    config, and where its CLIP is not the one that it was trained with.
    """
    about = read_about(run, configs.kind)
    of, config = family(about["family"]), about["config"]
    clip = clip_of(run, config.text.clip, about.get("clip_sha"))
    network = of.generator_of(config, clip)
    fill(network, run, snapshot)
    sampler = of.sampler(network, config, clip, torch.device(device))
    if dtype is not None and of.prepare and sampler.device.type == "cpu":
        of.prepare(network)
    return sampler
