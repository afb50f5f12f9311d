"""Which pretrained model, and how it is sampled, as data. Every path is relative to the user's folder of models."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from gigagan import entries
from gigagan.errors import UserError, nearest

Value = str | int | float | bool | None
Adapter = Literal["diffusers", "single_file", "python", "aura_sr", "images"]
FAMILY = "pretrained"
"""Of their runs and rows."""

MULTIPLE = 8
"""Sides of pictures are whole numbers of latents, which are at least so many pixels wide."""

_PIPELINE = ("denoiser", "lora", "lora_scale", "scheduler", "scheduler_options", "steps", "timesteps", "guidance",
             "negative_prompt", "dtype", "safety_checker", "allow_pickle", "separable", "call")  # fmt: skip
TAKES: dict[str, tuple[str, ...]] = {
    "diffusers": ("variant", *_PIPELINE),
    "single_file": ("file", *_PIPELINE),
    "python": ("module", "options", "dtype", "allow_pickle"),
    "aura_sr": ("images", "captions", "options"),
    "images": ("captions",),
}
"""The fields that mean something to each adapter, besides those that every entry has."""
LACKS: dict[str, tuple[str, ...]] = {
    "diffusers": ("guidance", "resolution"),
    "single_file": ("file", "guidance", "resolution"),
    "python": ("module", "resolution"),
    "aura_sr": ("images",),
    "images": (),
}
"""Those that an entry cannot do without."""
_EVERY = ("name", "label", "folder", "adapter", "stand_in_for", "resolution", "sha256")
_NAMING = ("name", "label", "stand_in_for", "sha256")
_PATHS = ("folder", "file", "denoiser", "lora", "images", "captions")


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model as it is sampled.

    Attributes:
        name, label: of the variant in tables.
        folder: the model's. For ``diffusers`` the folder that holds model_index.json; for ``single_file`` the one with
            the configuration (model_index.json, the tokenizers, each part's config.json); for ``images`` the pictures.
        adapter: how it is read.
        stand_in_for: the system of the paper that it stands for, as tables say it, where it is not the paper's own.
        file: ``single_file``: the weights.
        variant: of the weights' names, as in ``diffusion_pytorch_model.fp16.safetensors``.
        denoiser: another UNet or transformer than the folder's: a file of weights, or a folder with its config.json.
        lora, lora_scale: a LoRA's file, or folder with one; it is merged into the weights.
        scheduler: a class of diffusers; empty: the folder's own.
        scheduler_options: what differs from the folder's scheduler_config.json.
        steps, timesteps: how many, or which, from noise to picture: one of the two.
        guidance: classifier-free guidance scale as the pipeline counts it (1 or less: none).
        negative_prompt: null: what the pipeline does without one.
        resolution: side of the pictures, px; of finished ones 0 takes theirs.
        dtype: of weights and activations.
        safety_checker: keep the pipeline's, which blackens pictures; off unless asked for.
        allow_pickle: take pickled weights, read by torch with ``weights_only``, where there are no safetensors.
        separable: captions are encoded apart from drawing. False for a pipeline class that is not known here: then
            each call encodes, and the generator alone cannot be timed.
        call: further arguments of the pipeline's own call.
        module: ``python``: ``path/to/file.py:Name``, a user's own code; relative to the working directory.
        options: further settings of ``python`` and ``aura_sr``.
        images: ``aura_sr``: the pictures that it enlarges.
        captions: of finished pictures, where they do not lie beside them.
        sha256: the digest of the files that are expected (``python -m evaluation.rivals.pretrained.check`` prints it).

    Raises:
        UserError: for what cannot be, or means nothing to the adapter.
    """

    name: str
    label: str
    folder: str
    adapter: Adapter = "diffusers"
    stand_in_for: str = ""
    file: str = ""
    variant: str = ""
    denoiser: str = ""
    lora: str = ""
    lora_scale: float = 1.0
    scheduler: str = ""
    scheduler_options: dict[str, Value] = field(default_factory=dict)
    steps: int = 0
    timesteps: tuple[float, ...] = ()
    guidance: float | None = None
    negative_prompt: str | None = None
    resolution: int = 0
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    safety_checker: bool = False
    allow_pickle: bool = False
    separable: bool = True
    call: dict[str, Value] = field(default_factory=dict)
    module: str = ""
    options: dict[str, Value] = field(default_factory=dict)
    images: str = ""
    captions: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        for name in ("guidance", "lora_scale"):  # 3 and 3.0 are one recipe
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "timesteps", tuple(map(float, self.timesteps)))
        given = self.given()
        takes = (*_EVERY, *TAKES[self.adapter])
        if idle := [name for name in given if name not in takes]:
            raise self.wrong(f"{idle[0]}: means nothing to the adapter {self.adapter}")
        if lacking := [name for name in LACKS[self.adapter] if name not in given]:
            raise self.wrong(f"lacks {lacking[0]}, which the adapter {self.adapter} needs")
        for name in _PATHS:
            path = PurePosixPath(getattr(self, name))
            if path.is_absolute() or ".." in path.parts:
                raise self.wrong(f"{name}: {path} must lie in the folder of models, and be given relative to it")
        if self.resolution < 0 or self.resolution % MULTIPLE:
            raise self.wrong(f"resolution: must be a multiple of {MULTIPLE} px, not {self.resolution}")
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise self.wrong("sha256: must be 64 hexadecimal digits")
        if "steps" in takes:
            self._check_sampling()

    def given(self) -> dict[str, Any]:
        """The fields that are not as they are unsaid."""
        unsaid = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(self)}
        return {name: getattr(self, name) for name in unsaid if getattr(self, name) != unsaid[name]}

    def _check_sampling(self) -> None:
        if bool(self.steps) == bool(self.timesteps):
            both = "both steps and timesteps are given" if self.steps else "neither steps nor timesteps are given"
            raise self.wrong(f"{both}: say how many, or which")
        if self.steps < 0:
            raise self.wrong(f"steps: must be at least 1, not {self.steps}")
        if any(not math.isfinite(t) or t < 0 for t in self.timesteps):
            raise self.wrong("timesteps: must be 0 or more")
        if any(a <= b for a, b in zip(self.timesteps, self.timesteps[1:], strict=False)):
            raise self.wrong("timesteps: must fall from noise to picture, each below the one before")
        if self.guidance is None or not math.isfinite(self.guidance) or self.guidance < 0:
            raise self.wrong(f"guidance: must be 0 or more, not {self.guidance}")
        if self.negative_prompt and self.guidance <= 1:
            raise self.wrong(f"negative_prompt: does nothing at guidance {self.guidance:g}; guidance begins above 1")
        if not math.isfinite(self.lora_scale) or (self.lora_scale != 1 and not self.lora):
            raise self.wrong(f"lora_scale: {self.lora_scale:g} without a lora" if not self.lora else "lora_scale: NaN")
        if own := sorted(self.call.keys() & OWN_ARGUMENTS):
            raise self.wrong(f"call: {own[0]} is not to be given here: this suite sets it itself")

    def wrong(self, what: str) -> UserError:
        return UserError(f"pretrained model {self.name}: {what}")

    def places(self, models: Path) -> list[Path]:
        """The files and folders that it names, of the folder of models and the user's own."""
        named = [models / path for path in (getattr(self, name) for name in _PATHS) if path]
        return [*named, *([Path(self.module.rpartition(":")[0])] if self.module else [])]

    def check_files(self, sha: str) -> None:
        """Raises UserError where the digest of the files is not the one that is expected."""
        if self.sha256 and sha != self.sha256:
            raise self.wrong(f"its files are other ones than expected: their digest is {sha}, not {self.sha256}")

    def recipe(self, weights: str) -> str:
        """A hash of all that makes its pictures: what is said here, and the digest of the files. What is left unsaid is
        no part of it, so that a field added one day leaves the recipes of before as they are."""
        made_by = {name: value for name, value in self.given().items() if name not in _NAMING}
        return hashlib.sha256(json.dumps([made_by, weights], sort_keys=True).encode()).hexdigest()


OWN_ARGUMENTS = frozenset(
    {"prompt", "negative_prompt", "height", "width", "num_inference_steps", "timesteps", "guidance_scale", "generator",
     "num_images_per_prompt", "latents", "output_type", "return_dict", "callback_on_step_end", "callback"}
)  # fmt: skip
"""Arguments of a pipeline's call that follow from other fields, or from a picture's caption and seed."""


def read(path: Path) -> dict[str, Pretrained]:
    """The entries of a YAML file by name.

    Raises UserError where it cannot be read, and for whatever is wrong with an entry.
    """
    return entries.read(path, Pretrained, may_be_empty=("scheduler_options", "call", "options", "negative_prompt"))


def pick(path: Path, name: str) -> Pretrained:
    """One entry of a YAML file. Raises UserError as ``read``, or where there is none of that name."""
    found = read(path)
    if name not in found:
        raise UserError(f"{path}: no pretrained model {name!r}{nearest(name, found)}")
    return found[name]
