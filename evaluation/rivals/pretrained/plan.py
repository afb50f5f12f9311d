"""What would be loaded and how it would run, found without loading any weights."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from evaluation.rivals.pretrained import folder as folders
from evaluation.rivals.pretrained.settings import Pretrained
from gigagan.errors import UserError, nearest

CHECKER = "safety_checker"
WITH_CHECKER = (CHECKER, "feature_extractor", "image_encoder")
"""Parts that a text-to-image pipeline does without where its safety checker is off."""
CONFIG = "scheduler_config.json"


class Plan(NamedTuple):
    """A pipeline as it would be loaded.

    Attributes:
        folder: with its configuration.
        pipeline: its class.
        denoiser: name and class name of the part that is evaluated at each step.
        scheduler: made as configured.
        files: all that is loaded.
        sha: their digest.
        description: for logs: class, scheduler, steps, guidance, size, dtype, safety checker.
    """

    folder: Path
    pipeline: Any
    denoiser: tuple[str, str]
    scheduler: Any
    files: list[Path]
    sha: str
    description: str


@functools.cache
def library() -> ModuleType:
    """diffusers, kept from the network and from reporting home. Raises UserError where it is not installed."""
    # Both libraries read these when they are imported, and one of them may have been imported before.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    try:
        import diffusers
        import transformers
        from huggingface_hub import constants
    except ImportError as e:
        raise UserError(f"pretrained pipelines need {e.name}: pip install 'gigagan-bench[pretrained]'") from None
    constants.HF_HUB_OFFLINE = constants.HF_HUB_DISABLE_TELEMETRY = True
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    return diffusers


def look(settings: Pretrained, models: Path) -> Plan:
    """What ``settings`` come to with the files that are there.

    Raises UserError for a folder that is not there, is no pipeline's, lacks a part, has pickled weights only, is not
    what ``sha256`` says; a class, scheduler, option or argument that is not known; a scheduler that does not take the
    steps.
    """
    folder = folders.model_folder(models, settings.folder)
    index = folders.read_index(folder)
    pipeline = getattr(library(), index["_class_name"], None)
    if not isinstance(pipeline, type) or not hasattr(pipeline, "from_pretrained"):
        raise UserError(f"{folder / folders.INDEX}: diffusers has no pipeline {index['_class_name']!r}")
    found = folders.parts(index)
    denoiser = next((name for name in ("unet", "transformer") if name in found), None)
    if denoiser is None:
        raise settings.wrong(f"{index['_class_name']} has neither a unet nor a transformer: it cannot be counted here")
    if settings.safety_checker and CHECKER not in found:
        raise settings.wrong(f"safety_checker: {folder} has none")
    _check_call(settings, pipeline)
    files = _files(settings, models, folder, found, denoiser)
    sha = folders.digest(files, models)
    settings.check_files(sha)
    scheduler = _scheduler(settings, folder, found, pipeline)
    return Plan(
        folder,
        pipeline,
        (denoiser, found[denoiser][1]),
        scheduler,
        files,
        sha,
        describe(settings, pipeline, scheduler),
    )


def in_use(settings: Pretrained, found: dict[str, tuple[str, str]]) -> list[str]:
    """The parts that are loaded."""
    return [name for name in found if settings.safety_checker or name not in WITH_CHECKER]


def arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's arguments with their defaults."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}


def _files(
    settings: Pretrained, models: Path, folder: Path, found: dict[str, tuple[str, str]], denoiser: str
) -> list[Path]:
    files = [folder / folders.INDEX]
    single = settings.adapter == "single_file"
    for part in in_use(settings, found):
        weights = not single and not (part == denoiser and settings.denoiser)
        files += folders.files_of(folder, part, settings.variant, settings.allow_pickle, weights)
    if single:
        path = folders.below(models, settings.file, "the file of weights")
        files.append(folders.weights_file(path, settings.allow_pickle))
    if settings.denoiser:
        path = folders.below(models, settings.denoiser, f"the {denoiser} (a file of weights, or its folder)")
        if path.is_dir() and (path / "config.json").is_file():
            files += folders.files_of(path, "", settings.variant, settings.allow_pickle)
        else:
            files.append(folders.weights_file(path, settings.allow_pickle))
    if settings.lora:
        path = folders.below(models, settings.lora, "the LoRA (a file of weights, or a folder with one)")
        files.append(folders.weights_file(path, settings.allow_pickle))
    return files


def _check_call(settings: Pretrained, pipeline: Any) -> None:
    """Raises UserError for arguments that the pipeline's call does not take."""
    takes = arguments(pipeline.__call__)
    for name in settings.call:
        if name not in takes:
            raise settings.wrong(f"call: {pipeline.__name__} takes no {name!r}{nearest(name, takes)}")
    needs = {"guidance_scale": True, "height": True, "timesteps": settings.timesteps}
    needs |= {"negative_prompt": settings.negative_prompt is not None}
    if lacking := [name for name, needed in needs.items() if needed and name not in takes]:
        raise settings.wrong(f"{pipeline.__name__} takes no {lacking[0]}: it cannot be asked for what is configured")


def _scheduler(settings: Pretrained, folder: Path, found: dict[str, tuple[str, str]], pipeline: Any) -> Any:
    """The scheduler, set to its steps. Raises UserError where it is not known, or does not take them or an option."""
    known = [name for name in dir(library().schedulers) if name.endswith("Scheduler") and not name.startswith("Flax")]
    name = settings.scheduler or found["scheduler"][1]
    if name not in known:
        raise settings.wrong(f"scheduler: diffusers has no {name!r}{nearest(name, known)}")
    kind = getattr(library(), name)
    options = arguments(kind.__init__)
    for option in settings.scheduler_options:
        if option not in options:
            raise settings.wrong(f"scheduler_options: {name} has no {option!r}{nearest(option, options)}")
    try:
        scheduler = kind.from_config(folders.read_json(folder / "scheduler" / CONFIG), **settings.scheduler_options)
    except (ValueError, TypeError, NotImplementedError, ImportError) as e:
        raise settings.wrong(f"scheduler: {name} cannot be made: {' '.join(str(e).split())}") from None
    takes = arguments(scheduler.set_timesteps)
    if settings.timesteps and "timesteps" not in takes:
        raise settings.wrong(
            f"timesteps: {name} takes a number of steps alone; LCMScheduler, EulerDiscreteScheduler and "
            "DPMSolverMultistepScheduler take a list"
        )
    last = scheduler.config.get("num_train_timesteps", 1000) - 1
    if settings.timesteps and settings.timesteps[0] > last:
        raise settings.wrong(f"timesteps: {name} knows 0 to {last}, not {settings.timesteps[0]:g}")
    return scheduler


def describe(settings: Pretrained, pipeline: Any, scheduler: Any) -> str:
    """The line for logs, with the timesteps that the scheduler really takes; ``pipeline``: the class.

    Raises UserError where the scheduler does not take the steps, or the pipeline has changed an option of it.
    """
    for option, value in settings.scheduler_options.items():
        if scheduler.config.get(option) != value:
            changed = f"{pipeline.__name__} makes {option} {scheduler.config.get(option)!r}, whatever is said"
            raise settings.wrong(f"scheduler_options: {changed}")
    n, shown = len(settings.timesteps) or settings.steps, ""
    if not scheduler.config.get("use_dynamic_shifting"):  # which depends on what the pipeline finds out as it runs
        at = [f"{float(t):.4g}" for t in _rehearsed(settings, pipeline, scheduler)]
        shown = f" at {' '.join(at)}" if len(at) <= 10 else f" from {at[0]} to {at[-1]}"
    others = (("denoiser", settings.denoiser), ("LoRA", settings.lora))
    return ", ".join(
        [
            pipeline.__name__,
            *(f"{what} {value}" for what, value in others if value),
            type(scheduler).__name__,
            f"{n} step{'s' if n > 1 else ''}{shown}",
            f"guidance {settings.guidance:g}",
            f"{settings.resolution} px",
            settings.dtype,
            f"safety checker {'on' if settings.safety_checker else 'off'}",
            *(() if settings.separable else ("captions encoded within each call: the generator alone is not timed",)),
        ]
    )


def _rehearsed(settings: Pretrained, pipeline: Any, scheduler: Any) -> Any:
    """The timesteps that the pipeline's call would set. Raises UserError where the scheduler does not take them."""
    own = ("sigmas", "device", "num_inference_steps", "timesteps")
    takes = arguments(scheduler.set_timesteps).keys() - own
    asked = {n: v for n, v in (arguments(pipeline.__call__) | settings.call).items() if n in takes}
    try:
        scheduler.set_timesteps(**asked, **steps_of(settings))
    except (ValueError, TypeError, IndexError, AssertionError) as e:
        raise settings.wrong(f"{type(scheduler).__name__} does not take these steps: {e}") from None
    return scheduler.timesteps


def steps_of(settings: Pretrained) -> dict[str, Any]:
    """The steps as a pipeline's call, and a scheduler, take them."""
    if settings.timesteps:
        return {"timesteps": [int(t) if t == int(t) else t for t in settings.timesteps]}
    return {"num_inference_steps": settings.steps}
