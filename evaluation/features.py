"""Images to features: one pass over an image set, one file that every metric reads.

    python -m evaluation.features --images samples.zip --judge evaluation/weights/scenes-judge \\
        --out features.safetensors

Tensors, float32, one row per image:
    judge        [N, F]     penultimate image features of the CLIP that judges
    judge_crop   [N, F]     the same of one square of the judge's own size cut out of each image, if that is larger
    judge_image  [N, E]     its image embedding, unit norm
    judge_text   [N, E]     its embedding of the caption, unit norm
    pyramid      [N, P]     caption-blind statistics, see evaluation/pyramid.py
    inception    [N, 2048]  with --inception FILE: Inception V3 as in clean-fid, its resize "clean"
    inception_patch  [N, 2048]  the same of one square of 299 px cut out of each image, if that is no smaller
    psnr, ssim, judge_distance  [N, 1]  with --truth IMAGES, of enlarged pictures: each one's to its ground truth
    lpips        [N, 1]     with --truth and --lpips FILE: LPIPS on the VGG-16 weights in that file
    lpips_diversity  [N, 1]  with --diversity and --lpips FILE: each picture's mean LPIPS to the others of its caption
The header says under "about" which images and which weights they are of, and how many images are of one colour
throughout, which is also said.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from evaluation import feature_file
from evaluation.extractors import Extractor, Inception, InceptionPatch, Judge, JudgeCrop, Pairs, Pyramid, extract
from evaluation.image_sets import ImageSet
from evaluation.preprocess import INCEPTION_SIDE
from evaluation.siblings import Siblings
from gigagan.archive import read_about, read_batches, read_prompts
from gigagan.clip import Clip
from gigagan.degenerate import Tally
from gigagan.errors import UserError, command
from gigagan.files import sha256
from gigagan.options import DEVICE_HELP, device, positive
from gigagan.perceptual import ClipDistance, Lpips, Perceptual
from gigagan.pretrained import KNOWN

Batch = tuple[np.ndarray, list[str]]


def looked_at(batches: Iterable[Batch], tally: Tally) -> Iterator[Batch]:
    """The same batches of pictures and captions, counted as they pass."""
    for images, captions in batches:
        tally.look(images)
        yield images, captions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.features", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="image set (zip)")
    parser.add_argument("--judge", required=True, help="CLIP that judges: a folder, or what else gigagan.clip can load")
    parser.add_argument("--prefix", default="", help="put before each caption for the CLIP score")
    parser.add_argument(
        "--inception", type=Path, help=f"clean-fid's {KNOWN['inception'].file}: adds Inception features"
    )
    parser.add_argument("--truth", type=Path, help="enlarged pictures: image set of the ground truth, in their order")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="torchvision's VGG-16 weights")
    parser.add_argument("--diversity", action="store_true", help="several pictures of each caption lie side by side")
    parser.add_argument("--out", type=Path, required=True, help="features (safetensors)")
    parser.add_argument("--batch", type=positive, default=100, help="images at a time")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    args = parser.parse_args()
    if args.lpips and not (args.truth or args.diversity):
        raise UserError("--lpips: compares with the ground truth, or within a caption: give --truth or --diversity")
    if args.diversity and not args.lpips:
        raise UserError("--diversity: is measured by LPIPS: give the file of its backbone as --lpips")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    about = {"images": read_about(args.images), "images_sha256": sha256(args.images), "prefix": args.prefix}
    size = next(read_batches(args.images, 1))[0].shape[1:3]
    judge = Clip.load(args.judge).to(args.device)
    extractors: list[Extractor] = [Judge(judge, args.prefix), Pyramid()]
    if min(size) > judge.image_size:
        extractors.append(JudgeCrop(judge))
    if args.inception:
        extractors.append(Inception(args.inception, args.device))
        if min(size) >= INCEPTION_SIDE:
            extractors.append(InceptionPatch(args.inception, args.device))
    lpips = Lpips(args.lpips).to(args.device) if args.lpips else None
    if args.diversity:
        pictures = ((images[0], caption) for images, (caption,) in read_batches(args.images, 1))
        extractors.append(Siblings(pictures, lpips, args.device))
    if args.truth:
        networks: dict[str, Perceptual] = {"judge_distance": ClipDistance(judge)}
        if lpips:
            networks["lpips"] = lpips
        about["truth"] = read_about(args.truth)
        pairs = Pairs(ImageSet(args.truth), networks, args.device)
        pairs.match([prompt["caption"] for prompt in read_prompts(args.images)])
        extractors.append(pairs)
    weights = {name: identity for extractor in extractors for name, identity in extractor.weights.items()}
    tally = Tally()
    features = extract(looked_at(read_batches(args.images, args.batch), tally), extractors)
    about |= {"size": list(size), "weights": weights, "n_constant": tally.n_constant}
    feature_file.write(args.out, features, about)
    tally.warn(args.images)


if __name__ == "__main__":
    command(main)
