"""Files of pretrained weights, known by their checksum: looked for, never fetched.

    python -m gigagan.pretrained              # which are on this machine, and where the others are to be put
    python -m gigagan.pretrained --weights /data/weights inception clip-vit-b-32

A file is taken from the user's own folder if it is there (``weights`` in config/config.yaml, or the environment's
GIGAGAN_WEIGHTS), else from where its own library keeps it. One that is there under the right name with other contents
is refused, whoever put it there: a score with other weights is another score, and some of these files hold code.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gigagan.errors import UserError, command, nearest
from gigagan.files import read_yaml, sha256

CONFIG = Path(__file__).parent.parent / "config" / "config.yaml"


@dataclass(frozen=True)
class Known:
    """One file.

    Attributes:
        file: its name.
        sha256, size: of its contents; bytes.
        about: what it is.
        source: where the authors offer it.
        cached: where its library keeps it once it has fetched it; nothing where it does not.
        clip: what a CLIP is called by open_clip, with its pretrained tag.
    """

    file: str
    sha256: str
    size: int
    about: str
    source: str
    cached: Callable[[str], Path | None]
    clip: str = ""


def _of_clean_fid(file: str) -> Path:
    return Path("/tmp", file)  # clean-fid's own choice, on every system but Windows


def _of_torch_hub(file: str) -> Path:
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home, "hub", "checkpoints", file).expanduser()


def _of_hugging_face(repository: str, name: str) -> Callable[[str], Path | None]:
    def cached(file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repository, name)
        return Path(found) if isinstance(found, str) else None

    return cached


KNOWN: dict[str, Known] = {
    "inception": Known(
        "inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        95_607_719,
        "Inception V3 as clean-fid uses it",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        _of_clean_fid,
    ),
    "inception-pytorch": Known(
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        95_628_359,
        "Inception V3 as pytorch-fid and MLPerf use it",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        _of_torch_hub,
    ),
    "dinov2": Known(
        "dinov2_vitl14_pretrain.pth",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        1_217_586_395,
        "DINOv2 ViT-L/14",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        _of_torch_hub,
    ),
    "clip-vit-b-32": Known(
        "clip-vit-b-32-openai.safetensors",
        "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        605_143_284,
        "OpenAI's CLIP ViT-B/32",
        "https://huggingface.co/timm/vit_base_patch32_clip_224.openai (open_clip_model.safetensors)",
        _of_hugging_face("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"),
        "ViT-B-32-quickgelu:openai",
    ),
    "clip-vit-l-14": Known(
        "clip-vit-l-14-openai.safetensors",
        "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
        1_710_517_724,
        "OpenAI's CLIP ViT-L/14",
        "https://huggingface.co/timm/vit_large_patch14_clip_224.openai (open_clip_model.safetensors)",
        _of_hugging_face("timm/vit_large_patch14_clip_224.openai", "open_clip_model.safetensors"),
        "ViT-L-14-quickgelu:openai",
    ),
    "clip-vit-g-14": Known(
        "clip-vit-g-14-laion2b.bin",
        "6aac683f899159946bc4ca15228bb7016f3cbb1a2c51f365cba0b23923f344da",
        5_467_006_745,
        "OpenCLIP's ViT-g-14, laion2b_s12b_b42k",
        "https://huggingface.co/laion/CLIP-ViT-g-14-laion2B-s12B-b42K (open_clip_pytorch_model.bin)",
        _of_hugging_face("laion/CLIP-ViT-g-14-laion2B-s12B-b42K", "open_clip_pytorch_model.bin"),
        "ViT-g-14:laion2b_s12b_b42k",
    ),
    "vgg16": Known(
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        "torchvision's VGG-16, the backbone of LPIPS",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        _of_torch_hub,
    ),
    "alexnet": Known(
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        "torchvision's AlexNet, the other backbone of LPIPS",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        _of_torch_hub,
    ),
}


def folder() -> str:
    """The user's own: GIGAGAN_WEIGHTS, or ``weights`` in config/config.yaml; empty where neither is set."""
    if (given := os.environ.get("GIGAGAN_WEIGHTS")) is not None:
        return given
    return str(read_yaml(CONFIG).get("weights") or "") if CONFIG.is_file() else ""


def find(name: str, weights: str | Path | None = None, quick: bool = False) -> Path:
    """The file of one of ``KNOWN``, its checksum compared.

    Args:
        weights: the user's own folder, if it is another than ``folder()``; empty: the libraries' caches alone.
        quick: compare sizes alone: reading gigabytes takes long where a file is only to be there.

    Raises:
        UserError: no such file, naming it, its size, its checksum and where to put it; or one with other contents.
    """
    if name not in KNOWN:
        raise UserError(f"no known weights {name!r}{nearest(name, KNOWN)}")
    known, weights = KNOWN[name], folder() if weights is None else weights
    places = [Path(weights, known.file).expanduser()] if weights else []
    if (cached := known.cached(known.file)) is not None:
        places.append(cached)
    for path in places:
        if path.is_file():
            _check(known, path, quick)
            return path
    place = weights or "a folder and name that as weights (config/config.yaml, --weights)"
    where = f"put it into {place}"
    where += f", or at {places[-1]}" if len(places) > bool(weights) else ""
    raise UserError(
        f"{known.file} ({known.about}, {known.size / 1e6:,.0f} MB, sha256 {known.sha256}) is not on this machine: "
        f"fetch it from {known.source} and {where}"
    )


def _check(known: Known, path: Path, quick: bool) -> None:
    """Raises UserError for a file with other contents or, where that is all that is compared, of another size."""
    size = path.stat().st_size
    other = f"{size:,} bytes instead of {known.size:,}" if size != known.size else ""
    if quick:
        wrong = f"wrong size ({other})" if other else ""
    else:
        found = sha256(path)
        cut = f", and {other}" if other else ""
        wrong = f"wrong checksum ({found[:12]}..., {known.about} has {known.sha256[:12]}...{cut})"
        wrong = wrong if found != known.sha256 else ""
    if wrong:
        raise UserError(f"{path}: {wrong}: bring the right file from {known.source}")


def of_clip(name: str) -> str:
    """The name in ``KNOWN`` of a CLIP as open_clip calls it; empty for one that is not known here."""
    return next((known for known, about in KNOWN.items() if about.clip == name), "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gigagan.pretrained", description="Which weights are here.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of those that must be here; none: a list of all")
    parser.add_argument("--weights", metavar="FOLDER", help="the user's own; else GIGAGAN_WEIGHTS or config.yaml's")
    args = parser.parse_args()
    for name in args.names:
        print(f"{name}: {find(name, args.weights)}")
    for name in () if args.names else KNOWN:
        try:
            print(f"{name:<18}{find(name, args.weights)}")
        except UserError as e:
            print(f"{name:<18}{e.message}")


if __name__ == "__main__":
    command(main)
