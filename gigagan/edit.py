"""Edits of a trained run's latents, as the paper's figures show them.

    python -m gigagan.edit truncation  --run RUN --caption "a red circle" --seeds 0-5 --out truncation.png
    python -m gigagan.edit interpolate --run RUN --caption "a red circle" --seeds 0,1,2 --out interpolate.png
    python -m gigagan.edit prompts     --run RUN --caption "..." "..." "..." "..." --out prompts.png    (Fig. 7)
    python -m gigagan.edit styles      --run RUN --caption "a red circle" --layer 1 --out styles.png    (Fig. 6)
    python -m gigagan.edit mix         --run RUN --coarse "..." --fine "..." "..." --out mix.png        (Fig. 8)
    python -m gigagan.edit arithmetic  --run RUN --caption A --minus B --plus C --out arithmetic.png
    python -m gigagan.edit all         --run RUN --prompts runs/demo/real.zip --out results/demo/edits

Each writes one figure, as PNG and SVG; ``all`` writes all of them into a folder. Prompts that are not given are taken
from the captions of an image archive (--prompts), or are the classes that the run learned.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gigagan import latents
from gigagan.archive import read_prompts
from gigagan.errors import UserError, command
from gigagan.files import check_writable
from gigagan.latents import Truncation
from gigagan.options import DEVICE_HELP, device, natural, threads, whole
from gigagan.sample import add_truncation
from gigagan.sampling import GeneratorSampler, check_prompts, load
from gigagan.sheet import Sheet, save

PSIS = [1.0, 0.9, 0.7, 0.5, 0.3, 0.1]  # the paper's columns
STRENGTHS = [0.0, 0.5, 1.0, 1.5]


# ---------------------------------------------------------------------------------------------------- the edits alone


def truncated(
    sampler: GeneratorSampler, captions: list[str], seeds: list[int], psis: list[float], towards: str = "prompt"
) -> np.ndarray:
    """Pictures of captions and seeds at each psi, ``towards`` the mean of the ``prompt`` or the ``overall`` one, all
    with the first seed's noise: uint8 [B, len(psis), R, R, 3]. Raises UserError as ``Truncation`` and
    ``latents.truncate``."""
    (z, noise), text = sampler.draw(seeds), sampler.text(captions)
    noise = noise[:1].expand(len(z), -1)  # what is left of a picture's variety without z, and not what is shown here
    columns = [sampler.synthesise(sampler.style(z, text, Truncation(**{towards: psi})), noise) for psi in psis]
    return np.stack(columns, axis=1)


def along(
    sampler: GeneratorSampler,
    captions: list[str],
    seeds: list[int],
    steps: int,
    space: str = "z",
    truncation: Truncation | None = None,
) -> np.ndarray:
    """Pictures along a path whose stops are captions and seeds, as many of both, ``steps`` from stop to stop with both
    included: uint8 [N, R, R, 3]. The layers' noise is the first seed's throughout.

    ``space``: z, along the sphere (``latents.slerp``), with T's outputs interpolated linearly and w made anew at each
    step; or w, linearly, with T's outputs. Raises UserError as ``latents.path``.
    """
    weights = latents.path(len(captions), steps).to(sampler.device)
    (z, noise), text = sampler.draw(seeds), sampler.text(captions)
    blended = latents.blend(text, weights)
    if space == "w":
        ends = sampler.style(z, text, Truncation())
        style = sampler.truncate(ends._replace(w=weights @ ends.w, text=blended), truncation)
    else:
        style = sampler.style(latents.slerp(z, weights), blended, truncation)
    return sampler.synthesise(style, noise[:1].expand(len(weights), -1))


def between_corners(
    sampler: GeneratorSampler,
    captions: list[str],
    rows: int,
    columns: int,
    seed: int,
    truncation: Truncation | None = None,
) -> np.ndarray:
    """A grid between four prompts (top left, top right, bottom left, bottom right) with one z and one noise: T's
    outputs are interpolated bilinearly, and w with them (Fig. 7). uint8 [rows, columns, R, R, 3]"""
    if len(captions) != 4:
        raise UserError(f"a grid between corners needs 4 prompts, not {len(captions)}")
    text = latents.blend(sampler.text(captions), latents.bilinear(rows, columns).to(sampler.device))
    z, noise = (part.expand(rows * columns, -1) for part in sampler.draw([seed]))
    images = sampler.synthesise(sampler.style(z, text, truncation), noise)
    return images.reshape(rows, columns, *images.shape[1:])


def mixed(
    sampler: GeneratorSampler,
    coarse: Sequence[tuple[str, int]],
    fine: Sequence[tuple[str, int]],
    cut: int,
    truncation: Truncation | None = None,
) -> np.ndarray:
    """Every coarse source with every fine one; a source is a caption and a seed, and brings w, its words and its noise
    to its levels. The first row holds the fine sources alone, the first column the coarse ones, their corner is white.

    uint8 [1 + coarse, 1 + fine, R, R, 3]; errors as ``latents.check_cut``.
    """
    captions, seeds = zip(*coarse, *fine, strict=True)
    z, noise = sampler.draw(list(seeds))
    style = sampler.style(z, sampler.text(list(captions)), truncation)
    n, m = len(coarse), len(fine)
    below, above = [i for i in range(n) for _ in range(m)], [n + j for _ in range(n) for j in range(m)]
    network = sampler.generator
    both = latents.mix(network, latents.pick(style, below), latents.pick(style, above), cut)
    grid = sampler.synthesise(both, latents.mix_noise(network, noise[below], noise[above], cut))
    alone = sampler.synthesise(style, noise)
    sheet = np.full((1 + n, 1 + m, *alone.shape[1:]), 255, np.uint8)
    sheet[1:, 1:] = grid.reshape(n, m, *alone.shape[1:])
    sheet[1:, 0], sheet[0, 1:] = alone[:n], alone[n:]
    return sheet


def calculated(
    sampler: GeneratorSampler,
    captions: tuple[str, str, str],
    strengths: list[float],
    seeds: list[int],
    truncation: Truncation | None = None,
) -> np.ndarray:
    """The style of A - s B + s C for captions (A, B, C) and each strength s, each z on its own, with A's words: uint8
    [strengths, seeds, R, R, 3]"""
    (z, noise), text = sampler.draw(seeds), sampler.text(list(captions))
    a, b, c = (sampler.style(z, latents.pick_text(text, [i] * len(seeds)), truncation) for i in range(3))
    return np.stack([sampler.synthesise(a._replace(w=a.w + s * (c.w - b.w)), noise) for s in strengths])


# ------------------------------------------------------------------------------------------------- prompts to show it


class Prompts(NamedTuple):
    """Prompts that go together."""

    plain: str  # the shortest, which leaves most to z
    corners: list[str]  # four: one thing changes to the right, another one downwards
    coarse: list[str]
    fine: list[str]


def suggest(captions: list[str]) -> Prompts:
    """Prompts out of a data set's captions, of which two differ in one word wherever possible: a caption in which
    words at two places can be exchanged for others that stand there in the same surroundings, and its neighbours.

    Without such a caption, or for few of them, simply the first ones.
    """
    distinct = list(dict.fromkeys(" ".join(caption.split()) for caption in captions))
    # {a caption's words with one left out: the words that stand in that gap}
    seen: dict[tuple[str | None, ...], list[str]] = {}
    for caption in distinct:
        words = caption.split()
        for i, word in enumerate(words):
            gap = seen.setdefault((*words[:i], None, *words[i + 1 :]), [])
            if word not in gap:
                gap.append(word)
    best, most = None, (0, 0, 0)
    for caption in distinct:
        words = caption.split()
        others = [
            [word for word in seen[(*words[:i], None, *words[i + 1 :])] if word != words[i]] for i in range(len(words))
        ]
        places = sorted(range(len(words)), key=lambda i: (-len(others[i]), i))[:2]
        choice = [len(others[i]) for i in places]
        # Enough for a figure is enough: among those, the shortest caption reads best.
        if len(places) == 2 and choice[1] and (found := (min(choice[1], 2), min(choice[0], 4), -len(words))) > most:
            best, most = (words, places, others), found
    if best is None:
        return plainly(distinct)
    words, (a, b), others = best

    def swapped(*changes: tuple[int, str]) -> str:
        new = dict(changes)
        return " ".join(new.get(i, word) for i, word in enumerate(words))

    one, two = (a, others[a][0]), (b, others[b][0])
    return Prompts(
        plainly(distinct).plain,
        [swapped(), swapped(one), swapped(two), swapped(one, two)],
        [swapped(), *(swapped((b, word)) for word in others[b][:2])],
        [swapped((a, word)) for word in others[a][:4]],
    )


def plainly(distinct: list[str]) -> Prompts:
    """The first ones that there are, as they are."""
    first = (distinct * 9)[:9]  # there may be few
    return Prompts(min(distinct, key=lambda prompt: len(prompt.split())), first[:4], first[4:6], first[6:])


# ----------------------------------------------------------------------------------------------------------- commands


def numbers(text: str) -> list[int]:
    """``0-3,7`` -> [0, 1, 2, 3, 7]"""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        if not ends or int(ends[2] or ends[1]) < int(ends[1]) or int(ends[2] or 0) - int(ends[1]) > 999:
            raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 0 up, as in 0-3,7")
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return found


def fractions(text: str) -> list[float]:
    """``1,0.5`` -> [1.0, 0.5]"""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers, as in 1,0.7,0.3") from None
    if not np.isfinite(found).all():
        raise argparse.ArgumentTypeError(f"{text!r}: must be finite")
    return found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Of ``words``, or of the command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--run", type=Path, required=True, help="a run's folder")
    shared.add_argument("--snapshot", type=natural, metavar="IMAGES", help="weights after so many; 0 = untrained")
    shared.add_argument("--prompts", type=Path, metavar="ARCHIVE", help="its captions stand in for prompts not given")
    shared.add_argument("--threads", type=threads, default=1)
    shared.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    shared.add_argument("--out", type=Path, required=True, help="the figure, .png; of `all`, a folder")
    parser = argparse.ArgumentParser(prog="python -m gigagan.edit", description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="EDIT")

    def edit(name: str, about: str, *, caption: str = "", truncation: bool = True) -> argparse.ArgumentParser:
        found = kinds.add_parser(name, parents=[shared], help=about, description=about)
        if caption:
            found.add_argument("--caption", nargs="+", metavar="TEXT", help=caption)
        if truncation:
            add_truncation(found)
        return found

    def seed(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seed", type=natural, default=0)

    def seeds(parser: argparse.ArgumentParser, name: str, default: list[int] | None) -> None:
        parser.add_argument(name, type=numbers, default=default, metavar="SEEDS", help="such as 0-3,7")

    def layer(parser: argparse.ArgumentParser) -> None:
        about = "the first fine level, counted from 4 px = 0; as a rule the middle one"
        # Which levels there are is known, and said, when the run is.
        parser.add_argument("--layer", type=whole(-(2**63)), metavar="LEVEL", help=about)

    sweep = edit("truncation", "psi from 1 down, several z a prompt", caption="one or more", truncation=False)
    sweep.add_argument("--psi", type=fractions, default=PSIS, metavar="NUMBERS")
    sweep.add_argument("--towards", choices=("prompt", "overall"), default="prompt", help="the mean of what")
    seeds(sweep, "--seeds", None)
    latent = edit("interpolate", "from seed to seed, a row per prompt", caption="one or more")
    seeds(latent, "--seeds", [0, 1])
    latent.add_argument("--steps", type=whole(2, 999), default=8, help="pictures from seed to seed, both included")
    latent.add_argument("--space", choices=("z", "w"), default="z", help="z: along the sphere; w: along a line")
    corners = edit("prompts", "a grid between four prompts, one z (Fig. 7)", caption="four: the corners, row by row")
    corners.add_argument("--rows", type=whole(2, 99), default=3)
    corners.add_argument("--columns", type=whole(2, 99), default=5)
    seed(corners)
    styles = edit("styles", "coarse levels of one seed, fine ones of another (Fig. 6)", caption="one")
    seeds(styles, "--coarse", [0, 1, 2])
    seeds(styles, "--fine", [3, 4, 5, 6, 7])
    layer(styles)
    mix = edit("mix", "coarse levels of one prompt, fine ones of another (Fig. 8)")
    mix.add_argument("--coarse", nargs="+", metavar="TEXT", help="one or more")
    mix.add_argument("--fine", nargs="+", metavar="TEXT", help="one or more")
    layer(mix)
    seed(mix)
    sums = edit("arithmetic", "A - strength * B + strength * C", caption="A")
    sums.add_argument("--minus", nargs=1, metavar="TEXT", help="B")
    sums.add_argument("--plus", nargs=1, metavar="TEXT", help="C")
    sums.add_argument("--strengths", type=fractions, default=STRENGTHS, metavar="NUMBERS")
    seeds(sums, "--seeds", list(range(6)))
    edit("all", "every figure, into a folder", truncation=False)
    return parser.parse_args(words)


class Makers:
    """The figures of one sampler, each made of its subcommand's options; what is not given comes from an archive, or,
    where a run learned classes, from their names."""

    def __init__(self, sampler: GeneratorSampler, archive: Path | None) -> None:
        self.sampler = sampler
        self.known: Prompts | None = None
        encode = sampler.encode
        if encode.kind == "none":
            self.known = Prompts("", [""] * 4, [""], [""])
            return
        found = list(dict.fromkeys(prompt["caption"] for prompt in read_prompts(archive))) if archive else []
        if encode.kind == "class":  # words exchanged between two names seldom make a third
            self.known = plainly(found or [*encode.classes] or [str(i) for i in range(encode.n_classes)])
        elif archive:
            self.known = suggest(found)

    def prompts(self, given: list[str] | None, option: str, fallback: Callable[[Prompts], list[str]]) -> list[str]:
        """Those given, checked, or else those that ``fallback`` takes. Raises UserError where there are neither."""
        if given and self.sampler.encode.kind != "none":
            self.sampler.encode.count_cut(check_prompts(given))
            return given
        if self.known is None:
            raise UserError(f"say {option} TEXT, or --prompts with an image archive whose captions can stand in")
        return fallback(self.known)

    def one(self, given: list[str] | None, option: str, fallback: Callable[[Prompts], str]) -> str:
        found = self.prompts(given, option, lambda known: [fallback(known)])
        if len(found) > 1:
            raise UserError(f"{option}: one prompt, not {len(found)}")
        return found[0]

    def cut(self, layer: int | None) -> tuple[int, str]:
        """The layer cut, checked, and what lies on either side of it in words."""
        sides = self.sampler.resolutions
        cut = latents.check_cut(len(sides) // 2 if layer is None else layer, sides)
        coarse, fine = (", ".join(map(str, part)) for part in (sides[:cut], sides[cut:]))
        return cut, f"Coarse levels: {coarse} px; fine levels: {fine} px."

    def every(self) -> dict[str, list[str]]:
        """{name of a figure: its subcommand with its options}. Raises UserError where there are no prompts to take."""
        if self.sampler.encode.kind == "none":  # no prompts to mix
            return {name: [name] for name in ("truncation", "interpolate", "styles")}
        if self.known is None:
            raise UserError("all figures: say --prompts with an image archive, whose captions are drawn")
        names = ("truncation", "interpolate", "prompts", "styles", "mix", "arithmetic")
        figures = {name: [name] for name in names}
        if self.sampler.style_mean is not None:
            figures["truncation_overall"] = ["truncation", "--towards", "overall"]
        return figures

    def truncation(self, args: argparse.Namespace) -> Sheet:
        if args.towards == "prompt":  # many z of one prompt become one picture; or many prompts do
            captions, seeds = self.prompts(args.caption, "--caption", lambda known: [known.plain]), list(range(6))
        else:
            captions, seeds = self.prompts(args.caption, "--caption", lambda known: known.corners + known.fine[1:]), [0]
        pairs = [(caption, seed) for caption in captions for seed in args.seeds or seeds]
        images = truncated(self.sampler, [c for c, _ in pairs], [s for _, s in pairs], args.psi, args.towards)
        columns = [f"ψ = {psi:g}" for psi in args.psi]
        mean = "the prompt's mean style" if args.towards == "prompt" else "the mean style of the training captions"
        of = f"Prompt: {captions[0]}. " if len(captions) == 1 and captions[0] else ""
        rows = [f"seed {seed}" if of or not caption else f"{caption}, seed {seed}" for caption, seed in pairs]
        return Sheet(images, rows, columns, f"{of}Truncation towards {mean}; one z a row, one noise for all.")

    def interpolate(self, args: argparse.Namespace, truncation: Truncation) -> Sheet:
        captions = self.prompts(args.caption, "--caption", lambda known: known.corners)
        n, how = len(args.seeds), (args.seeds, args.steps, args.space, truncation)
        images = np.stack([along(self.sampler, [caption] * n, *how) for caption in captions])
        ends = {i * (args.steps - 1): f"seed {seed}" for i, seed in enumerate(args.seeds)}
        columns = [ends.get(i, "") for i in range(images.shape[1])]
        path = "z along the sphere" if args.space == "z" else "w along straight lines"
        return Sheet(images, captions, columns, f"From seed to seed: {path}, the noise of the first one throughout.")

    def corners(self, args: argparse.Namespace, truncation: Truncation) -> Sheet:
        captions = self.prompts(args.caption, "--caption", lambda known: known.corners)
        images = between_corners(self.sampler, captions, args.rows, args.columns, args.seed, truncation)
        note = f"Prompts interpolated bilinearly between the corners; one z and one noise for all, seed {args.seed}."
        return Sheet(images, corners=captions, note=note)

    def styles(self, args: argparse.Namespace, truncation: Truncation) -> Sheet:
        caption, (cut, sides) = self.one(args.caption, "--caption", lambda known: known.plain), self.cut(args.layer)
        coarse, fine = ([(caption, seed) for seed in seeds] for seeds in (args.coarse, args.fine))
        images = mixed(self.sampler, coarse, fine, cut, truncation)
        rows = ["fine style of", *(f"coarse style of seed {seed}" for seed in args.coarse)]
        of = f"Prompt: {caption}. " if caption else ""
        note = f"{of}{sides} The first row and column are drawn with one style alone."
        return Sheet(images, rows, ["", *(f"seed {seed}" for seed in args.fine)], note)

    def mix(self, args: argparse.Namespace, truncation: Truncation) -> Sheet:
        first = self.prompts(args.coarse, "--coarse", lambda known: known.coarse)
        then = self.prompts(args.fine, "--fine", lambda known: known.fine)
        cut, sides = self.cut(args.layer)
        coarse, fine = ([(caption, args.seed) for caption in part] for part in (first, then))
        images = mixed(self.sampler, coarse, fine, cut, truncation)
        note = f"Rows give the coarse levels their prompt, columns the fine ones. {sides} The first row and column"
        columns = ["no mixing", *then]
        return Sheet(images, ["no mixing", *first], columns, f"{note} are of one prompt alone. Seed {args.seed}.")

    def arithmetic(self, args: argparse.Namespace, truncation: Truncation) -> Sheet:
        a = self.one(args.caption, "--caption", lambda known: known.corners[2])
        b = self.one(args.minus, "--minus", lambda known: known.corners[0])
        c = self.one(args.plus, "--plus", lambda known: known.corners[1])
        images = calculated(self.sampler, (a, b, c), args.strengths, args.seeds, truncation)
        rows = ["A" if not s else "A − B + C" if s == 1 else f"A − {s:g} B + {s:g} C" for s in args.strengths]
        note = f"A: {a}. B: {b}. C: {c}. Sums of w, drawn with the words of A."
        return Sheet(images, rows, [f"seed {seed}" for seed in args.seeds], note)


def main() -> None:
    args = arguments()
    folder = args.out if args.kind == "all" else args.out.parent
    if args.kind != "all" and args.out.suffix != ".png":
        raise UserError(f"--out {args.out}: must end in .png (an .svg is written beside it)")
    check_writable(folder)
    torch.set_num_threads(args.threads)
    sampler = load(args.run, args.device, args.snapshot)
    given = (getattr(args, name, None) for name in ("truncation", "global_truncation"))
    truncation = sampler.truncation.but(*given)
    make = Makers(sampler, args.prompts)
    sheets: dict[str, Callable[[argparse.Namespace], Sheet]] = {
        "truncation": make.truncation,
        "interpolate": lambda options: make.interpolate(options, truncation),
        "prompts": lambda options: make.corners(options, truncation),
        "styles": lambda options: make.styles(options, truncation),
        "mix": lambda options: make.mix(options, truncation),
        "arithmetic": lambda options: make.arithmetic(options, truncation),
    }
    made = {args.out: lambda: sheets[args.kind](args)}
    if args.kind == "all":
        made = {
            folder / f"{name}.png": functools.partial(sheets[words[0]], arguments([*words, "--run", "-", "--out", "-"]))
            for name, words in make.every().items()
        }
    # All pictures first, so that a mistake leaves no file.
    for path, sheet in {path: draw() for path, draw in made.items()}.items():
        save(sheet, path)
    sampler.tally.warn(args.out)


if __name__ == "__main__":
    command(main)
