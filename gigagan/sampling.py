"""The Sampler protocol, which is all that scoring sees of a model, and a trained run as a Sampler."""

from __future__ import annotations

import json
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gigagan import latents
from gigagan.clip import LOCAL_DIR, Clip
from gigagan.config import OWN, YOUNGER, Config
from gigagan.degenerate import Tally
from gigagan.errors import UserError, nearest, short
from gigagan.inference import Dtype, faster
from gigagan.latents import Truncation
from gigagan.networks.condition import ClassEmbedding, Condition, Labels, Unconditional
from gigagan.networks.generator import Generator, Style
from gigagan.networks.text import Text, TextFeatures
from gigagan.networks.upsampler import Upsampler, generator_of
from gigagan.overrides import restored
from gigagan.training.checkpoint import load_into, load_tensors

LONGEST = 5000  # characters of a prompt: far more than any CLIP reads, so what is longer is a mistake
WEIGHTS, STYLE_MEAN = "weights.safetensors", "style_mean.safetensors"


class Sampler(Protocol):
    """Captions and seeds in, pictures out.

    Attributes:
        nfe: network evaluations that a picture takes; a guided step of a diffusion model is two.
    """

    resolution: int
    device: torch.device
    nfe: int

    def encode(self, captions: list[str]) -> Condition: ...

    def generate(self, condition: Condition, seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1], on the device"""
        ...

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]; a picture depends on its own caption and seed alone."""
        ...


def check_prompts(prompts: object) -> list[str]:
    """One prompt or several, as a person gave them, as a list.

    Raises UserError for none, and for one that is no string, is blank, or has more than ``LONGEST`` characters.
    """
    single = isinstance(prompts, str | bytes | bytearray) or not isinstance(prompts, Sequence)
    given = [prompts] if single else list(prompts)
    if not given:
        raise UserError("no prompts were given")
    for i, prompt in enumerate(given):
        which = f"prompt {i + 1} of {len(given)}" if len(given) > 1 else "prompt"
        if not isinstance(prompt, str):
            kind = type(prompt).__name__
            article = "an" if kind[0].lower() in "aeiou" else "a"
            raise UserError(f"{which}: {short(prompt)} is {article} {kind}: a prompt is a string")
        if not prompt.strip():
            raise UserError(f"{which}: is empty: say what is to be seen")
        if len(prompt) > LONGEST:
            raise UserError(f"{which}: has {len(prompt):,} characters: at most {LONGEST:,} ({prompt[:30]!r} ...)")
    return given


class Conditioning:
    """What pictures are asked for by, as a network takes it: captions, classes (a name or number each), or nothing.

    Attributes:
        kind: ``text``, ``class`` or ``none``, as the network's own ``config.condition.kind``.
        n_cut: prompts so far that were longer than the CLIP reads.
        remember: captions whose features are kept, those used last; 0 = none, so that every call runs the CLIP.
    """

    def __init__(
        self,
        encoder: nn.Module,
        clip: Clip | None,
        device: torch.device,
        classes: Sequence[str] = (),
        *,
        warn: bool = False,
    ) -> None:
        self.kind = {ClassEmbedding: "class", Unconditional: "none"}.get(type(encoder), "text")
        self.clip = clip.to(device) if clip else None
        self.device = device
        self.n_classes = len(encoder.table) if isinstance(encoder, ClassEmbedding) else 0
        self.classes = {name: i for i, name in enumerate(classes)}
        self.warn = warn
        self.n_cut = 0
        self.remember = 0
        self._known: OrderedDict[str, TextFeatures] = OrderedDict()
        self._counted: set[str] = set()

    @torch.inference_mode()
    def __call__(self, captions: list[str]) -> Condition:
        """Raises UserError for a class that there is not. A caption that is too long is cut; one that ``count_cut`` has
        not met is counted, and said only where it is the first: data may hold thousands."""
        if self.kind != "text":
            labels = [self.label(caption) if self.n_classes else 0 for caption in captions]
            return Labels(torch.tensor(labels, dtype=torch.int64, device=self.device))
        if not self.remember:
            return self._read(captions)
        found = {caption: self._known.get(caption) for caption in captions}
        if new := [caption for caption, features in found.items() if features is None]:
            features = self._read(new)
            found |= {caption: features[i : i + 1] for i, caption in enumerate(new)}
        for caption, features in found.items():
            self._known[caption] = features
            self._known.move_to_end(caption)
        while len(self._known) > self.remember:
            self._known.popitem(last=False)
        return TextFeatures(*map(torch.cat, zip(*(found[caption] for caption in captions), strict=True)))

    def _read(self, captions: list[str]) -> TextFeatures:
        assert self.clip is not None
        cut = self.clip.n_cut
        tokens = self.clip.tokenize(captions).to(self.device)
        if self.clip.n_cut > cut:
            self.count_cut([caption for caption in captions if caption not in self._counted], say=not self._counted)
        return TextFeatures(*self.clip.text_features(tokens))

    def count_cut(self, prompts: list[str], *, say: bool = True) -> None:
        """Count those of a call's prompts that the CLIP cuts and, with ``warn``, say so in one line."""
        cut = [prompt for prompt in prompts if self._is_cut(prompt)]
        if not cut:
            return
        self.n_cut += len(cut)
        self._counted.update(cut)
        if self.warn and say:
            assert self.clip is not None
            most, n = self.clip.context_length, f"{len(cut)} of {len(prompts)} prompts"
            print(
                f"warning: cut to the {most} tokens that this run's CLIP reads: {n}, the first {short(cut[0])}",
                file=sys.stderr,
            )

    def _is_cut(self, prompt: str) -> bool:
        if self.clip is None:
            return False
        before = self.clip.n_cut
        self.clip.tokenize([prompt])
        return self.clip.n_cut > before

    def label(self, name: str) -> int:
        """The number of a class. Raises UserError, with the range or the nearest name, where there is none."""
        if name in self.classes:
            return self.classes[name]
        last = self.n_classes - 1
        if not re.fullmatch("-?[0-9]{1,18}", name):  # int() reads more: " 1 ", "+1", "1_0"
            known = nearest(name, self.classes) if self.classes else f" (they are numbered 0 to {last})"
            raise UserError(f"class {short(name)}: this run has no such class{known}")
        if name[0] == "-" or int(name) > last:
            raise UserError(f"class {name}: out of range: this run's classes are numbered 0 to {last}")
        return int(name)


class GeneratorSampler:
    """A generator with what tells it which picture to draw.

    Attributes:
        tally: of the pictures that were drawn as bytes, how many are none.
    """

    nfe = 1

    def __init__(
        self,
        generator: Generator,
        clip: Clip | None,
        device: torch.device,
        classes: Sequence[str] = (),
        style_mean: Tensor | None = None,
        truncation: Truncation = Truncation(),  # noqa: B008 - frozen
        *,
        warn: bool = False,
    ) -> None:
        self.generator = generator.to(device).eval().requires_grad_(False)
        self.encode = Conditioning(generator.text, clip, device, classes, warn=warn)
        self.style_mean = style_mean  # [w_dim], over the training captions
        self.truncation = truncation  # where none is asked for
        self.resolution = generator.resolution
        self.device = device
        self.tally = Tally()

    @property
    def n_cut(self) -> int:
        """Prompts so far that were longer than the CLIP reads."""
        return self.encode.n_cut

    @property
    def resolutions(self) -> list[int]:
        """The generator's levels in px, from the coarsest up."""
        return [level.resolution for level in self.generator.levels]

    @torch.inference_mode()
    def text(self, captions: list[str]) -> Text:
        return self.generator.text(self.encode(captions))

    def draw(self, seeds: list[int]) -> tuple[Tensor, Tensor]:
        """z [B, z_dim] and noise [B, noise_dim], on the device"""
        z, noise = latents.draw(seeds, self.generator.z_dim, self.generator.noise_dim)
        return z.to(self.device), noise.to(self.device)

    @torch.inference_mode()
    def style(self, z: Tensor, text: Text, truncation: Truncation | None = None) -> Style:
        """z [B, z_dim] and the text of as many prompts. Raises UserError as ``latents.truncate``."""
        return self.truncate(Style(self.generator.mapping(z, text.total), text), truncation)

    def truncate(self, style: Style, truncation: Truncation | None = None) -> Style:
        """``latents.truncate`` with this generator's mean style and, where none is given, its own truncation."""
        return latents.truncate(self.generator, style, truncation or self.truncation, self.style_mean)

    @torch.inference_mode()
    def synthesise(self, styles: list[Style] | Style, noise: Tensor, batch: int = 64) -> np.ndarray:
        """One style a level, or one for all, and noise [B, noise_dim] -> uint8 [B, R, R, 3]"""
        levels = [styles] * len(self.generator.levels) if isinstance(styles, Style) else styles
        pictures = []
        for start in range(0, len(noise), batch):
            rows = list(range(start, min(start + batch, len(noise))))
            part = [latents.pick(style, rows) for style in levels]
            pictures.append(self.tally.to_uint8(self.generator.synthesise(part, noise[rows])[0]))
        return np.concatenate(pictures)

    @torch.inference_mode()
    def generate(self, condition: Condition, seeds: list[int], truncation: Truncation | None = None) -> Tensor:
        """[B, 3, R, R] in [-1, 1], on the device. Raises UserError as ``latents.truncate``."""
        z, noise = self.draw(seeds)
        style = self.style(z, self.generator.text(condition), truncation)
        return self.generator.synthesise([style] * len(self.generator.levels), noise)[0]

    def __call__(self, captions: list[str], seeds: list[int], truncation: Truncation | None = None) -> np.ndarray:
        return self.tally.to_uint8(self.generate(self.encode(captions), seeds, truncation))


def read_about(run: Path, kind: Callable[[str], type] = lambda family: Config) -> dict[str, Any]:
    """What a run folder says of itself; ``kind``: the configuration of its family, by name.

    Raises UserError where there is none, or it cannot be read.
    """
    path = run / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        family = about.setdefault("family", OWN)
        values = {section: dict(fields) for section, fields in about["config"].items()}
        for younger, value in YOUNGER.items():  # than this run, which was trained as if it had this value
            section, name = younger.split(".")
            values.setdefault(section, {}).setdefault(name, value)
        return {**about, "config": restored(values, kind(family))}
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{run}: no run folder (it has no config.json)") from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not a run's config ({e!r})") from None


def load_clip(run: Path, about: dict[str, Any]) -> Clip | None:
    """The CLIP that a run was trained with; None where it reads no captions.

    A folder that is not there is looked for beside the package, too, so that a run can be loaded from anywhere.
    Raises UserError as ``Clip.load``, or where it is another one.
    """
    config: Config = about["config"]
    return clip_of(run, config.text.clip, about.get("clip_sha")) if config.condition.kind == "text" else None


def clip_of(run: Path, name: str, sha: str | None) -> Clip:
    """The CLIP of this name that a run of any family was trained with. Raises as ``load_clip``."""
    folder = Path(name.removeprefix(LOCAL_DIR))
    beside = Path(__file__).resolve().parent.parent / folder
    if name.startswith(LOCAL_DIR) and not folder.is_dir() and beside.is_dir():
        name = f"{LOCAL_DIR}{beside}"
    clip = Clip.load(name)
    if sha != clip.sha:
        raise UserError(f"{run}: trained with another CLIP than {name.removeprefix(LOCAL_DIR)} is now: bring it back")
    return clip


def load_network(
    run: Path, snapshot: int | None = None, clip: Clip | None = None
) -> tuple[dict[str, Any], Generator | Upsampler]:
    """What a run says of itself, and its averaged network, on the CPU; or its snapshot after so many images.

    ``clip``: the run's own, where the caller has loaded it already.

    Raises UserError for a folder without a config, without weights, with weights of another config or with NaN among
    them, or where the CLIP that its config names is not the one it was trained with.
    """
    about = read_about(run)
    clip = clip or load_clip(run, about)
    with torch.device("meta"):
        network = generator_of(about["config"], clip.text_width if clip else 0)
    network.to_empty(device="cpu")
    fill(network, run, snapshot)
    return about, network


def fill(network: nn.Module, run: Path, snapshot: int | None = None) -> None:
    """A run's averaged weights, or its snapshot's after so many images, into a network on the CPU.

    Raises UserError where there are none, for weights of another config, and for NaN among them.
    """
    weights = run / WEIGHTS
    if snapshot is not None:
        weights = run / "snapshots" / f"{snapshot:012d}.safetensors"
        if not weights.is_file():
            kept = ", ".join(str(int(path.stem)) for path in sorted(weights.parent.glob("[0-9]*.safetensors")))
            raise UserError(f"{run}: no snapshot after {snapshot} images (there are: {kept or 'none'})")
    elif not weights.is_file():
        raise UserError(f"{run}: no {WEIGHTS} there; train this run to its end first")
    load_into(network, _finite(weights), weights)


def _finite(path: Path) -> dict[str, Tensor]:
    """A file's tensors. Raises UserError, as ``load_tensors``, and for NaN or infinity in one of them."""
    tensors = load_tensors(path, "train this run again")[0]
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinity: train this run again")
    return tensors


def load(
    run: str | Path,
    device: str | torch.device = "cpu",
    snapshot: int | None = None,
    dtype: Dtype | None = "fp32",
    compile: bool = False,
) -> GeneratorSampler:
    """The averaged generator of a run folder, or its snapshot after so many images (0 = untrained), ready to draw.

    ``dtype`` and ``compile`` as in ``gigagan.inference.prepare``; None leaves the network as it was trained. Raises
    UserError as that and ``load_network``, and for the run of an upsampler.
    """
    run = Path(run)
    about = read_about(run)
    if about["config"].upsampler.input:
        raise UserError(f"{run}: is an upsampler's run: python -m gigagan.upsample enlarges pictures with it")
    clip = load_clip(run, about)
    about, network = load_network(run, snapshot, clip)
    # A snapshot's styles have another mean than those of the weights that training ended with.
    mean, truncation = None, Truncation()
    if snapshot is None:
        config: Config = about["config"]
        mean = _style_mean(run / STYLE_MEAN, config.generator.w_dim)
        truncation = Truncation(config.sampling.truncation, config.sampling.global_truncation)
    where, classes = torch.device(device), about.get("classes", ())
    sampler = GeneratorSampler(network, clip, where, classes, mean, truncation, warn=True)
    return sampler if dtype is None else faster(sampler, dtype, compile)


def _style_mean(path: Path, w_dim: int) -> Tensor | None:
    """The mean style [w_dim] that training left, if it did. Raises UserError for a file that does not hold one."""
    if not path.is_file():
        return None
    mean = _finite(path).get("w")
    if mean is None or mean.shape != (w_dim,):
        found = "nothing" if mean is None else tuple(mean.shape)
        raise UserError(f"{path}: made with another config: w (wanted {(w_dim,)}, found {found})")
    return mean
