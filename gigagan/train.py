"""Train one variant at one seed; typed again, the same command goes on where it stopped.

python -m gigagan.train --out runs/mine --seed 0 data.name=scenes data.resolution=16 train.kimg=20
torchrun --nproc-per-node 8 -m gigagan.train --out ...
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gigagan import provenance
from gigagan.clip import Clip, Clips
from gigagan.config import Config, parse_overrides, recipe_sha, to_dict
from gigagan.data import open_dataset
from gigagan.data.item import Dataset, Item
from gigagan.errors import UserError, command
from gigagan.files import write_json, written_whole
from gigagan.latents import global_mean
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import initialise
from gigagan.networks.upsampler import Upsampler, generator_of
from gigagan.options import DEVICE_HELP, above_0, from_0, natural, positive
from gigagan.pixels import shrink, to_tensor, to_uint8
from gigagan.sampling import STYLE_MEAN, GeneratorSampler
from gigagan.training import distributed
from gigagan.training.batches import Batches, class_names
from gigagan.training.checkpoint import Checkpoints, save_tensors
from gigagan.training.ema import EMA
from gigagan.training.phases import GigaGAN
from gigagan.training.trainer import Rhythm, Trainer
from gigagan.upsample import Upsampling

MEAN_OVER = 1024  # training captions that the mean style is taken over
GRID = 8  # pictures along each side of the sample grid


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gigagan.train", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--tick", type=above_0, default=1, metavar="KIMG", help="thousands of images between log lines")
    parser.add_argument("--checkpoint", type=above_0, default=4, metavar="KIMG", help="... between checkpoints")
    parser.add_argument("--picture", type=from_0, default=4, metavar="KIMG", help="... between sample grids; 0 = none")
    parser.add_argument("--snapshots", type=positive, default=5, help="weights kept along the way, for learning curves")
    parser.add_argument("--untrained", action="store_true", help="only write the weights that training begins with")
    parser.add_argument("--replace", action="store_true", help="set a run of another recipe in the folder aside")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="over the defaults of gigagan/config.py")
    return parser.parse_intermixed_args()  # options may stand between overrides


def write_grid(path: Path, images: np.ndarray, columns: int) -> None:
    """uint8 [N, H, W, 3] as one PNG, small ones up to four times enlarged without smoothing; places left over are
    white."""
    n, h, w = images.shape[:3]
    zoom = max(1, min(4, 256 // h))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    images = np.concatenate([images, np.full((rows * columns - n, h, w, 3), 255, np.uint8)])
    sheet = images.reshape(rows, columns, h, w, 3).swapaxes(1, 2).reshape(rows * h, columns * w, 3)
    with written_whole(path) as temporary:
        Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1)).save(temporary)


# What a run writes that must not be taken for another's; its config goes last, as it says whose the rest is.
LEFT = ("run.json", "train.jsonl", "grid.png", "weights.safetensors", STYLE_MEAN, "checkpoints", "snapshots",
        "config.json")  # fmt: skip


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


def sampled(
    network: Generator | Upsampler, clip: Clip | None, classes: list[str], device: torch.device, items: list[Item]
) -> np.ndarray:
    """Pictures for held-out captions, each with its index as seed: uint8 [N, R, R, 3]."""
    captions, seeds = [item.caption for item in items], list(range(len(items)))
    if isinstance(network, Generator):
        return GeneratorSampler(network, clip, device, classes)(captions, seeds)
    small = shrink(to_tensor(torch.from_numpy(np.stack([item.image for item in items])), device), network.input)
    return Upsampling(network, clip, device, classes)(to_uint8(small), captions, seeds)


def style_mean(network: Generator | Upsampler, batches: Batches, seed: int) -> Tensor:
    """The global mean of w [w_dim], over training captions, for truncation (Appendix C.1)."""
    captions = [batches.order[k][1] for k in range(min(MEAN_OVER, len(batches.dataset)))]
    parts = (captions[k : k + 256] for k in range(0, len(captions), 256))
    return global_mean(network, (batches.conditions(part) for part in parts), seed)


def write_untrained(config: Config, args: argparse.Namespace, leaving: ExitStack) -> None:
    """A run folder with the weights that training begins with, of any size and without any data, to try it out.

    Raises UserError where the folder holds a run already.
    """
    if (args.out / "config.json").exists():
        raise UserError(f"{args.out}: holds a run already: give another --out")
    clip = Clip.load(config.text.clip) if config.condition.kind == "text" else None
    generator = generator_of(config, clip.text_width if clip else 0)
    initialise(generator, args.seed, "generator")
    about = {
        "recipe_sha": recipe_sha(config, {"clip": clip.sha if clip else ""}),
        "seed": args.seed,
        "clip_sha": clip.sha if clip else "",
        "trained_by": [],
        "classes": [],
        "config": to_dict(config),
        "provenance": provenance.collect("cpu", config.train.threads),
    }
    leaving.enter_context(alone(args.out))
    write_json(args.out / "config.json", about)
    save_tensors(args.out / "weights.safetensors", generator.state_dict(), {"images": 0})
    n = sum(p.numel() for p in generator.parameters()) / 1e6
    print(f"{args.out}: {n:.1f}M parameters, untrained, seed {args.seed}")


def train(config: Config, args: argparse.Namespace, device: torch.device, leaving: ExitStack) -> None:
    """Train a run to its end; ``leaving`` holds what is to be let go of afterwards."""
    torch.set_num_threads(config.train.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # Table A2: TF32
    leader = distributed.rank() == 0
    if config.train.batch % distributed.world():
        raise UserError(f"train.batch={config.train.batch}: not a multiple of the {distributed.world()} processes")
    dataset = open_dataset(config.data, "train")
    held_out = open_dataset(config.data, "test")
    clips = Clips.load(config, device)
    classes = class_names(dataset, config)
    named = {"classes": ",".join(classes)} if classes else {}
    model = GigaGAN(config, clips, args.seed, device)
    contents = {**clips.shas, **named, **model.shas, "data": dataset.fingerprint()}
    recipe = recipe_sha(config, contents)
    about = {
        "recipe_sha": recipe,
        "seed": args.seed,
        "clip_sha": clips.text.sha if clips.text else "",
        "trained_by": sorted({clip.sha for clip in clips if clip} | set(model.shas.values())),
        "classes": classes,
        "config": to_dict(config),
        "provenance": provenance.collect(str(device), config.train.threads),
    }
    ema = EMA(model.generator, config.train)
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
        write_grid(path, sampled(ema.network, clips.text, classes, device, items), GRID)

    rhythm = Rhythm(
        tick=math.ceil(args.tick * 1000),
        checkpoint=math.ceil(args.checkpoint * 1000),
        snapshots=args.snapshots,
        picture=math.ceil(args.picture * 1000),
    )
    batches = Batches(dataset, clips, config, args.seed, device)
    trainer = Trainer(phases, batches, ema, checkpoints, config.train, args.out, rhythm, picture, args.tensorboard)
    if leader:
        write_json(args.out / "config.json", about)
    seconds = trainer.run()
    if leader:
        header = {"images": trainer.images, "recipe": recipe}
        save_tensors(args.out / "weights.safetensors", ema.network.state_dict(), header)
        save_tensors(args.out / STYLE_MEAN, {"w": style_mean(ema.network, batches, args.seed)}, header)
        started = about["provenance"]
        write_json(args.out / "run.json", summary(model, trainer, recipe, seconds, started, dataset))


def summary(
    model: GigaGAN,
    trainer: Trainer,
    recipe: str,
    seconds: float,
    started: dict[str, object],
    dataset: Dataset,
) -> dict[str, object]:
    """run.json: what every record of this run repeats."""

    def millions(network: torch.nn.Module) -> float:
        return round(sum(p.numel() for p in network.parameters()) / 1e6, 6)

    on_gpu, dtype = model.device.type == "cuda", model.config.train.dtype
    return {
        "recipe_sha": recipe,
        "kimg": trainer.images / 1000,
        "seconds": round(seconds, 2),
        "dtype": "tf32" if on_gpu and dtype == "fp32" else dtype,
        "params_m": millions(model.generator),
        "discriminator_params_m": millions(model.discriminator),
        "non_finite_steps": trainer.non_finite,
        "captions_cut": trainer.batches.captions_cut,
        "data": dataset.describe(),
        **started,
    }


def main() -> None:
    args = arguments()
    config = parse_overrides(args.overrides)
    device = distributed.start(args.device)
    with ExitStack() as leaving:
        leaving.callback(distributed.stop)
        if args.untrained:
            return write_untrained(config, args, leaving)
        train(config, args, device, leaving)


if __name__ == "__main__":
    command(main)
