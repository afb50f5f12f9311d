"""A few drawn pictures in COCO's format and as shards, and networks with random weights: to try a workflow out on.

    python -m evaluation.fixture --out FOLDER

    FOLDER/val2014/, annotations/captions_val2014.json      64 pictures, of two captions each
    FOLDER/train2014/, annotations/captions_train2014.json  32 others; the same in shards/train-00000.tar
    FOLDER/weights/conditioner/, weights/judge/             two CLIPs that have learned nothing
    FOLDER/models/tiny-sd/, models/tiny-pictures/           a Stable Diffusion that has learned nothing, and finished
                                                            pictures with captions (with the extra ``pretrained``)

The same command makes the same files. No score on them says anything of a model.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evaluation.rivals.pretrained.plan import library
from gigagan.clip import Clip
from gigagan.config import DataConfig
from gigagan.data import open_dataset
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_json, write_text
from gigagan.pretrain_clip import ARCHITECTURES, PREPROCESS, save

SIDE, EDGE = 48, 8  # px; pictures are in turn wider and higher by the edges: photographs are of several sizes, too
PICTURES = {"val": 64, "train": 32}


def pictures(split: str) -> list[tuple[bytes, list[str]]]:
    """JPEG files with two captions each."""
    dataset = open_dataset(DataConfig(name="scenes", resolution=SIDE), "test" if split == "val" else "train")
    found = []
    for k in range(PICTURES[split]):
        item = dataset[k]
        edges = [(0, 0), (EDGE, EDGE)] if k % 2 else [(EDGE, EDGE), (0, 0)]
        jpeg = io.BytesIO()
        Image.fromarray(np.pad(item.image, [*edges, (0, 0)], mode="edge")).save(jpeg, "JPEG", quality=95)
        found.append((jpeg.getvalue(), [item.caption, f"a drawing of {item.caption}"]))
    return found


def write_coco(folder: Path, split: str, shown: list[tuple[bytes, list[str]]]) -> None:
    """COCO's layout: a folder of images, and its annotations. Ids have gaps, as COCO's do."""
    name = f"{split}2014"
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for k, (jpeg, captions) in enumerate(shown):
        file = f"COCO_{name}_{7 * k + 9:012d}.jpg"
        (folder / name / file).write_bytes(jpeg)
        images.append({"id": 7 * k + 9, "file_name": file})
        annotations += [{"id": 2 * k + i, "image_id": 7 * k + 9, "caption": c} for i, c in enumerate(captions)]
    write_json(folder / "annotations" / f"captions_{name}.json", {"images": images, "annotations": annotations})


def write_shard(path: Path, shown: list[tuple[bytes, list[str]]]) -> None:
    """One webdataset shard, with each picture's first caption."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for k, (jpeg, captions) in enumerate(shown):
            for suffix, data in (("jpg", jpeg), ("txt", captions[0].encode())):
                member = tarfile.TarInfo(f"{k:05d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def write_clip(folder: Path, arch: str, seed: int) -> None:
    """A small CLIP with the weights that training would begin with."""
    torch.manual_seed(seed)
    clip = Clip(ARCHITECTURES[arch], PREPROCESS)
    for name, parameter in clip.model.named_parameters():
        if name.endswith("bn3.weight"):  # open_clip starts the branches of a ResNet at zero: they would say nothing
            torch.nn.init.ones_(parameter)
    save(clip, ARCHITECTURES[arch], folder)


def write_finished(folder: Path) -> None:
    """A picture for each caption that prompts may be drawn from, as a model would leave them."""
    folder.mkdir(parents=True)
    lines = []
    for jpeg, captions in pictures("val"):
        for caption in captions:
            image = Image.open(io.BytesIO(jpeg)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            image.save(folder / f"{len(lines)}.png")
            lines.append(caption)
    write_text(folder / "captions.txt", "".join(f"{line}\n" for line in lines))


def write_models(folder: Path) -> None:
    """Raises UserError where the extra ``pretrained`` is not installed."""
    library()
    from evaluation.rivals.pretrained import tiny

    with torch.random.fork_rng():
        tiny.sd(folder / "tiny-sd")
    write_finished(folder / "tiny-pictures")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.fixture", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    args = parser.parse_args()
    if args.out.exists() and any(args.out.iterdir()):
        raise UserError(f"--out {args.out}: is not empty: give a new folder")
    check_writable(args.out)
    shown = {split: pictures(split) for split in PICTURES}
    for split, found in shown.items():
        write_coco(args.out, split, found)
    (args.out / "shards").mkdir(parents=True)
    write_shard(args.out / "shards" / "train-00000.tar", shown["train"])
    write_shard(args.out / "shards" / "test-00000.tar", shown["val"])
    for seed, arch in enumerate(("conditioner", "judge"), 1):
        write_clip(args.out / "weights" / arch, arch, seed)
    write_models(args.out / "models")
    print(json.dumps({split: len(found) for split, found in shown.items()}))


if __name__ == "__main__":
    command(main)
