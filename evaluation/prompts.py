"""Prompts of photographs: a list of captions drawn from COCO's annotations, always the same, and the photographs.

    python -m evaluation.prompts draw --annotations captions_val2014.json --n 30000 --seed 0 --out prompts.jsonl
    python -m evaluation.prompts draw --list coco_30k.csv --out prompts.jsonl
    python -m evaluation.prompts photos --prompts prompts.jsonl --annotations captions_val2014.json --images val2014 \\
        --real real.zip --n-reference 30000 --reference reference.zip

The rule: ``n`` different images are drawn without replacement, by ``random.Random(seed)``, from those that have a
caption, and stand in the order of their ids; then the same generator draws one caption of each, from its captions in
the order of theirs. The lines of the list are ``{index, caption, seed, image_id, photo}``: gigagan.sample takes it as
--prompts, with the index as the seed of the noise.

``photos`` collects the photographs that the prompts describe, and others, drawn likewise, as the reference: as the
files they are, since cropping and resizing belong to the protocol.
"""

from __future__ import annotations

import argparse
import json
import random
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.caption_files import read_captions
from evaluation.image_sets import natural
from evaluation.protocols import captions_sha, list_of
from gigagan.data.captions import one_line
from gigagan.errors import UserError, command
from gigagan.files import read_jsonl, write_jsonl, written_whole
from gigagan.options import natural as not_negative
from gigagan.options import positive
from gigagan.progress import Progress

Prompt = dict[str, Any]


@dataclass(frozen=True)
class Photo:
    """An image of COCO's annotations: its id and file, and its captions in the order of their ids."""

    id: int
    file: str
    captions: tuple[str, ...]


def read_photos(path: Path) -> list[Photo]:
    """The images with a caption of a ``captions_*.json``, in the order of their ids.

    Raises UserError for a file that is missing or is none of those.
    """
    try:
        content = json.loads(path.read_bytes())
        found: dict[int, list[tuple[int, str]]] = {}
        for a in content["annotations"]:
            if caption := one_line(a["caption"]):
                found.setdefault(a["image_id"], []).append((a["id"], caption))
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        return [Photo(i, files[i], tuple(c for _, c in sorted(found[i]))) for i in sorted(found)]
    except OSError as e:
        raise UserError(f"--annotations {path}: {e.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError) as e:
        raise UserError(f"--annotations {path}: not COCO's captions ({type(e).__name__}: {e})") from None


def draw(photos: list[Photo], n: int, seed: int) -> list[Prompt]:
    """The list, by the rule above. Raises UserError where there are fewer images."""
    if n > len(photos):
        raise UserError(f"--n {n}: the annotations have captions of {len(photos):,} images: draw fewer")
    dice = random.Random(seed)
    chosen = sorted(dice.sample(photos, n), key=lambda photo: photo.id)
    return [
        _prompt(k, dice.choice(photo.captions), {"image_id": photo.id, "photo": photo.file})
        for k, photo in enumerate(chosen)
    ]


def given(captions: Iterable[str]) -> list[Prompt]:
    """A list of others as ours, in its own order."""
    return [_prompt(k, caption, {}) for k, caption in enumerate(captions)]


def _prompt(index: int, caption: str, more: dict[str, Any]) -> Prompt:
    return {"index": index, "caption": caption, "seed": index, **more}


def others(photos: list[Photo], prompts: list[Prompt], n: int, seed: int) -> list[Photo]:
    """``n`` photos that no prompt describes, drawn likewise. Raises UserError where there are fewer."""
    described = {prompt["image_id"] for prompt in prompts}
    left = [photo for photo in photos if photo.id not in described]
    if n > len(left):
        raise UserError(
            f"--n-reference {n}: {len(left):,} of the {len(photos):,} images of the annotations are left beside those "
            f"of the {len(prompts):,} prompts: take annotations of more images"
        )
    return sorted(random.Random(seed).sample(left, n), key=lambda photo: photo.id)


def describe(prompts: list[Prompt]) -> str:
    """One line: how many, their checksum, and which known list they are."""
    captions = [prompt["caption"] for prompt in prompts]
    known = list_of(captions)
    name = f"the known list {known.name}: {known.title}" if known else "no list of evaluation/protocols.yaml"
    return f"{len(captions):,} captions, sha256 {captions_sha(captions)}, {name}"


def collect(out: Path, folder: Path, files: list[str], captions: list[str] | None = None) -> None:
    """A zip of photographs, as the files they are, with a caption each where there are any.

    Raises UserError for a file that is not in the folder; nothing is written then.
    """
    progress = Progress(len(files))
    with written_whole(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for done, name in enumerate(sorted(files, key=natural), 1):
            try:
                archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
            except OSError as e:
                raise UserError(f"{folder / name}: {e.strerror}: the annotations name it") from None
            progress.update(done)
        if captions is not None:
            pairs = zip(files, captions, strict=True)
            lines = (json.dumps({"file": name, "caption": c}, ensure_ascii=False) + "\n" for name, c in pairs)
            archive.writestr(zipfile.ZipInfo("captions.jsonl"), "".join(lines))


def _read_prompts(path: Path) -> list[Prompt]:
    try:
        prompts = read_jsonl(path)
        if not all(isinstance(p["caption"], str) and isinstance(p["photo"], str) for p in prompts) or not prompts:
            raise ValueError("without photos")
        return prompts
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"--prompts {path}: no list that `draw --annotations` made ({type(e).__name__}: {e})") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.prompts", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="a list of captions")
    source = drawing.add_mutually_exclusive_group(required=True)
    source.add_argument("--annotations", type=Path, metavar="FILE", help="COCO's captions_*.json")
    source.add_argument("--list", type=Path, metavar="FILE", help="captions of others: .txt, .csv, .tsv or .jsonl")
    drawing.add_argument("--n", type=positive, help="how many; of a list, how many it must have")
    drawing.add_argument("--seed", type=not_negative, default=0)
    drawing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the list (.jsonl)")
    collecting = commands.add_parser("photos", help="the photographs of a list, and others as the reference")
    collecting.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="what `draw` wrote")
    collecting.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="those it was drawn from")
    collecting.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="the photographs")
    collecting.add_argument("--seed", type=not_negative, default=0)
    collecting.add_argument("--real", type=Path, required=True, metavar="FILE", help="those of the prompts (.zip)")
    collecting.add_argument("--n-reference", type=positive, required=True)
    collecting.add_argument("--reference", type=Path, required=True, metavar="FILE", help="others (.zip)")
    args = parser.parse_args()

    if args.command == "draw":
        if args.out.suffix != ".jsonl":
            raise UserError(f"--out {args.out}: a list of prompts is a .jsonl")
        if args.list:
            prompts = given(read_captions(args.list))
            if args.n not in (None, len(prompts)):
                raise UserError(f"--list {args.list}: has {len(prompts):,} captions, not {args.n:,}")
        elif args.n is None:
            raise UserError("--annotations: say how many are to be drawn: --n")
        else:
            prompts = draw(read_photos(args.annotations), args.n, args.seed)
        write_jsonl(args.out, prompts)
        print(f"{args.out}: {describe(prompts)}")
        return
    prompts = _read_prompts(args.prompts)
    reference = others(read_photos(args.annotations), prompts, args.n_reference, args.seed)
    collect(args.real, args.images, [p["photo"] for p in prompts], [p["caption"] for p in prompts])
    collect(args.reference, args.images, [photo.file for photo in reference])


if __name__ == "__main__":
    command(main)
