"""Whatever an entry's adapter is: what would be loaded, and the Sampler itself."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from evaluation.rivals.pretrained import adapters, diffusion, finished, plan
from evaluation.rivals.pretrained.adapters import Adapted, Enlarged
from evaluation.rivals.pretrained.diffusion import PipelineSampler
from evaluation.rivals.pretrained.finished import FinishedPictures, Look
from evaluation.rivals.pretrained.settings import FAMILY, Pretrained
from gigagan import provenance
from gigagan.sampling import Sampler

LOOK = {
    "diffusers": plan.look,
    "single_file": plan.look,
    "python": adapters.look_module,
    "aura_sr": adapters.look_aura_sr,
    "images": finished.look,
}
LOAD = {
    "diffusers": diffusion.load,
    "single_file": diffusion.load,
    "python": adapters.load_module,
    "aura_sr": adapters.load_aura_sr,
    "images": finished.load,
}
PACKAGES = ("diffusers", "transformers", "peft")


KINDS = (PipelineSampler, Adapted, Enlarged, FinishedPictures)
"""What ``load`` gives."""


class PretrainedSampler(Sampler, Protocol):
    """What is known of a pretrained model besides how to sample it; its parts are described at PipelineSampler."""

    nfe: int | None
    separable: bool
    timeable: bool
    dtype: str
    params_m: float | None
    sha: str
    description: str
    n_blackened: int
    networks: Sequence[nn.Module]
    encoders: Sequence[nn.Module]


def look(settings: Pretrained, models: Path) -> Look:
    """Digest and description of what would be loaded, without loading it.

    Raises UserError for what is wrong with it.
    """
    found = LOOK[settings.adapter](settings, models)
    return Look(found.sha, found.description)


def load(settings: Pretrained, models: Path, device: torch.device) -> PretrainedSampler:
    """A pretrained model from the user's folder of models.

    Raises UserError as ``look``, for weights that do not fit, and for a dtype that the device does not take.
    """
    return LOAD[settings.adapter](settings, models, device)


def about(sampler: PretrainedSampler, settings: Pretrained, threads: int) -> dict[str, Any]:
    """run.json of a pretrained model: the columns that its records repeat. It was not trained here, so that ``kimg``
    and ``seconds`` are empty."""
    return {
        "family": FAMILY,
        "recipe_sha": settings.recipe(sampler.sha),
        "kimg": None,
        "seconds": None,
        "dtype": sampler.dtype,
        "params_m": sampler.params_m,
        "nfe": sampler.nfe,
        "resolution": sampler.resolution,
        **({"steps": steps} if (steps := settings.steps or len(settings.timesteps)) else {}),
        "stand_in_for": settings.stand_in_for,
        "files_sha": sampler.sha,
        "description": sampler.description,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)},
        **provenance.collect(str(sampler.device), threads),
    }
