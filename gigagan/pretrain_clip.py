"""Train a small CLIP on any captioned data set: ``python -m gigagan.pretrain_clip --data scenes --arch judge ...``.

The two architectures differ on purpose: the conditioner guides the generator, the judge only scores it, and a picture
that fools the one should not fool the other. The result is a folder for ``local-dir:``, open_clip's and ours.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gigagan import tensor_file
from gigagan.clip import CONFIG_FILE, LOCAL_DIR, WEIGHTS_FILE, Clip
from gigagan.config import DataConfig
from gigagan.data import DATASETS, Dataset, open_dataset
from gigagan.data.scenes import COLORS, POSITIONS, WIDTHS, Object, Scenes, Statement, render
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_json, write_text
from gigagan.options import DEVICE_HELP, above_0, device, natural, positive, whole
from gigagan.pixels import to_tensor
from gigagan.progress import Progress

ARCHITECTURES: dict[str, dict] = {
    # Few, large patches: its gradient with respect to 32 images costs less than 40 ms on one CPU core.
    "conditioner": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 112, "head_width": 28, "layers": 4},
        "text_cfg": {"context_length": 28, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
    },
    # A convolutional network.
    "judge": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {"context_length": 28, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
}
"""open_clip's ``model_cfg`` of both; its vocabulary takes most of a file (6.3 MB in fp16 at width 64)."""

PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
MAX_LOGIT_SCALE = 100.0  # CLIP (Radford et al. 2021), Sec. 2.5


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
    """Symmetric InfoNCE in which all captions that mean the same are positives.

    Args:
        images, texts: ``[B, E]`` of unit norm.
        scale: the inverse temperature.
        keys: int64 ``[B]``, equal where two captions mean the same.
    """
    same = (keys[:, None] == keys).to(images)
    targets = same / same.sum(1, keepdim=True)
    logits = scale * images @ texts.T
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, shade and noise ``[B, 3, H, W]`` in [-1, 1], each image by its own amounts, half of them not at all.

    A generator's early pictures are blurred and speckled; a CLIP that knows only clean ones is easily fooled by them,
    and gives gradients full of high frequencies.
    """
    b, _, h, w = images.shape

    def amount(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, 1, 1, 1, generator=generator)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    shaded = images.lerp(blurred, amount(0, 1)) * amount(0.85, 1.05) + amount(-0.1, 0.1)
    fine = torch.randn(images.shape, generator=generator)
    coarse = F.interpolate(torch.randn(b, 3, h // 4, w // 4, generator=generator), (h, w), mode="bilinear")
    noisy = shaded + amount(0, 0.25) * fine + amount(0, 0.25) * coarse
    return torch.where(amount(0, 1) < 0.5, images, noisy.clamp(-1, 1))


def batches(
    datasets: list[Dataset], n_images: int, size: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches of images ``[size, 3, H, W]`` in [-1, 1] and captions, ``n_images`` in all, mirrored at random where the
    captions allow it; the data sets (one per resolution) take turns."""
    order = [_indices(len(dataset), rng) for dataset in datasets]
    for step in range(n_images // size):
        turn = step % len(datasets)
        items = [datasets[turn][i] for i in itertools.islice(order[turn], size)]
        mirror = rng.random(size) < 0.5
        pictures = [
            item.image[:, ::-1] if mirrored and datasets[turn].flippable(item.caption) else item.image
            for item, mirrored in zip(items, mirror, strict=True)
        ]
        yield to_tensor(np.stack(pictures)), [item.caption for item in items]


def _indices(n: int, rng: np.random.Generator) -> Iterator[int]:
    """Indices without end: epoch after epoch of a data set that can be listed, any at all of an endless one."""
    while True:
        yield from (rng.integers(n, size=4096) if n > 2**24 else rng.permutation(n)).tolist()


def train(clip: Clip, datasets: list[Dataset], n_images: int, batch: int, lr: float, seed: int) -> None:
    """Train ``clip`` in place on ``n_images``, with AdamW and a cosine schedule after a warm-up of a twentieth."""
    model = clip.model.train()  # the Clip around it stays in evaluation mode
    # Decay only matrices that every batch uses: it would shrink the rows of words that are seen rarely, or never.
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    n_steps = n_images // batch
    warm_up = max(1, n_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * min(1.0, s / n_steps)))
    )
    noise = torch.Generator().manual_seed(seed)
    progress = Progress(n_steps * batch)
    average = 0.0
    for step, (images, captions) in enumerate(batches(datasets, n_images, batch, np.random.default_rng(seed)), 1):
        _, keys = np.unique([datasets[0].meaning(caption) for caption in captions], return_inverse=True)
        pictures = clip.preprocess(augment(images, noise).to(clip.scale))
        texts = model.encode_text(clip.tokenize(captions), normalize=True)
        seen = model.encode_image(pictures, normalize=True)
        loss = contrastive_loss(seen, texts, model.logit_scale.exp(), torch.from_numpy(keys).to(seen.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        if not math.isfinite(value := loss.item()):
            raise UserError(f"the loss is {value} after {step * batch} images; choose an --lr below {lr}")
        average += (value - average) * max(0.02, 1 / step)
        progress.update(step * batch, loss=average)
    model.eval()


@torch.no_grad()
def retrieval(clip: Clip, dataset: Dataset, n_images: int = 1000, n_choices: int = 100) -> tuple[float, int]:
    """The share of images for which ``clip`` picks the right one of ``n_choices`` captions that mean different things,
    and how many choices there were (fewer in a data set that says fewer things)."""
    items = [dataset[i] for i in range(min(n_images, len(dataset)))]
    captions: dict[str, str] = {}
    for item in items:
        captions.setdefault(dataset.meaning(item.caption), item.caption)
    column = {key: j for j, key in enumerate(captions)}
    own = torch.tensor([column[dataset.meaning(item.caption)] for item in items])
    images = _embed_images(clip, np.stack([item.image for item in items]))
    similarity = (images @ _embed_texts(clip, list(captions.values())).T).cpu()
    n_choices = min(n_choices, len(captions))
    # Random others: the own caption always takes part, the n - 1 that draw the lowest lots join it.
    lots = torch.rand(similarity.shape, generator=torch.Generator().manual_seed(0)).scatter_(1, own[:, None], -1)
    rivals = lots.argsort(1)[:, :n_choices]
    return (similarity.gather(1, rivals).argmax(1) == 0).float().mean().item(), n_choices


@torch.no_grad()
def attributes(clip: Clip, dataset: Scenes, n_images: int = 500) -> dict[str, float]:
    """For pictures of one object, the share in which the right word of a caption beats every other one in its place."""
    right: dict[str, list[bool]] = {}
    for i in range(n_images):
        scene = dataset.scene(i)
        thing = scene.objects[0]
        truth = Statement(scene.background, (thing,))

        def said(truth: Statement = truth, thing: Object = thing, **words: str) -> Statement:
            return replace(truth, objects=(replace(thing, **words),))

        others = {
            "background colour": [replace(truth, background=c) for c in COLORS if c != thing.color],
            "object colour": [said(color=c) for c in COLORS if c != scene.background],
            "shape": [said(shape=s) for s in WIDTHS],
            "size": [said(size=s) for s in ("small", "big")],
            "position": [said(position=p) for p in POSITIONS] if thing.position else [],
        }
        image = _embed_images(clip, render(scene, dataset.resolution)[None])
        for name, statements in others.items():
            if statements:
                scores = image @ _embed_texts(clip, [f"{s.body} on {s.background}" for s in statements]).T
                right.setdefault(name, []).append(statements[int(scores.argmax())] == truth)
    return {name: float(np.mean(values)) for name, values in right.items()}


def _embed_images(clip: Clip, pictures: np.ndarray) -> Tensor:
    parts = [to_tensor(pictures[i : i + 256], clip.scale.device) for i in range(0, len(pictures), 256)]
    return torch.cat([clip.embed_image(part) for part in parts])


def _embed_texts(clip: Clip, captions: list[str]) -> Tensor:
    return torch.cat([clip.embed_text(clip.tokenize(captions[i : i + 256])) for i in range(0, len(captions), 256)])


def held_out(clip: Clip, config: DataConfig, resolutions: list[int]) -> dict[str, list[float]]:
    """Accuracies on the test split, each a list with one value per resolution."""
    table: dict[str, list[float]] = {}
    for resolution in resolutions:
        dataset = open_dataset(replace(config, resolution=resolution), "test")
        cases = {"": dataset}
        if isinstance(dataset, Scenes):
            single, pair = (Scenes(resolution, objects, "test") for objects in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
            cases = {", one object": single, ", two objects": pair}
            for name, accuracy in attributes(clip, single).items():
                table.setdefault(f"{name}, one object", []).append(accuracy)
        for name, data in cases.items():
            accuracy, n_choices = retrieval(clip, data)
            table.setdefault(f"caption among {n_choices}{name}", []).append(accuracy)
    return table


def save(clip: Clip, config: dict, folder: Path) -> None:
    """Write ``clip`` as a folder that ``local-dir:`` loads, its weights in fp16."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in clip.model.state_dict().items()}
    tensor_file.write(folder / WEIGHTS_FILE, {k: v.cpu().numpy() for k, v in state.items()}, {})
    write_json(folder / CONFIG_FILE, {"model_cfg": config, "preprocess_cfg": PREPROCESS})


def readme(title: str, config: dict, resolutions: list[int], table: dict[str, list[float]], megabytes: float) -> str:
    """What a folder says of itself: the command that makes it again, and what it can do."""
    sizes = " | ".join(f"{r} px" for r in resolutions)
    rows = "\n".join(f"| {name} | {' | '.join(f'{100 * v:.1f} %' for v in row)} |" for name, row in table.items())
    vision = ", ".join(f"{k} {v}" for k, v in config["vision_cfg"].items())
    text = ", ".join(f"{k} {v}" for k, v in config["text_cfg"].items() if k != "vocab_size")
    return f"""# {title}

A small CLIP in open_clip's `local-dir:` layout, stored in fp16 ({megabytes:.1f} MB).
Image tower: {vision}. Text tower: {text}. Made by

    OMP_NUM_THREADS={torch.get_num_threads()} python -m gigagan.pretrain_clip {shlex.join(sys.argv[1:])}

How often it is right on the test split, weights as stored:

| what it chooses | {sizes} |
|---|{"---|" * len(resolutions)}
{rows}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gigagan.pretrain_clip", description=__doc__)
    parser.add_argument("--data", choices=sorted(DATASETS), required=True)
    parser.add_argument("--path", default="", help="the data set's folder (nothing for scenes)")
    parser.add_argument("--annotations", default="", help="coco: the file of captions, if not beside the images")
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), required=True)
    parser.add_argument("--resolution", type=whole(8), nargs="+", default=[16, 32], help="px; several take turns")
    parser.add_argument("--images", type=positive, default=120_000, help="how many to train on, repeats included")
    parser.add_argument("--batch", type=whole(2), default=128)
    parser.add_argument("--lr", type=above_0, default=2e-3)
    parser.add_argument("--seed", type=natural, default=1, help="of initial weights, order and augmentation")
    parser.add_argument("--device", type=device, default="auto", help=DEVICE_HELP)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    if args.images < args.batch:
        raise UserError(f"--images {args.images} must fill at least one --batch, of {args.batch}")
    check_writable(args.out)

    torch.manual_seed(args.seed)
    config = DataConfig(name=args.data, path=args.path, annotations=args.annotations)
    datasets = [open_dataset(replace(config, resolution=r), "train") for r in args.resolution]
    architecture = ARCHITECTURES[args.arch]
    clip = Clip(architecture, PREPROCESS).to(args.device)
    # open_clip starts the branches of a ResNet at zero, and so short a training hardly opens them.
    for name, parameter in clip.model.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)
    train(clip, datasets, args.images, args.batch, args.lr, args.seed)
    save(clip, architecture, args.out)

    stored = Clip.load(f"{LOCAL_DIR}{args.out}").to(args.device)
    table = held_out(stored, config, args.resolution)
    for name, row in table.items():
        print(f"{name}: {', '.join(f'{100 * v:.1f} % at {r} px' for v, r in zip(row, args.resolution, strict=True))}")
    size = (args.out / WEIGHTS_FILE).stat().st_size / 1e6
    write_text(args.out / "README.md", readme(f"{args.data} {args.arch}", architecture, args.resolution, table, size))


if __name__ == "__main__":
    command(main)
