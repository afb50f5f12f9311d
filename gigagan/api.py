"""A trained run in Python.

>>> from gigagan import GigaGAN
>>> g = GigaGAN.from_pretrained("runs/demo/gigagan/seed0")
>>> g(["a red circle", "a blue square on white"], seed=1)
[<PIL.Image.Image image mode=RGB size=16x16>, <PIL.Image.Image image mode=RGB size=16x16>]
>>> g.interpolate("a red circle", "a blue square", steps=5)     # five pictures
>>> g.mix(coarse="a red circle", fine="a blue square", layer=1)  # one picture
>>> g.upsample(g("a red circle"), upsampler="runs/up/seed0")
>>> g.save_pretrained("mine")

A mistake is a ``gigagan.GigaGANError``, a ValueError whose text is one line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gigagan import edit, latents, sampling, upsample
from gigagan.config import to_dict
from gigagan.data.images import rgb
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError, as_exceptions, short
from gigagan.files import check_writable, write_json
from gigagan.options import device as device_of
from gigagan.sampling import STYLE_MEAN, WEIGHTS, Conditioning, GeneratorSampler, check_prompts
from gigagan.training.checkpoint import save_tensors

BATCH = 64  # pictures drawn at once
REMEMBERED = 256  # prompts whose text features are kept
Prompt = str | int  # an int is a class's number


class GigaGAN:
    """The averaged generator of a run.

    Attributes:
        sampler: the generator with its text encoder, for what is not offered here; its mistakes are UserErrors.
        about: what the run says of itself; ``about["config"]`` is its ``gigagan.config.Config``.
        resolution: side of its pictures in px.
        layers: the generator's levels in px, from the coarsest up; a ``layer`` is an index into them.
    """

    def __init__(self, sampler: GeneratorSampler, about: dict[str, Any]) -> None:
        self.sampler = sampler
        self.about = about
        self.resolution = sampler.resolution
        self.layers = sampler.resolutions

    @classmethod
    @as_exceptions()
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        snapshot: int | None = None,
        dtype: str = "fp32",
        compile: bool = False,
    ) -> GigaGAN:
        """The run in a folder, as training or ``save_pretrained`` left it; ``snapshot``: after so many images.

        ``dtype`` (fp32 or bf16) and ``compile`` as ``gigagan.inference.prepare`` takes them. Raises GigaGANError for
        compilation without a compiler, for a folder without a config or weights, with weights of another config or with
        NaN among them, or of an upsampler; and for a device that is not there.
        """
        folder = _path("from_pretrained", folder)
        where = device if isinstance(device, torch.device) else device_of(str(device), option="device=")
        if snapshot is not None and not _whole(snapshot):
            raise UserError(f"snapshot {short(snapshot)}: must be a whole number of images")
        about = sampling.read_about(folder)
        if about["config"].upsampler.input:
            raise UserError(f"{folder}: is an upsampler's run: give it to upsample(images, upsampler=...)")
        if dtype not in ("fp32", "bf16"):
            raise UserError(f"dtype {short(dtype)}: must be fp32 or bf16")
        sampler = sampling.load(folder, where, snapshot, dtype, compile)
        sampler.encode.remember = REMEMBERED
        return cls(sampler, about)

    @property
    def n_cut(self) -> int:
        """Prompts so far that were longer than the run's CLIP reads, and were cut."""
        return self.sampler.n_cut

    def __repr__(self) -> str:
        kind = {"text": "text to image", "class": "class to image", "none": "unconditional"}[self.sampler.encode.kind]
        return f"<GigaGAN: {kind}, {self.resolution} px, on {self.sampler.device}>"

    @as_exceptions()
    def __call__(
        self,
        prompts: Prompt | Sequence[Prompt],
        seed: int | Sequence[int] = 0,
        truncation: float | None = None,
        global_truncation: float | None = None,
    ) -> list[Image.Image]:
        """One picture for each prompt.

        Args:
            prompts: one or several; of a run that learned classes, their names or numbers; of an unconditional run,
                None or "". What is longer than the CLIP reads is cut, said on standard error, and counted (``n_cut``).
            seed: of the first picture, the next ones count up; or one for each, as a list or a 1-d array. A single
                prompt is drawn once with each of several seeds.
            truncation: 1 = none, 0 = the prompt's mean style (Appendix C.1); nothing = as the run's config says.
            global_truncation: after that, 1 = none, 0 = the mean style of the training captions; nothing likewise.

        Raises:
            GigaGANError: a prompt that is no string, blank or far too long; an unknown class; seeds of another number
                than prompts; a truncation outside [0, 1]; global truncation of a run without its mean style.
        """
        captions = _prompts(prompts, self.sampler.encode)
        how = self.sampler.truncation.but(truncation, global_truncation)
        seeds = _seeds(seed, len(captions))
        if len(captions) == 1:
            captions *= len(seeds)
        if len(seeds) != len(captions):
            raise UserError(f"{len(captions)} prompts but {len(seeds)} seeds: give one seed, or one for each prompt")
        parts = (slice(start, start + BATCH) for start in range(0, len(captions), BATCH))
        images = np.concatenate([self.sampler(captions[part], seeds[part], how) for part in parts])
        return _pictures(images, captions, seeds)

    @as_exceptions()
    def interpolate(
        self,
        a: Prompt,
        b: Prompt,
        steps: int = 8,
        seed: int | tuple[int, int] = 0,
        truncation: float | None = None,
        global_truncation: float | None = None,
    ) -> list[Image.Image]:
        """``steps`` pictures from prompt ``a`` to ``b``, both included; with two seeds from one z to the other, too.

        The text is interpolated linearly, z along the sphere. Raises GigaGANError as drawing does, or for less than two
        steps or another number of seeds.
        """
        captions, seeds = _prompts([a, b], self.sampler.encode), _seeds(seed, 1) * (2 if _whole(seed) else 1)
        if len(seeds) != 2:
            raise UserError(f"seed: an interpolation takes one seed, or one for each end, not {len(seeds)}")
        if not _whole(steps):
            raise UserError(f"steps {short(steps)}: must be a whole number")
        how = self.sampler.truncation.but(truncation, global_truncation)
        images = edit.along(self.sampler, captions, seeds, int(steps), truncation=how)
        return [Image.fromarray(image) for image in images]

    @as_exceptions()
    def mix(
        self,
        coarse: Prompt,
        fine: Prompt,
        layer: int | None = None,
        seed: int | tuple[int, int] = 0,
        truncation: float | None = None,
        global_truncation: float | None = None,
    ) -> Image.Image:
        """One picture whose levels below ``layer`` are asked for by one prompt, the others by another (Fig. 8).

        With two seeds, each part has its own z and noise: with one and the same prompt, that is style mixing (Fig. 6).
        ``layer``: 1 to ``len(layers) - 1``; as a rule the middle one. Raises GigaGANError as drawing does, and for a
        layer that is not there.
        """
        captions, seeds = _prompts([coarse, fine], self.sampler.encode), _seeds(seed, 1) * (2 if _whole(seed) else 1)
        if len(seeds) != 2:
            raise UserError(f"seed: mixing takes one seed, or one for each prompt, not {len(seeds)}")
        cut = latents.check_cut(len(self.layers) // 2 if layer is None else layer, self.layers)
        sources = [[(caption, seed)] for caption, seed in zip(captions, seeds, strict=True)]
        how = self.sampler.truncation.but(truncation, global_truncation)
        return Image.fromarray(edit.mixed(self.sampler, *sources, cut, how)[1, 1])

    @as_exceptions()
    def upsample(
        self,
        images: Image.Image | Sequence[Image.Image],
        prompts: Prompt | Sequence[Prompt] | None = None,
        upsampler: str | Path | upsample.Upsampling | None = None,
        seed: int | Sequence[int] = 0,
    ) -> list[Image.Image]:
        """Pictures enlarged by an upsampler: its run's folder, or what ``gigagan.upsample.load`` made of one.

        Pictures of any mode are converted as the command does with files. Prompts are the upsampler's (captions, or
        classes; none for an unconditional one), and need not be given for pictures that were drawn here and not changed
        since. Raises GigaGANError where they are missing, for no upsampler, and as that does.
        """
        given = _listed(images)
        if not given or not all(isinstance(image, Image.Image) for image in given):
            raise UserError("upsample: give PIL images, one or more")
        arrays = [_pixels(image, i) for i, image in enumerate(given, 1)]
        if len({array.shape for array in arrays}) > 1:
            raise UserError("upsample: pictures of mixed sizes: give those of one size at a time")
        seeds = _seeds(seed, len(given))
        if isinstance(upsampler, str | os.PathLike):
            about = sampling.read_about(Path(upsampler))
            if not about["config"].upsampler.input:
                raise UserError(f"{upsampler}: is no upsampler's run but a generator's: from_pretrained loads it")
            upsampler = upsample.load(upsampler, self.sampler.device)
        if not isinstance(upsampler, upsample.Upsampling):
            which = "" if upsampler is None else f", not {short(upsampler)}"
            raise UserError(f"upsample: give upsampler=, the folder of an upsampler's run{which}")
        shown = [image.info.get("prompt") for image in given]
        if prompts is None and upsampler.encode.kind != "none":
            if None in shown:
                raise UserError(f"upsample: picture {shown.index(None) + 1} does not say what it shows: give prompts=")
            prompts = shown
        captions = _prompts(prompts, upsampler.encode)
        captions = captions * len(given) if len(captions) == 1 else captions
        for name, values in (("prompts", captions), ("seeds", seeds)):
            if len(values) != len(given):
                raise UserError(f"upsample: {len(given)} pictures but {len(values)} {name}")
        large = upsampler(np.stack(arrays), captions, seeds)
        return _pictures(large, shown if upsampler.encode.kind == "none" else captions, seeds)

    @as_exceptions()
    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and weights.safetensors, and style_mean.safetensors where there is one; ``from_pretrained``
        loads the same again, bit for bit. The CLIP is named there, not copied.

        Raises GigaGANError where the folder holds a run already, or cannot be written to.
        """
        folder = _path("save_pretrained", folder)
        check_writable(folder)
        if there := [name for name in ("config.json", WEIGHTS, STYLE_MEAN) if (folder / name).exists()]:
            raise UserError(f"{folder}: holds {there[0]} already: give another folder")
        header = {"recipe": self.about.get("recipe_sha", "")}
        save_tensors(folder / WEIGHTS, self.sampler.generator.state_dict(), header)
        if self.sampler.style_mean is not None:
            save_tensors(folder / STYLE_MEAN, {"w": self.sampler.style_mean}, header)
        # A snapshot is not drawn as its run's config says, but loads as the config that is saved with it does.
        how = self.sampler.truncation
        config = to_dict(self.about["config"])
        config["sampling"] = {"truncation": how.prompt, "global_truncation": how.overall}
        # Last, as it makes the folder a run's.
        write_json(folder / "config.json", {**self.about, "config": config})


def _prompts(prompts: object, encode: Conditioning) -> list[str]:
    """One prompt or several as a list of what a network is asked for by, checked; those that it cuts are counted."""
    given = _listed(prompts)
    if encode.kind == "none":
        if not given:
            raise UserError("no prompts were given")
        for prompt in given:
            if prompt is not None and not (isinstance(prompt, str) and prompt == ""):
                raise UserError(f'prompt {short(prompt)}: an unconditional run takes none: give None or ""')
        return [""] * len(given)
    if encode.kind == "class":
        given = [str(prompt) if _whole(prompt) else prompt for prompt in given]
    captions = check_prompts(given)
    if encode.kind == "class":
        for caption in captions:
            encode.label(caption)
    encode.count_cut(captions)
    return captions


def _listed(value: object) -> list[Any]:
    """The entries of a sequence or of a 1-d array, or the one value that it is; bytes are one value."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
    return list(value) if several else [value]


def _path(what: str, folder: object) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"{what}: {short(folder)} is no folder: give its path")
    return Path(folder)


def _pixels(image: Image.Image, place: int) -> np.ndarray:
    try:
        return rgb(image)
    except Unusable as e:
        raise UserError(f"upsample: picture {place}: {e.reason}{f' ({e.detail})' if e.detail else ''}") from None


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _seeds(seed: object, n: int) -> list[int]:
    """``n`` seeds from the one given on, or those given. Raises UserError for what is no seed."""
    given = _listed(seed)
    if not given or not all(_whole(s) and 0 <= s < 2**63 - n for s in given):
        raise UserError(f"seed {short(seed)}: must be a whole number from 0 up, or a list of such numbers")
    first = int(given[0])
    return list(range(first, first + n)) if _whole(seed) else [int(s) for s in given]


def _pictures(images: np.ndarray, captions: list[Any], seeds: list[int]) -> list[Image.Image]:
    """PIL images that say what they show, where that is known."""
    pictures = []
    for image, caption, seed in zip(images, captions, seeds, strict=True):
        pictures.append(Image.fromarray(image))
        pictures[-1].info.update({"seed": seed} | ({} if caption is None else {"prompt": caption}))
    return pictures
