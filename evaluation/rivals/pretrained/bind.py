"""Make the run folder of a pretrained model: which it is and how it is drawn with, found by loading it once.

python -m evaluation.rivals.pretrained.bind --models models --settings ablations/pretrained.yaml --model sd_turbo_1 \\
    --device cuda --out runs/mine/sd_turbo_1/seed0

From then on it is a run as any other: evaluation.rivals.sample draws with it, evaluation.score and evaluation.speed
take it. The folder holds config.json, with the settings, the digest of the model's files and where the folder of models
is, and run.json, with what records repeat. Nothing was trained: seed 0 is that of sampling.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from evaluation.rivals.pretrained import samplers
from evaluation.rivals.pretrained.samplers import PretrainedSampler
from evaluation.rivals.pretrained.settings import FAMILY, Pretrained, pick
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_json
from gigagan.options import DEVICE_HELP, device, threads


class Bound(NamedTuple):
    """What a run folder is of: settings, with the digest that the files had, and the folder of models."""

    settings: Pretrained
    models: Path


def write(run: Path, settings: Pretrained, models: Path, on: torch.device, n_threads: int) -> PretrainedSampler:
    """A run folder of a pretrained model, which is loaded for it.

    Raises UserError as ``samplers.load``.
    """
    sampler = samplers.load(settings, models, on)
    said = replace(settings, sha256=sampler.sha).given()
    write_json(run / "config.json", {"family": FAMILY, "models": str(models), "settings": said})
    write_json(run / "run.json", samplers.about(sampler, settings, n_threads))
    return sampler


def read(run: Path) -> Bound | None:
    """What ``write`` has written; None for a folder of another family, or none, of which others tell.

    Raises UserError for settings that this version does not know.
    """
    path = run / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about.get("family") != FAMILY:
            return None
    except (OSError, ValueError, AttributeError):
        return None
    try:
        return Bound(Pretrained(**about["settings"]), Path(about["models"]))
    except (KeyError, TypeError) as e:
        raise UserError(f"{path}: is damaged, or of another version ({e}): bind the model again") from None


def load(bound: Bound, on: str | torch.device) -> PretrainedSampler:
    """Raises UserError as ``samplers.load``, also where the model's files are other ones than when it was bound."""
    return samplers.load(bound.settings, bound.models, torch.device(on))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.rivals.pretrained.bind", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="where the models' folders are")
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE.yaml", help="entries by name")
    parser.add_argument("--model", required=True, metavar="NAME", help="of the entry")
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the run, <name>/seed0")
    args = parser.parse_args()
    settings = pick(args.settings, args.model)
    check_writable(args.out)
    torch.set_num_threads(args.threads)
    print(f"{settings.name}: {write(args.out, settings, args.models, args.device, args.threads).description}")


if __name__ == "__main__":
    command(main)
