"""A run: one model of any family, trained at one seed into one folder, from wherever it stopped."""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gigagan import provenance
from gigagan.clip import Clips
from gigagan.config import OWN, recipe_sha
from gigagan.data import open_dataset
from gigagan.data.item import Dataset, Item
from gigagan.errors import UserError
from gigagan.files import write_json
from gigagan.options import DEVICE_HELP, above_0, from_0, natural, positive
from gigagan.overrides import to_dict
from gigagan.png import write_grid
from gigagan.sampling import STYLE_MEAN, WEIGHTS
from gigagan.training import distributed
from gigagan.training.batches import Batches, Told
from gigagan.training.checkpoint import Checkpoints, save_tensors
from gigagan.training.ema import EMA
from gigagan.training.phases import Phase
from gigagan.training.trainer import Rhythm, Trainer

GRID = 8  # pictures along each side of the sample grid
# What a run writes that must not be taken for another's; its config goes last, as it says whose the rest is.
LEFT = ("run.json", "train.jsonl", "grid.png", WEIGHTS, STYLE_MEAN, "checkpoints", "snapshots", "config.json")


class Model(Protocol):
    """What a run asks of the model that it trains."""

    family: str
    clips: Clips
    classes: list[str]  # that it is conditioned on, if it is
    networks: dict[str, nn.Module]  # all that training changes; "generator" is averaged, kept and sampled

    shas: dict[str, str]  # hashes of the files of networks that train it, besides its CLIPs'
    before: dict[str, float]  # kimg, seconds and train_tflop that went into the weights it begins with, if any did
    effort: dict[str, int]  # that a picture takes: "steps" of sampling, and network evaluations ("nfe")

    def phases(self) -> list[Phase]: ...

    def told(self, dataset: Dataset) -> Told: ...

    def pictures(self, network: nn.Module, items: list[Item]) -> np.ndarray:
        """Of held-out captions, each with its index as seed: uint8 [N, R, R, 3]"""
        ...

    def extras(self, network: nn.Module, batches: Batches, seed: int) -> dict[str, dict[str, Tensor]]:
        """What is left beside the weights for whoever samples: tensors by the name of their file."""
        ...


def options(prog: str, about: str) -> argparse.ArgumentParser:
    """What every command that trains takes."""
    parser = argparse.ArgumentParser(prog=prog, description=about.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--tick", type=above_0, default=1, metavar="KIMG", help="thousands of images between log lines")
    parser.add_argument("--checkpoint", type=above_0, default=4, metavar="KIMG", help="... between checkpoints")
    parser.add_argument("--picture", type=from_0, default=4, metavar="KIMG", help="... between sample grids; 0 = none")
    parser.add_argument("--snapshots", type=positive, default=5, help="weights kept along the way, for learning curves")
    parser.add_argument("--replace", action="store_true", help="set a run of another recipe in the folder aside")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="over the defaults of the configuration")
    return parser


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from training into the folder. Raises UserError where one does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process trains into it: wait for it, or give another --out"
                ) from None
        yield
    finally:
        os.close(handle)


def claim(folder: Path, about: dict[str, Any], replace: bool, most: int) -> dict[str, Any]:
    """What the folder's config.json has to say of this run: ``about``, its provenance over all sittings.

    Raises UserError where the folder holds a run of another recipe or seed; with ``replace`` that one is moved into a
    hidden folder beside it instead, and so is one that has seen ``most`` images or more, which is no part of this run.
    """
    path = folder / "config.json"
    if not path.exists():
        return about
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in ("recipe_sha", "seed") if there[key] != about[key]]
        first, now = there["provenance"], about["provenance"]
        same = all(first[key] == now[key] for key in ("git_sha", "device", "torch"))
        dirty = bool(first["git_dirty"] or now["git_dirty"] or not same)
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: not a run's config ({e!r}); delete the folder to start anew") from None
    seen = max((int(file.stem) for file in (folder / "checkpoints").glob("[0-9]*.safetensors")), default=0)
    if not changed and not (replace and seen >= most):
        # What began on another commit or machine, or with changes in the tree, no single command makes again.
        return {**about, "provenance": {**first, "git_dirty": dirty}}
    if not replace:
        key = changed[0]
        what = key.removesuffix("_sha")
        raise UserError(
            f"{folder}: holds a run of another {what} ({there[key]}, this one is {about[key]}): "
            "give another --out, or delete the folder to start anew"
        )
    left = [name for name in LEFT if (folder / name).exists()]
    # The first place that holds none of it: a new one, or that of a move which was cut short.
    places = (folder.with_name(f".{folder.name}.{there['recipe_sha']}.{n}") for n in itertools.count())
    aside = next(place for place in places if not any((place / name).exists() for name in left))
    aside.mkdir(exist_ok=True)
    for name in left:
        (folder / name).rename(aside / name)
    return about


def train(
    make: Callable[[Dataset], Model], config: Any, args: argparse.Namespace, device: torch.device, leaving: ExitStack
) -> None:
    """Train a run to its end.

    Args:
        make: the model, from the data set that it learns from.
        config: any family's, with the sections data and train.
        leaving: holds what is to be let go of afterwards.
    """
    torch.set_num_threads(config.train.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # Table A2: TF32
    leader = distributed.rank() == 0
    if config.train.batch % distributed.world():
        raise UserError(f"train.batch={config.train.batch}: not a multiple of the {distributed.world()} processes")
    dataset = open_dataset(config.data, "train")
    held_out = open_dataset(config.data, "test")
    model = make(dataset)
    named = {"classes": ",".join(model.classes)} if model.classes else {}
    family = {} if model.family == OWN else {"family": model.family}
    recipe = recipe_sha(config, {**model.clips.shas, **named, **model.shas, **family, "data": dataset.fingerprint()})
    about = {
        "family": model.family,
        "recipe_sha": recipe,
        "seed": args.seed,
        "clip_sha": model.clips.text.sha if model.clips.text else "",
        "trained_by": sorted({clip.sha for clip in model.clips if clip} | set(model.shas.values())),
        "classes": model.classes,
        "config": to_dict(config),
        "provenance": provenance.collect(str(device), config.train.threads),
    }
    ema = EMA(model.networks["generator"], config.train)
    phases = model.phases()
    if leader:
        print(f"recipe {recipe}  seed {args.seed}  {dataset.describe()}", flush=True)
        leaving.enter_context(alone(args.out))
        about = claim(args.out, about, args.replace, round(config.train.kimg * 1000) + config.train.batch)
    distributed.wait()  # nobody may look for checkpoints before another recipe's are set aside

    checkpoints = Checkpoints(
        args.out / "checkpoints",
        {**model.networks, "ema": ema.network},
        {f"{phase.name}_optimizer": phase.optimizer for phase in phases if phase.name in model.networks},
        f"{recipe} seed {args.seed}",
    )

    def picture(path: Path) -> None:
        items = [held_out[i] for i in range(min(GRID * GRID, len(held_out)))]
        write_grid(path, model.pictures(ema.network, items), GRID)

    rhythm = Rhythm(
        tick=math.ceil(args.tick * 1000),
        checkpoint=math.ceil(args.checkpoint * 1000),
        snapshots=args.snapshots,
        picture=math.ceil(args.picture * 1000),
    )
    batches = Batches(dataset, model.told(dataset), config, args.seed, device)
    trainer = Trainer(phases, batches, ema, checkpoints, config.train, args.out, rhythm, picture, args.tensorboard)
    if leader:
        write_json(args.out / "config.json", about)
    seconds = trainer.run()
    if leader:
        header = {"images": trainer.images, "recipe": recipe}
        save_tensors(args.out / WEIGHTS, ema.network.state_dict(), header)
        for name, tensors in model.extras(ema.network, batches, args.seed).items():
            save_tensors(args.out / name, tensors, header)
        write_json(args.out / "run.json", summary(model, config, trainer, about, seconds, dataset))


def summary(
    model: Model, config: Any, trainer: Trainer, about: dict[str, Any], seconds: float, dataset: Dataset
) -> dict[str, object]:
    """run.json: what every record of this run repeats."""

    def millions(network: torch.nn.Module) -> float:
        return round(sum(p.numel() for p in network.parameters()) / 1e6, 6)

    before = {"kimg": 0.0, "seconds": 0.0, "train_tflop": 0.0} | model.before
    on_gpu, dtype = trainer.batches.device.type == "cuda", config.train.dtype
    critics = {"discriminator_params_m": millions(d)} if (d := model.networks.get("discriminator")) else {}
    return {
        "family": model.family,
        "recipe_sha": about["recipe_sha"],
        "kimg": before["kimg"] + trainer.images / 1000,
        "seconds": round(before["seconds"] + seconds, 2),
        "train_tflop": round(before["train_tflop"] + trainer.flops / 1e12, 6),
        "dtype": "tf32" if on_gpu and dtype == "fp32" else dtype,
        **model.effort,
        "params_m": millions(model.networks["generator"]),
        **critics,
        "non_finite_steps": trainer.non_finite,
        "captions_cut": trainer.batches.captions_cut,
        "data": dataset.describe(),
        **about["provenance"],
    }
