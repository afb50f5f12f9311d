"""Enlarge pictures with a trained upsampler, or with several, one after the other.

python -m gigagan.upsample --run runs/up photo.png --caption "a red bicycle" --out large.png
python -m gigagan.upsample --run runs/up photos --out large
python -m gigagan.upsample --run runs/up samples.zip --out large.zip
python -m gigagan.upsample --run runs/up8 --then runs/up8 --scale 32 photo.png --caption "..." --out 4096.png

INPUT is a picture, a folder of pictures, or an image archive as gigagan.sample writes it, which makes this a further
stage. A picture's caption (for a run that learned classes: a class) stands in the .txt file of the same name, or in the
archive.

A picture larger than a run's input is enlarged tile by tile, without seams; --resize takes its central square instead,
made as small as the input. --scale is by how much a picture is enlarged in all: where the runs together would enlarge
it more, each tile of the last one is averaged over areas down to that.

Deviation: the paper does not say how an 8x model makes 4096 px of 1024; here it does so by tiles, averaged by half.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gigagan import latents
from gigagan.archive import read_batches, read_prompts, write_images
from gigagan.clip import Clip
from gigagan.data import captions
from gigagan.data.images import SUFFIXES, decode, decode_whole
from gigagan.data.skipped import Unusable
from gigagan.degenerate import Tally
from gigagan.errors import UserError, command, short
from gigagan.files import check_writable, write_text
from gigagan.inference import Dtype, faster
from gigagan.networks.condition import Condition
from gigagan.networks.generator import Style
from gigagan.networks.upsampler import Upsampler
from gigagan.options import DEVICE_HELP, device, natural, positive, threads
from gigagan.pixels import shrink, to_tensor
from gigagan.png import write_png
from gigagan.progress import Progress
from gigagan.sampling import Conditioning, check_prompts, load_clip, load_network, read_about
from gigagan.tiles import NoiseField, Plan, Tile, bands

BATCH = 8  # pictures, or tiles, that are drawn at once


class Upsampling:
    """An upsampler with what tells it what its pictures show.

    Attributes:
        input, resolution: sides in px of the picture that it takes, and of the one that it makes.
        factor: the second by the first.
        tally: of the pictures that were made, how many are none.
    """

    def __init__(
        self,
        network: Upsampler,
        clip: Clip | None,
        device: torch.device,
        classes: Sequence[str] = (),
        *,
        batch: int = BATCH,
        warn: bool = False,
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.encode = Conditioning(network.text, clip, device, classes, warn=warn)
        self.input, self.resolution = network.input, network.resolution
        self.factor = network.resolution // network.input
        self.batch, self.device = batch, device
        self.tally = Tally()

    def check_size(self, height: int, width: int, where: str, remedy: str = "") -> None:
        """Raises UserError, with the caller's remedy, for a picture that this run cannot take."""
        side = self.input
        if min(height, width) < side:
            raise UserError(
                f"{where}: {width}x{height} px, and this run enlarges {side}x{side} px or, tile by tile, more{remedy}"
            )

    def check_scale(self, scale: int) -> int:
        """The scale, or all that this run enlarges for 0. Raises UserError for one that it does not lead to."""
        known = [self.factor >> i for i in range(self.factor.bit_length())]
        if isinstance(scale, bool) or scale not in (0, *known):
            raise UserError(f"scale {short(scale)}: this run enlarges a picture {' or '.join(map(str, known))} times")
        return int(scale) or self.factor

    def plan(self, height: int, width: int, scale: int = 0, overlap: int = 0) -> Plan:
        """How a picture of that size is cut into tiles."""
        return Plan(self.network, height, width, self.check_scale(scale), overlap)

    def __call__(
        self, images: np.ndarray, captions: list[str], seeds: list[int], scale: int = 0, overlap: int = 0
    ) -> np.ndarray:
        """uint8 [B, H, W, 3] -> [B, H * scale, W * scale, 3]; a picture depends on its own caption and seed alone.

        Raises UserError for pictures that are no such array or too small, as ``check_scale``, and as ``check_prompts``.
        """
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            kind = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
            raise UserError(f"pictures to enlarge: an array of uint8 [B, H, W, 3] is wanted, not {kind}")
        scale = self.check_scale(scale)
        self.check_size(*images.shape[1:3], "pictures to enlarge", f": resize them to {self.input} px or more first")
        if not len(images) == len(captions) == len(seeds):
            raise UserError(f"{len(images)} pictures with {len(captions)} captions and {len(seeds)} seeds")
        if not len(images):
            return np.empty((0, *(n * scale for n in images.shape[1:3]), 3), np.uint8)
        if images.shape[1:3] != (self.input, self.input):
            one_by_one = zip(images, captions, seeds, strict=True)
            return np.stack([np.concatenate(list(self.rows(*each, scale, overlap))) for each in one_by_one])
        return np.concatenate(
            [
                self._whole(images[part], self.check(captions[part]), seeds[part], self.input * scale)
                for part in (slice(start, start + self.batch) for start in range(0, len(images), self.batch))
            ]
        )

    def check(self, captions: list[str]) -> list[str]:
        """The captions, where this run reads any. Raises UserError as ``check_prompts``, or for an unknown class."""
        if self.encode.kind == "none":
            return captions
        captions = check_prompts(captions)
        for name in captions if self.encode.kind == "class" else ():
            self.encode.label(name)
        return captions

    @torch.inference_mode()
    def _whole(self, images: np.ndarray, captions: list[str], seeds: list[int], side: int) -> np.ndarray:
        z, noise = latents.draw(seeds, self.network.z_dim, self.network.noise_dim)
        pictures = to_tensor(images, self.device)
        condition = self.encode(captions)
        drawn = self.network(z.to(self.device), condition, noise.to(self.device), pictures)[0]
        return self.tally.to_uint8(shrink(drawn, side))

    def rows(
        self,
        image: np.ndarray,
        caption: str,
        seed: int,
        scale: int = 0,
        overlap: int = 0,
        done: Callable[[int], None] = lambda n: None,
    ) -> Iterator[np.ndarray]:
        """One picture, uint8 [H, W, 3], enlarged tile by tile: uint8 [h, W * scale, 3] at a time, from top to bottom.

        ``overlap`` as in ``Plan``, ``done`` as in ``bands``.
        """
        return self._shown(self.bands(image, self.encode(self.check([caption])), seed, scale, overlap, done))

    def _shown(self, bands: Iterator[Tensor]) -> Iterator[np.ndarray]:
        parts = Tally()
        for band in bands:
            yield parts.to_uint8(band[None])[0]
        self.tally.add_whole(parts)

    def bands(
        self,
        image: np.ndarray,
        condition: Condition,
        seed: int,
        scale: int = 0,
        overlap: int = 0,
        done: Callable[[int], None] = lambda n: None,
    ) -> Iterator[Tensor]:
        """As ``rows``, of what ``encode`` made of one caption, and before rounding: [3, h, W * scale] in [-1, 1]."""
        plan = self.plan(*image.shape[:2], scale, overlap)
        field = NoiseField(self.network, seed)
        style = self._style(field.z, condition)

        def draw(tiles: Tensor, places: list[Tile]) -> Tensor:
            noise = torch.stack([field.cut(place) for place in places]).to(self.device)
            styles = [latents.pick(style, [0] * len(tiles))] * len(self.network.levels)
            return self.network.synthesise(styles, noise, tiles.to(self.device))[0]

        return bands(image, plan, torch.inference_mode()(draw), self.batch, done)

    @torch.inference_mode()
    def _style(self, z: Tensor, condition: Condition) -> Style:
        return self.network.style(z.to(self.device), condition)


def load(
    run: str | Path,
    device: str | torch.device = "cpu",
    snapshot: int | None = None,
    batch: int = BATCH,
    dtype: Dtype | None = "fp32",
    compile: bool = False,
) -> Upsampling:
    """The averaged upsampler of a run folder, or its snapshot after so many images (0 = untrained), ready to draw.

    ``dtype`` and ``compile`` as in ``gigagan.inference.prepare``; None leaves the network as it was trained. Raises
    UserError as that and ``load_network``, and for the run of a generator.
    """
    run = Path(run)
    about = read_about(run)
    _check_upsampler(run, about)
    clip = load_clip(run, about)
    about, network = load_network(run, snapshot, clip)
    assert isinstance(network, Upsampler)
    sampler = Upsampling(network, clip, torch.device(device), about.get("classes", ()), batch=batch, warn=True)
    return sampler if dtype is None else faster(sampler, dtype, compile)


def _check_upsampler(run: Path, about: dict[str, Any]) -> None:
    if not about["config"].upsampler.input:
        raise UserError(f"{run}: is no upsampler's run but a generator's: python -m gigagan.sample draws with it")


# ---------------------------------------------------------------------------------------------------- several stages


class Chain:
    """Upsamplers one after the other, which enlarge a picture ``scale`` times in all (0 = as far as they do).

    Raises UserError where one's output is too small for the next, and for a scale that they do not lead to.
    """

    def __init__(self, stages: list[Upsampling], scale: int = 0, overlap: int = 0) -> None:
        self.stages, self.overlap = stages, overlap
        before = math.prod(stage.factor for stage in stages[:-1])
        full = before * stages[-1].factor
        self.scale = scale or full
        if wrong := [stage for stage in stages if overlap >= stage.input]:
            raise UserError(f"--overlap {overlap}: must be less than a tile, which is {wrong[0].input} px")
        side = stages[0].input
        for stage, after in pairwise(stages):
            side *= stage.factor
            after.check_size(side, side, f"--then: what comes before it makes {side} px of the smallest picture")
        left = full // self.scale
        if self.scale > full or full % self.scale or left & (left - 1) or self.scale < before:
            known = [str(full >> i) for i in range(stages[-1].factor.bit_length())]
            raise UserError(f"--scale {self.scale}: these runs enlarge a picture {' or '.join(known)} times")
        self.last = self.scale // before

    def _plan(self, height: int, width: int) -> Plan:
        before = self.scale // self.last
        return self.stages[-1].plan(height * before, width * before, self.last, self.overlap)

    def n_tiles(self, height: int, width: int) -> int:
        """How many tiles the last stage draws of a picture of that size."""
        return self._plan(height, width).n_tiles

    def enlarge(
        self, images: np.ndarray, captions: list[str], seeds: list[int], done: Callable[[int], None]
    ) -> Iterator[Iterable[np.ndarray]]:
        """For every picture of uint8 [B, H, W, 3], its rows from top to bottom, uint8 [h, W * scale, 3] at a time.

        Between the stages pictures are whole; the last one's are never held, where they are drawn tile by tile.
        ``done`` is told how many tiles the last stage has drawn since it was told before.
        """
        for stage in self.stages[:-1]:
            images = stage(images, captions, seeds, overlap=self.overlap)
        last = self.stages[-1]
        if images.shape[1:3] == (last.input, last.input):
            for image in last(images, captions, seeds, self.last):
                done(1)
                yield [image]
            return
        for image, caption, seed in zip(images, captions, seeds, strict=True):
            yield last.rows(image, caption, seed, self.last, self.overlap, done)


# ----------------------------------------------------------------------------------------------- what is to be enlarged


class Picture(NamedTuple):
    name: str  # below the folder it came from, without its suffix
    image: np.ndarray  # uint8 [H, W, 3]
    caption: str


def read_picture(path: Path, side: int = 0) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3], converted as data sets do; with ``side``, its central square made that large.

    Raises UserError for what data sets skip: no picture, a broken or an animated one, 32-bit pixels.
    """
    try:
        return decode(path, side) if side else decode_whole(path)
    except Unusable as e:
        raise UserError(f"{path}: {e.reason}{f' ({e.detail})' if e.detail else ''}") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from None


class Source:
    """The pictures of a file, a folder or an archive, with their captions.

    Args:
        caption: for all of them, in place of their own.
        kind: what the run is asked for by, as ``Conditioning.kind``; where it is "none", no captions are read.
        side: bring the central square of each picture to so many px; 0 = leave them as they are.

    Raises:
        UserError: there is nothing, or nothing that can be read.
    """

    def __init__(self, path: Path, caption: str | None, kind: str, side: int = 0) -> None:
        self.path, self.side = path, side
        self.caption = "" if kind == "none" and caption is None else caption
        self.is_archive = path.suffix.lower() == ".zip"
        if not path.exists():
            raise UserError(
                f"{path}: no such file or folder: give a picture, a folder of pictures or an archive (.zip)"
            )
        self.files = [path]
        if path.is_dir():
            found = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
            self.files = sorted(p for p in found if p.suffix.lower() in SUFFIXES and p.is_file())
            if not self.files:
                raise UserError(f"{path}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
            names = [self._name(file) for file in self.files]
            if twice := [name for a, name in pairwise(sorted(names)) if a == name]:
                raise UserError(f"{path}: two pictures are called {twice[0]}: rename one, as both become a .png")

    def __len__(self) -> int:
        return len(read_prompts(self.path)) if self.is_archive else len(self.files)

    def sizes(self) -> Iterator[tuple[str, int, int, str]]:
        """Where it is, height, width and caption of every picture; errors as ``pictures``."""
        if not self.is_archive:
            for file, picture in zip(self.files, self.pictures(), strict=True):
                yield str(file), *picture.image.shape[:2], picture.caption
            return
        first = next(self.pictures())  # an archive's pictures have one size
        for prompt in read_prompts(self.path):
            caption = prompt["caption"] if self.caption is None else self.caption
            yield f"{self.path}, picture {prompt['index']}", *first.image.shape[:2], caption

    def pictures(self) -> Iterator[Picture]:
        """Raises UserError for a picture, or a caption, that is not there or cannot be read."""
        if not self.is_archive:
            for file in self.files:
                yield Picture(self._name(file), read_picture(file, self.side), self._caption(file))
            return
        index = 0
        for images, own in read_batches(self.path, 1):
            for image, caption in zip(images, own, strict=True):
                yield Picture(f"{index:06d}", self._square(image), caption if self.caption is None else self.caption)
                index += 1

    def _name(self, file: Path) -> str:
        return str((file.relative_to(self.path) if self.path.is_dir() else Path(file.name)).with_suffix(""))

    def _caption(self, file: Path) -> str:
        if self.caption is not None:
            return self.caption
        beside = file.with_suffix(".txt")
        try:
            return captions.from_text(beside.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{file}: has no caption: write one into {beside.name} beside it, or give --caption"
            ) from None
        except Unusable as e:
            raise UserError(f"{beside}: {e.reason}") from None

    def _square(self, image: np.ndarray) -> np.ndarray:
        if not self.side:
            return image
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG", compress_level=0)
        return decode(png.getvalue(), self.side)


def batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Pictures in their order, up to ``size`` at a time, those of one batch of one height and width."""
    for _, alike in groupby(pictures, lambda picture: picture.image.shape):
        batch: list[Picture] = []
        for picture in alike:
            batch.append(picture)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


# ----------------------------------------------------------------------------------------------------------- command


def enlarge(chain: Chain, source: Source, out: Path, seed: int, batch: int) -> None:
    """Write the pictures of ``source`` enlarged: to a .zip with their captions, a .png, or else into a folder.

    Picture k is drawn with the seed ``seed + k``. All are checked before the first one is drawn. Raises UserError for a
    picture that is too small, for captions as ``check_prompts``, and for an archive of several sizes.
    """
    sizes, texts, total = set(), [], 0
    first = chain.stages[0]
    remedy = f": with --resize the picture's central square is brought to {first.input} px first"
    for name, height, width, caption in source.sizes():
        first.check_size(height, width, name, remedy)
        try:
            for stage in chain.stages:
                stage.check([caption])
        except UserError as e:
            raise UserError(f"{name}: {e.message}") from None
        sizes.add((width, height))
        texts.append(caption)
        total += chain.n_tiles(height, width)
    if out.suffix == ".zip" and len(sizes) > 1:
        some = ", ".join(f"{w}x{h}" for w, h in sorted(sizes)[:3])
        raise UserError(
            f"--out {out}: an archive's pictures have one size, these are of {some}: give a folder, or --resize"
        )
    for stage in dict.fromkeys(chain.stages):  # one may be applied twice
        stage.encode.count_cut(texts)
    progress, drawn = Progress(total, "tiles" if total > len(source) else "img"), 0

    def done(n: int) -> None:
        nonlocal drawn
        drawn += n
        progress.update(drawn)

    def enlarged() -> Iterator[tuple[Picture, tuple[int, int], Iterable[np.ndarray]]]:
        k = seed
        for part in batches(source.pictures(), batch):
            seeds = list(range(k, k + len(part)))
            images, own = np.stack([picture.image for picture in part]), [picture.caption for picture in part]
            for picture, rows in zip(part, chain.enlarge(images, own, seeds, done), strict=True):
                height, width = picture.image.shape[:2]
                yield picture, (height * chain.scale, width * chain.scale), rows
            k += len(part)

    if out.suffix == ".zip":
        pictures = (np.concatenate(list(rows)) for _, _, rows in enlarged())
        write_images(out, pictures, texts, range(seed, seed + len(texts)))
        return
    for picture, size, rows in enlarged():
        path = out if out.suffix == ".png" else out / f"{picture.name}.png"
        write_png(path, size, rows)
        if out.suffix != ".png" and picture.caption:
            write_text(path.with_suffix(".txt"), picture.caption + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gigagan.upsample", description=__doc__.splitlines()[0])
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="a picture, a folder of pictures, or an archive (.zip)"
    )
    parser.add_argument("--run", type=Path, required=True, help="an upsampler's run folder")
    parser.add_argument("--then", type=Path, action="append", default=[], metavar="RUN", help="a further one, in turn")
    parser.add_argument(
        "--out", type=Path, required=True, help=".png for one picture, .zip for an archive, or a folder"
    )
    parser.add_argument("--caption", help="of all pictures (or a class's name or number), in place of their own")
    parser.add_argument(
        "--resize", action="store_true", help="take each picture's central square, as large as the input"
    )
    parser.add_argument("--scale", type=positive, default=0, help="by how much in all; default: as far as the runs do")
    parser.add_argument(
        "--overlap", type=natural, default=0, metavar="PX", help="of tiles; default: a quarter of a tile"
    )
    parser.add_argument("--seed", type=natural, default=0, help="the first picture's seed")
    parser.add_argument("--snapshot", type=natural, metavar="IMAGES", help="of --run, after so many; 0 = untrained")
    parser.add_argument("--batch", type=positive, default=BATCH, help="pictures, or tiles, drawn at once")
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    args = parser.parse_intermixed_args()
    if args.caption is not None:
        check_prompts(args.caption)
    abouts = [(run, read_about(run)) for run in (args.run, *args.then)]
    for run, about in abouts:
        _check_upsampler(run, about)
    kind = next((k for _, about in abouts if (k := about["config"].condition.kind) != "none"), "none")
    side = abouts[0][1]["config"].upsampler.input if args.resize else 0
    source = Source(args.input, args.caption, kind, side)
    if args.out.suffix.lower() in SUFFIXES and args.out.suffix != ".png":
        raise UserError(f"--out {args.out}: pictures are written as .png")
    if args.out.suffix == ".png" and (source.is_archive or args.input.is_dir()):
        raise UserError(f"--out {args.out}: of several pictures: give a folder, or a .zip for an archive")
    if args.out.resolve() == args.input.resolve():
        raise UserError(f"--out {args.out}: is the input, which would be overwritten: give another")
    check_writable(args.out if args.out.suffix not in (".png", ".zip") else args.out.parent)
    torch.set_num_threads(args.threads)
    loaded = {run: load(run, args.device, batch=args.batch) for run in args.then}  # each once, if it is applied twice
    if args.snapshot is not None or args.run not in loaded:
        first = load(args.run, args.device, args.snapshot, args.batch)
    else:
        first = loaded[args.run]
    chain = Chain([first, *(loaded[run] for run in args.then)], args.scale, args.overlap)
    enlarge(chain, source, args.out, args.seed, args.batch)
    for stage in dict.fromkeys(chain.stages):
        stage.tally.warn(args.out)


if __name__ == "__main__":
    command(main)
