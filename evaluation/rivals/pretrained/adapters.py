"""Generators that are no pipelines: through a user's own Python file, and AuraSR behind finished pictures.

A file that an entry names as ``module: path/to/galip.py:Galip`` holds a class that follows ``Adapter``. One for a GAN
such as GALIP is some fifteen lines around the model's own code:

    class Galip:
        nfe = 1                                     # evaluations of its network a picture
        params_m = 240.0                            # optional: millions of parameters

        @classmethod
        def load(cls, folder, settings, device):    # settings.options holds what the entry says there
            self = cls()
            self.generator = ...                    # tensors by gigagan.clip.read_weights, which runs nothing
            return self

        def encode(self, captions):                 # timed end to end
            return self.clip(captions)

        def generate(self, condition, seeds):       # timed alone: [B, 3, R, R] in [-1, 1], a generator for each seed
            z = torch.stack([torch.randn(100, generator=torch.Generator().manual_seed(s)) for s in seeds])
            return self.generator(z.to(self.device), condition)

It is the user's code and runs as such. A file below the folder of models is refused: what comes with a checkpoint is
not run.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from evaluation.rivals.pretrained import folder as folders
from evaluation.rivals.pretrained.finished import FinishedPictures, Look
from evaluation.rivals.pretrained.settings import Pretrained
from gigagan.clip import read_weights
from gigagan.errors import UserError, short
from gigagan.files import sha256
from gigagan.memory import is_out_of_memory
from gigagan.pixels import to_tensor, to_uint8

ENLARGES = 4
"""times, AuraSR"""


class Adapter(Protocol):
    """What a user's class gives."""

    nfe: int

    @classmethod
    def load(cls, folder: Path, settings: Pretrained, device: torch.device) -> Adapter: ...

    def encode(self, captions: list[str]) -> Any: ...

    def generate(self, condition: Any, seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1]; a picture depends on its own caption and seed alone."""
        ...


class Adapted:
    """A user's adapter as a Sampler that looks at what it gives; attributes as PipelineSampler's."""

    separable = timeable = True
    n_blackened = 0
    networks: tuple[nn.Module, ...] = ()  # nobody knows of a user's own
    encoders: tuple[nn.Module, ...] = ()

    def __init__(self, adapter: Adapter, settings: Pretrained, look: Look, device: torch.device) -> None:
        """Raises UserError for an adapter that does not say its evaluations."""
        self.adapter, self.settings, self.device = adapter, settings, device
        self.resolution, self.dtype = settings.resolution, settings.dtype
        self.sha, self.description = look
        nfe = getattr(adapter, "nfe", None)
        if type(nfe) is not int or nfe < 1:
            raise settings.wrong(f"module: its nfe must be a whole number of evaluations a picture, not {short(nfe)}")
        self.nfe: int = nfe
        self.params_m: float | None = getattr(adapter, "params_m", None)

    @torch.inference_mode()
    def encode(self, captions: list[str]) -> Any:
        with _told(self.settings):
            return self.adapter.encode(list(captions))

    @torch.inference_mode()
    def generate(self, condition: Any, seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1], fp32, on the device. Raises UserError for anything else, and where it fails."""
        with _told(self.settings):
            images = self.adapter.generate(condition, list(seeds))
        wanted = (len(seeds), 3, self.resolution, self.resolution)
        if not isinstance(images, Tensor) or images.shape != wanted or not images.is_floating_point():
            what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise self.settings.wrong(f"module: generate gave {what} instead of real numbers {wanted}")
        if images.nan_to_num(0, 0, 0).abs().max() > 2:  # clipped it would pass for a picture; NaN is counted later
            raise self.settings.wrong("module: generate gave numbers beyond 2: pictures are in [-1, 1]")
        return images.to(self.device).float()

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]"""
        return to_uint8(self.generate(self.encode(captions), seeds))


class Enlarged:
    """AuraSR behind finished pictures, as a Sampler; it reads no captions. Attributes as PipelineSampler's.

    Each picture goes through alone, because the network draws its noise from torch's own generator. It is read from the
    disk as it is drawn, so it is not timed.
    """

    separable = timeable = False
    nfe: int | None = None  # one a tile, which depends on the pictures' size
    n_blackened = 0
    networks: tuple[nn.Module, ...] = ()
    encoders: tuple[nn.Module, ...] = ()
    dtype = "fp32"

    def __init__(self, network: Any, small: FinishedPictures, look: Look, settings: Pretrained) -> None:
        """Raises UserError where the pictures come to another size than is configured."""
        self.network, self.small, self.device = network, small, small.device
        self.resolution = ENLARGES * small.resolution
        if settings.resolution not in (0, self.resolution):
            raise settings.wrong(
                f"resolution: {small.resolution} px come to {self.resolution}, not {settings.resolution}"
            )
        self.sha, self.description = look
        self.params_m = round(sum(p.numel() for p in network.upsampler.parameters()) / 1e6, 6)
        self._overlapped = bool(settings.options.get("overlapped"))

    def encode(self, captions: list[str]) -> list[str]:
        return list(captions)

    def generate(self, condition: list[str], seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1], on the device"""
        return to_tensor(self(condition, seeds), self.device)

    @torch.inference_mode()
    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]"""
        enlarge = self.network.upscale_4x_overlapped if self._overlapped else self.network.upscale_4x
        large = []
        for picture, seed in zip(self.small(captions, seeds), seeds, strict=True):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                large.append(np.asarray(enlarge(Image.fromarray(picture))))
        return np.stack(large)


# ------------------------------------------------------------------------------------------------- a user's own file


def look_module(settings: Pretrained, models: Path) -> Look:
    """What would be loaded; the file is not run.

    Raises UserError for what lacks, files that are not the expected ones, and pickles that nobody allowed.
    """
    folder = folders.below(models, settings.folder, "the model's files")
    file, name = _module(settings, models)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else [folder]
    if (pickled := [path for path in files if path.suffix in folders.PICKLED]) and not settings.allow_pickle:
        raise UserError(
            f"{pickled[0]}: is pickled, and what reads it is {file.name}'s own affair: say allow_pickle: true if it "
            "reads tensors alone (gigagan.clip.read_weights does)"
        )
    sha = folders.digest(files, models, sha256(file))
    settings.check_files(sha)
    return Look(sha, f"{name} of {file.name}, {settings.resolution} px, {settings.dtype}")


def load_module(settings: Pretrained, models: Path, device: torch.device) -> Adapted:
    """A user's adapter. Raises UserError as ``look_module``, and where the file fails, saying at which line."""
    look = look_module(settings, models)
    file, name = _module(settings, models)
    spec = importlib.util.spec_from_file_location(f"adapter_{file.stem}", file)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _told(settings):
        spec.loader.exec_module(module)
    kind = getattr(module, name, None)
    lacking = [method for method in ("load", "encode", "generate") if not callable(getattr(kind, method, None))]
    if lacking:
        raise settings.wrong(f"module: {file} has no {name if kind is None else f'{name}.{lacking[0]}'}")
    with _told(settings):
        adapter = kind.load(models / settings.folder, settings, device)
    return Adapted(adapter, settings, look, device)


def _module(settings: Pretrained, models: Path) -> tuple[Path, str]:
    place, _, name = settings.module.rpartition(":")
    file = Path(place)
    if file.suffix != ".py" or not name.isidentifier():
        raise settings.wrong(f"module: must be path/to/file.py:Name, not {settings.module!r}")
    if not file.is_file():
        raise settings.wrong(
            f"module: there is no file {file}: it is your own adapter (evaluation/rivals/pretrained/adapters.py)"
        )
    if file.resolve().is_relative_to(models.resolve()):
        raise settings.wrong(f"module: {file} lies in the folder of models: what comes with a checkpoint is not run")
    return file, name


@contextmanager
def _told(settings: Pretrained) -> Iterator[None]:
    """Say where a user's file failed, in one line; running out of memory is its caller's affair."""
    try:
        yield
    except Exception as e:
        if is_out_of_memory(e):
            raise
        at = traceback.extract_tb(e.__traceback__)[-1]
        raise settings.wrong(f"{at.filename}:{at.lineno}: {type(e).__name__}: {e}") from None


# ------------------------------------------------------------------------------------------------------------- AuraSR


def look_aura_sr(settings: Pretrained, models: Path) -> Look:
    """Raises UserError where its weights or its pictures lack."""
    small = FinishedPictures(settings, models, settings.images, torch.device("cpu"))
    return _look_aura_sr(settings, models, small)


def _look_aura_sr(settings: Pretrained, models: Path, small: FinishedPictures) -> Look:
    folder = folders.below(models, settings.folder, "AuraSR's model.safetensors and config.json")
    if unknown := sorted(settings.options.keys() - {"overlapped"}):
        raise settings.wrong(f"options: AuraSR takes overlapped, not {unknown[0]!r}")
    files = [folder / "config.json", folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            raise settings.wrong(f"{path} is not there: put AuraSR's {path.name} there")
    sha = folders.digest(files, models, small.sha)
    settings.check_files(sha)
    sizes = f"{small.resolution} to {ENLARGES * small.resolution} px"
    return Look(sha, f"AuraSR from {sizes}: its pictures are read from the disk as it goes, so it is not timed")


def load_aura_sr(settings: Pretrained, models: Path, device: torch.device) -> Enlarged:
    """AuraSR. Raises UserError as ``look_aura_sr``, where its package is not installed, and for other weights."""
    small = FinishedPictures(settings, models, settings.images, device)
    look = _look_aura_sr(settings, models, small)
    try:
        from aura_sr import AuraSR
    except ImportError as e:
        raise settings.wrong(f"needs a package that is not installed ({e.name}): pip install aura-sr") from None
    folder = models / settings.folder
    # Not its from_pretrained, which takes a folder for a name on a hub, and every device for a GPU.
    try:
        network = AuraSR(folders.read_json(folder / "config.json"), device=str(device))
        network.upsampler.load_state_dict(read_weights(folder / "model.safetensors"))
    except (RuntimeError, TypeError, KeyError) as e:
        raise settings.wrong(
            f"{folder}: is no AuraSR that this package knows: {' '.join(str(e).split()):.160}"
        ) from None
    network.upsampler.eval().requires_grad_(False)
    return Enlarged(network, small, look, settings)
