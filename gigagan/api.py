"""A trained run in Python.

>>> from gigagan import GigaGAN
>>> g = GigaGAN.from_pretrained("runs/demo/gigagan/seed0")
>>> g(["a red circle", "a blue square on white"], seed=1)
[<PIL.Image.Image image mode=RGB size=16x16>, <PIL.Image.Image image mode=RGB size=16x16>]
>>> g.interpolate("a red circle", "a blue square", steps=5)     # five pictures
>>> g.mix(coarse="a red circle", fine="a blue square", layer=1)  # one picture
>>> g.upsample(g("a red circle"), upsampler="runs/up/seed0")
>>> g.save_pretrained("mine")

A mistake is a ``gigagan.errors.UserError``, whose text is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gigagan import edit, latents, sampling
from gigagan.config import to_dict
from gigagan.errors import UserError
from gigagan.files import check_writable, write_json
from gigagan.options import device as device_of
from gigagan.sampling import STYLE_MEAN, WEIGHTS, GeneratorSampler, check_prompts
from gigagan.training.checkpoint import save_tensors

BATCH = 64  # pictures drawn at once
Prompt = str | int  # an int is a class's number


class GigaGAN:
    """The averaged generator of a run.

    Attributes:
        sampler: the generator with its text encoder, for what is not offered here.
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
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", snapshot: int | None = None
    ) -> GigaGAN:
        """The run in a folder, as training or ``save_pretrained`` left it; ``snapshot``: after so many images.

        Raises UserError for a folder without a config or weights, with weights of another config, or of an upsampler.
        """
        where = device if isinstance(device, torch.device) else device_of(device)
        return cls(sampling.load(folder, where, snapshot), sampling.read_about(Path(folder)))

    def __repr__(self) -> str:
        kind = {"text": "text to image", "class": "class to image", "none": "unconditional"}[self.sampler.encode.kind]
        return f"<GigaGAN: {kind}, {self.resolution} px, on {self.sampler.device}>"

    def __call__(
        self,
        prompts: Prompt | Sequence[Prompt],
        seed: int | Sequence[int] = 0,
        truncation: float | None = None,
        global_truncation: float | None = None,
    ) -> list[Image.Image]:
        """One picture for each prompt.

        Args:
            prompts: one or several; of a run that learned classes, their names or numbers.
            seed: of the first picture, the next ones count up; or one for each. A single prompt is drawn once with
                each of several seeds.
            truncation: 1 = none, 0 = the prompt's mean style (Appendix C.1); nothing = as the run's config says.
            global_truncation: after that, 1 = none, 0 = the mean style of the training captions; nothing likewise.

        Raises:
            UserError: a prompt that is no string, blank or far too long; an unknown class; seeds of another number
                than prompts; a truncation outside [0, 1]; global truncation of a run without its mean style.
        """
        captions = self._prompts(prompts)
        how = self.sampler.truncation.but(truncation, global_truncation)
        seeds = _seeds(seed, len(captions))
        if len(captions) == 1:
            captions *= len(seeds)
        if len(seeds) != len(captions):
            raise UserError(f"{len(captions)} prompts but {len(seeds)} seeds: give one seed, or one for each prompt")
        parts = (slice(start, start + BATCH) for start in range(0, len(captions), BATCH))
        images = np.concatenate([self.sampler(captions[part], seeds[part], how) for part in parts])
        return _pictures(images, captions, seeds)

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

        The text is interpolated linearly, z along the sphere. Raises UserError as drawing does, or for less than two
        steps or another number of seeds.
        """
        captions, seeds = self._prompts([a, b]), _seeds(seed, 1) * (2 if _whole(seed) else 1)
        if len(seeds) != 2:
            raise UserError(f"seed: an interpolation takes one seed, or one for each end, not {len(seeds)}")
        if not _whole(steps):
            raise UserError(f"steps {steps!r}: must be a whole number")
        how = self.sampler.truncation.but(truncation, global_truncation)
        images = edit.along(self.sampler, captions, seeds, steps, truncation=how)
        return [Image.fromarray(image) for image in images]

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
        ``layer``: 1 to ``len(layers) - 1``; as a rule the middle one. Raises UserError as drawing does, and for a layer
        that is not there.
        """
        captions, seeds = self._prompts([coarse, fine]), _seeds(seed, 1) * (2 if _whole(seed) else 1)
        if len(seeds) != 2:
            raise UserError(f"seed: mixing takes one seed, or one for each prompt, not {len(seeds)}")
        cut = latents.check_cut(len(self.layers) // 2 if layer is None else layer, self.layers)
        sources = [[(caption, seed)] for caption, seed in zip(captions, seeds, strict=True)]
        how = self.sampler.truncation.but(truncation, global_truncation)
        return Image.fromarray(edit.mixed(self.sampler, *sources, cut, how)[1, 1])

    def upsample(
        self,
        images: Image.Image | Sequence[Image.Image],
        prompts: Prompt | Sequence[Prompt] | None = None,
        upsampler: str | Path | Callable[..., np.ndarray] | None = None,
        seed: int | Sequence[int] = 0,
    ) -> list[Image.Image]:
        """Pictures enlarged by an upsampler: its run's folder, or what ``gigagan.upsample.load`` made of one.

        Prompts need not be given for pictures that were drawn here and not changed since. Raises UserError where they
        are missing, for no upsampler, and as that does.
        """
        given = [images] if isinstance(images, Image.Image) else list(images)
        if not given or not all(isinstance(image, Image.Image) for image in given):
            raise UserError("upsample: give PIL images, one or more")
        if prompts is None:
            if missing := [i for i, image in enumerate(given, 1) if "prompt" not in image.info]:
                raise UserError(f"upsample: picture {missing[0]} does not say what it shows: give prompts=")
            captions = [image.info["prompt"] for image in given]
        else:
            captions = self._prompts(prompts)
            captions = captions * len(given) if len(captions) == 1 else captions
        seeds = _seeds(seed, len(given))
        for name, values in (("prompts", captions), ("seeds", seeds)):
            if len(values) != len(given):
                raise UserError(f"upsample: {len(given)} pictures but {len(values)} {name}")
        if len({image.size for image in given}) > 1:
            raise UserError("upsample: pictures of mixed sizes: give those of one size at a time")
        if upsampler is None:
            raise UserError("upsample: give upsampler=, the folder of an upsampler's run")
        if isinstance(upsampler, str | Path):
            from gigagan import upsample

            upsampler = upsample.load(Path(upsampler), self.sampler.device)
        arrays = np.stack([np.asarray(image.convert("RGB")) for image in given])
        return _pictures(upsampler(arrays, captions, seeds), captions, seeds)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and weights.safetensors, and style_mean.safetensors where there is one; ``from_pretrained``
        loads the same again, bit for bit. The CLIP is named there, not copied.

        Raises UserError where the folder holds a run already, or cannot be written to.
        """
        folder = Path(folder)
        check_writable(folder)
        if there := [name for name in ("config.json", WEIGHTS, STYLE_MEAN) if (folder / name).exists()]:
            raise UserError(f"{folder}: holds {there[0]} already: give another folder")
        header = {"recipe": self.about.get("recipe_sha", "")}
        save_tensors(folder / WEIGHTS, self.sampler.generator.state_dict(), header)
        if self.sampler.style_mean is not None:
            save_tensors(folder / STYLE_MEAN, {"w": self.sampler.style_mean}, header)
        # Last, as it makes the folder a run's.
        write_json(folder / "config.json", {**self.about, "config": to_dict(self.about["config"])})

    def _prompts(self, prompts: Prompt | Sequence[Prompt]) -> list[str]:
        kind = self.sampler.encode.kind
        several = not isinstance(prompts, str) and isinstance(prompts, Sequence)
        given: list[Any] = list(prompts) if several else [prompts]  # type: ignore[arg-type]
        if kind == "class":
            given = [str(prompt) if _whole(prompt) else prompt for prompt in given]
        if kind == "none":
            return ["" if prompt is None else str(prompt) for prompt in given]
        captions = check_prompts(given)
        if kind == "class":
            for caption in captions:
                self.sampler.encode.label(caption)
        return captions


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _seeds(seed: int | Sequence[int], n: int) -> list[int]:
    """``n`` seeds from the one given on, or those given. Raises UserError for what is no seed."""
    given = [seed] if _whole(seed) or not isinstance(seed, Sequence | range) or isinstance(seed, str) else list(seed)
    if not given or not all(_whole(s) and 0 <= s < 2**63 - n for s in given):
        raise UserError(f"seed {seed!r:.60}: must be a whole number from 0 up, or a list of such numbers")
    first = int(given[0])
    return list(range(first, first + n)) if _whole(seed) else [int(s) for s in given]


def _pictures(images: np.ndarray, captions: list[str], seeds: list[int]) -> list[Image.Image]:
    """PIL images that say what they show."""
    pictures = []
    for image, caption, seed in zip(images, captions, seeds, strict=True):
        pictures.append(Image.fromarray(image))
        pictures[-1].info.update(prompt=caption, seed=seed)
    return pictures
