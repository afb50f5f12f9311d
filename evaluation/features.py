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
The header says under "about" which images and which weights they are of.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from evaluation import feature_file, pyramid
from evaluation.crops import seeded_crops
from evaluation.metrics.perceptual import Pairs
from evaluation.preprocess import INCEPTION_SIDE, clean_resize
from evaluation.siblings import Siblings
from evaluation.weights import KNOWN
from gigagan.archive import read_about, read_batches
from gigagan.clip import Clip
from gigagan.errors import UserError, command
from gigagan.files import sha256
from gigagan.options import DEVICE_HELP, device, positive
from gigagan.perceptual import ClipDistance, Lpips, Perceptual
from gigagan.pixels import to_tensor

INCEPTION_FILE = KNOWN["inception"].file  # the one name under which clean-fid looks for it
INCEPTION_SHA256 = KNOWN["inception"].sha256

Extractor = Callable[[np.ndarray, list[str]], dict[str, torch.Tensor]]
"""From images, uint8 [B, H, W, 3], and their captions to named features [B, D]."""


def judge_extractor(judge: Clip, prefix: str = "") -> Extractor:
    """Features of the CLIP that judges; ``prefix`` is put before each caption, as tokens of its own."""

    def features(images: np.ndarray, captions: list[str]) -> dict[str, torch.Tensor]:
        pixels = to_tensor(images, judge.scale.device)
        return {
            "judge": judge.image_features(pixels),
            "judge_image": judge.embed_image(pixels),
            "judge_text": judge.embed_text(judge.tokenize(captions, prefix)),
        }

    return features


def crop_extractor(judge: Clip) -> Extractor:
    """Features of one square of each image, of the size that the judge sees, which it need not shrink."""
    done = 0

    def features(images: np.ndarray, captions: list[str]) -> dict[str, torch.Tensor]:
        nonlocal done
        crops = seeded_crops(images, range(done, done + len(images)), judge.image_size)
        done += len(images)
        return {"judge_crop": judge.image_features(to_tensor(crops, judge.scale.device))}

    return features


def pyramid_extractor(images: np.ndarray, captions: list[str]) -> dict[str, torch.Tensor]:
    return {"pyramid": pyramid.features(images)}


def load_inception(path: Path, device: torch.device) -> torch.nn.Module:
    """Inception V3 as clean-fid has it. TorchScript runs code, so the file is loaded only if its checksum is right.

    Raises UserError where the file is missing, has another name or other contents.
    """
    if not path.is_file() or path.name != INCEPTION_FILE:
        raise UserError(f"--inception {path}: give the path of clean-fid's {INCEPTION_FILE}")
    if sha256(path) != INCEPTION_SHA256:
        raise UserError(f"--inception {path}: the checksum is wrong, so it is not loaded: fetch the file again")
    from cleanfid.inception_torchscript import InceptionV3W

    return InceptionV3W(str(path.parent), download=False).to(device)


def inception_extractor(path: Path, device: torch.device) -> Extractor:
    """Inception V3 on whole images, resized by clean-fid. Raises UserError as ``load_inception``."""
    network = load_inception(path, device)

    def features(images: np.ndarray, captions: list[str]) -> dict[str, torch.Tensor]:
        resized = torch.from_numpy(np.stack([clean_resize(image) for image in images]))
        return {"inception": network(resized.permute(0, 3, 1, 2).to(device))}

    return features


def patch_extractor(path: Path, device: torch.device) -> Extractor:
    """Inception V3 on one square of each image, of its own size, not resized. Raises UserError as ``load_inception``,
    and for images smaller than that."""
    network, done = load_inception(path, device), 0

    def features(images: np.ndarray, captions: list[str]) -> dict[str, torch.Tensor]:
        nonlocal done
        crops = seeded_crops(images, range(done, done + len(images)), INCEPTION_SIDE)
        done += len(images)
        return {"inception_patch": network(torch.from_numpy(crops).permute(0, 3, 1, 2).float().to(device))}

    return features


def extract(batches: Iterable[tuple[np.ndarray, list[str]]], extractors: list[Extractor]) -> dict[str, np.ndarray]:
    """Run all ``extractors`` over batches of images and captions, in fp32; {name: float32 [N, D]}."""
    parts: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for images, captions in batches:
            for extractor in extractors:
                for name, features in extractor(images, captions).items():
                    parts.setdefault(name, []).append(features.float().cpu().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.features", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="image set (zip)")
    parser.add_argument("--judge", required=True, help="CLIP that judges: a folder, or what else gigagan.clip can load")
    parser.add_argument("--prefix", default="", help="put before each caption for the CLIP score")
    parser.add_argument("--inception", type=Path, help=f"clean-fid's {INCEPTION_FILE}: adds Inception features")
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
    extractors = [judge_extractor(judge, args.prefix), pyramid_extractor]
    weights = {"judge": judge.sha, "pyramid": pyramid.VERSION}
    if min(size) > judge.image_size:
        extractors.append(crop_extractor(judge))
        weights["judge_crop"] = judge.sha
    if args.inception:
        extractors.append(inception_extractor(args.inception, args.device))
        weights["inception"] = INCEPTION_SHA256
        if min(size) >= INCEPTION_SIDE:
            extractors.append(patch_extractor(args.inception, args.device))
            weights["inception_patch"] = INCEPTION_SHA256
    lpips = Lpips(args.lpips).to(args.device) if args.lpips else None
    if args.diversity:
        extractors.append(Siblings(args.images, lpips, args.device))
        weights["lpips_diversity"] = lpips.sha
    if args.truth:
        networks: dict[str, Perceptual] = {"judge_distance": ClipDistance(judge)}
        if lpips:
            networks["lpips"] = lpips
            weights["lpips"] = lpips.sha
        extractors.append(Pairs(args.truth, networks, args.device))
        about["truth"] = read_about(args.truth)
    features = extract(read_batches(args.images, args.batch), extractors)
    feature_file.write(args.out, features, {**about, "size": list(size), "weights": weights})


if __name__ == "__main__":
    command(main)
