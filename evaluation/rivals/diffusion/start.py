"""The run that another starts from: its network, and what may be made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from evaluation.rivals import config as families
from evaluation.rivals.diffusion.config import METHODS, Config
from evaluation.rivals.diffusion.network import Denoiser, generator_of
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.files import sha256
from gigagan.overrides import paths, written
from gigagan.sampling import WEIGHTS, fill, read_about

# Of which objectives' runs the networks of an objective can be made.
FROM = {
    "guidance": ("data",),
    "halving": ("guidance", "halving"),
    "consistency": ("data",),
    "none": tuple(METHODS),
}
SPENT = ("kimg", "seconds", "train_tflop")


class Start(NamedTuple):
    network: Denoiser
    sha: str  # of the file of its weights
    spent: dict[str, float]  # what these took, all before them included


def read_start(config: Config, clip: Clip, folder: Path | None) -> Start | None:
    """The averaged network of the run in ``folder``, on the CPU; none for objective data.

    Raises UserError where a folder is missing or one too many, where it holds no finished run of this family, and where
    that run's network is not what this objective is made of: of another objective, number of steps, size, or CLIP.
    """
    objective = config.diffusion.objective
    if objective == "data":
        if folder is not None:
            raise UserError(f"{folder}: diffusion.objective=data starts from nothing: leave the run to start from out")
        return None
    if folder is None:
        raise UserError(
            f"diffusion.objective={objective}: starts from a run of objective {' or '.join(FROM[objective])}: give its "
            "folder with --start"
        )
    about = read_about(folder, families.kind)
    if about["family"] != "diffusion":
        raise UserError(f"{folder}: a run of family {about['family']}: a diffusion model starts from one of its own")
    _check(config, about["config"], folder)
    if about.get("clip_sha") != clip.sha:
        raise UserError(f"{folder}: trained with another CLIP than text.clip={config.text.clip} is now")
    network = generator_of(config, clip)
    fill(network, folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        spent = {name: float(run[name]) for name in SPENT}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{folder}/run.json: missing or damaged ({e!r}): train that run to its end first") from None
    return Start(network, sha256(folder / WEIGHTS), spent)


def _check(config: Config, of: Config, folder: Path) -> None:
    objective, there = config.diffusion.objective, of.diffusion.objective
    if there not in FROM[objective]:
        raise UserError(
            f"{folder}: a run of diffusion.objective={there}: {objective} starts from one of "
            f"{' or '.join(FROM[objective])}"
        )
    if objective == "none" and METHODS[there] != config.method:
        raise UserError(f"sampling.method={config.method}: what {folder} trained draws by {METHODS[there]}: say so")
    if objective == there == "halving" and of.sampling.steps != 2 * config.sampling.steps:
        raise UserError(
            f"sampling.steps={config.sampling.steps}: {folder} has {of.sampling.steps}, and is to have twice as many"
        )
    same = ["data.resolution", "diffusion.train_steps", *(path for path in paths(Config) if path.startswith("unet."))]
    if there != "data":  # a student knows only what it was trained for
        same += ["distillation.guidance_min", "distillation.guidance_max"]
    if there == "consistency":
        same += ["distillation.timestep_scaling", "distillation.sigma_data"]
    for path in same:
        section, name = path.split(".")
        ours, theirs = (written(getattr(getattr(part, section), name)) for part in (config, of))
        if ours != theirs:
            raise UserError(f"{path}={ours}: {folder}, which it starts from, has {theirs}: give the same")
