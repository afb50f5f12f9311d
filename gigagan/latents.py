"""What a picture is drawn from besides its caption, and what can be done with it: truncation, interpolation, mixing.

A picture's z and noise are a pure function of its seed. What a level of the generator is told is a ``Style``: w, which
z and the caption make, and the caption's own words. All edits are made of styles; a *level* is a resolution, numbered
from 0 (4 px) up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from numbers import Integral, Real

import torch
from torch import Tensor

from gigagan.errors import UserError, short
from gigagan.networks.condition import Condition
from gigagan.networks.generator import Style, Synthesis
from gigagan.networks.parameters import derive
from gigagan.networks.text import Text

MEAN_OVER = 256  # values of z whose styles a prompt's mean is taken over


def draw(seeds: list[int], z_dim: int, noise_dim: int) -> tuple[Tensor, Tensor]:
    """z [B, z_dim] and noise [B, noise_dim], N(0, 1), on the CPU.

    Each picture has its own generator, so it is the same picture in any batch, on any number of processes.
    """
    z = torch.empty(len(seeds), z_dim)
    noise = torch.empty(len(seeds), noise_dim)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        torch.randn(z_dim, generator=generator, out=z[row])
        torch.randn(noise_dim, generator=generator, out=noise[row])
    return z, noise


# -------------------------------------------------------------------------------------------------------- truncation


@dataclass(frozen=True)
class Truncation:
    """How far styles keep their distance from two means (Appendix C.1): 1 = all the way, 0 = not at all.

    Raises UserError for anything but a number from 0 to 1.
    """

    prompt: float = 1.0  # psi towards the mean over z of the picture's own prompt
    overall: float = 1.0  # psi, after that, towards the mean over the training captions

    def but(self, prompt: float | None = None, overall: float | None = None) -> Truncation:
        """This one, with what is given in place of its own."""
        return Truncation(self.prompt if prompt is None else prompt, self.overall if overall is None else overall)

    def __post_init__(self) -> None:
        names = {"prompt": "truncation", "overall": "global truncation"}
        for field in fields(self):
            psi = getattr(self, field.name)
            number = isinstance(psi, Real) and not isinstance(psi, bool)
            if not number or not 0 <= psi <= 1:  # NaN is not
                said = f"{names[field.name]} {short(psi)}"
                raise UserError(f"{said}: must be a number from 0 (the mean itself) to 1 (none)")
            object.__setattr__(self, field.name, float(psi))  # torch takes no number of NumPy's


def prompt_mean(network: Synthesis, total: Tensor) -> Tensor:
    """The mean style of each prompt over ``MEAN_OVER`` values of z, the same ones always.

    t_global [B, width] -> [B, w_dim]
    """
    z = _normal(MEAN_OVER, network.z_dim, derive("prompt mean")).to(total.device)
    # One prompt at a time: its mean is the same, to the bit, whichever prompts come with it.
    return torch.stack([network.mapping(z, t.expand(len(z), -1)).mean(0) for t in total])


@torch.inference_mode()
def global_mean(network: Synthesis, conditions: Iterable[Condition], seed: int) -> Tensor:
    """The mean style [w_dim], on the CPU, over batches of conditions, each with a z of its own.

    Raises ValueError where there are no conditions.
    """
    generator = torch.Generator().manual_seed(derive(seed, "style mean"))
    total, n = torch.zeros(0, dtype=torch.float64), 0
    for condition in conditions:
        t_global = network.text(condition).total
        # Row by row, so that it does not matter how the conditions are batched.
        z = torch.stack([torch.randn(network.z_dim, generator=generator) for _ in t_global])
        part = network.mapping(z.to(t_global.device), t_global).double().sum(0).cpu()
        total, n = (total + part if n else part), n + len(t_global)
    if not n:
        raise ValueError("no conditions to take a mean style over")
    return (total / n).float()


def truncate(network: Synthesis, style: Style, truncation: Truncation, overall: Tensor | None = None) -> Style:
    """Two interpolations of w (Appendix C.1): towards the mean of its prompt, then towards the global mean [w_dim].

    Raises UserError where the second is asked for and there is no global mean.
    """
    if truncation == Truncation():
        return style
    w = style.w
    if truncation.prompt < 1:
        w = torch.lerp(prompt_mean(network, style.text.total), w, truncation.prompt)
    if truncation.overall < 1:
        if overall is None:
            raise UserError(
                "global truncation: there is no style_mean.safetensors beside these weights, which training writes "
                "when it ends: train the run again, or truncate towards the prompt's mean alone"
            )
        w = torch.lerp(overall.to(w.device).expand_as(w), w, truncation.overall)
    return style._replace(w=w)


def _normal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------------------------------------------- interpolation


def path(stops: int, steps: int) -> Tensor:
    """Weights of the stops along a path from the first to the last one, ``steps`` pictures from stop to stop with both
    included: [(stops - 1) * (steps - 1) + 1, stops], rows that sum to one.

    Raises UserError for fewer than two stops or steps.
    """
    if stops < 2 or steps < 2:
        raise UserError(f"an interpolation needs two ends and two steps or more, not {stops} and {steps}")
    weights = torch.zeros((stops - 1) * (steps - 1) + 1, stops)
    for row in range(len(weights)):
        stop, step = divmod(row, steps - 1)
        weights[row, stop] = 1 - step / (steps - 1)
        if step:
            weights[row, stop + 1] = step / (steps - 1)
    return weights


def bilinear(rows: int, columns: int) -> Tensor:
    """Weights of four corners (top left, top right, bottom left, bottom right) over a grid: [rows * columns, 4]"""
    down = torch.linspace(0, 1, rows)[:, None] if rows > 1 else torch.zeros(1, 1)
    right = torch.linspace(0, 1, columns)[None] if columns > 1 else torch.zeros(1, 1)
    corners = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    return torch.stack(corners, dim=-1).flatten(0, 1)


def blend(text: Text, weights: Tensor) -> Text:
    """Weighted sums of T's outputs: Text of N prompts, weights [M, N] -> Text of M."""
    weights = weights.to(text.total)
    # End tokens of captions of different lengths stand at different places. A place where any of the captions that
    # take part has a word is attended to, or words would be lost; one with weight 0 takes no part, so that each
    # prompt stands at its corner exactly as it is.
    mask = ((weights != 0).to(weights) @ text.mask.to(weights)) > 0
    return Text((weights @ text.local.flatten(1)).unflatten(1, text.local.shape[1:]), mask, weights @ text.total)


def slerp(z: Tensor, weights: Tensor) -> Tensor:
    """Spherical interpolation: z [N, z_dim], weights [M, N] as ``path`` makes them -> [M, z_dim].

    In many dimensions N(0, 1) lies near a sphere: half-way along a straight line is a z that the mapping never saw.
    """
    rows = []
    for row in weights.tolist():
        ends = [i for i, weight in enumerate(row) if weight]
        a, b = z[ends[0]], z[ends[-1]]
        t = row[ends[-1]] if len(ends) > 1 else 0.0
        angle = math.acos(max(-1.0, min(1.0, float(torch.cosine_similarity(a, b, dim=0)))))
        if math.sin(angle) < 1e-4:  # the same direction, or opposite ones, between which no arc is the shortest
            rows.append(torch.lerp(a, b, t))
        else:
            rows.append((math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle) if t else a)
    return torch.stack(rows)


# ------------------------------------------------------------------------------------------------------------ mixing


def pick_text(text: Text, rows: list[int]) -> Text:
    """Some rows of a batch of texts, in any order and number."""
    return Text(*(part[rows] for part in text))


def pick(style: Style, rows: list[int]) -> Style:
    """Some rows of a batch of styles, in any order and number."""
    return Style(style.w[rows], pick_text(style.text, rows))


def check_cut(cut: object, resolutions: list[int]) -> int:
    """A layer cut: levels below it are coarse, from it on fine. Raises UserError where either would be empty."""
    if not isinstance(cut, Integral) or isinstance(cut, bool) or not 1 <= cut < len(resolutions):
        levels = ", ".join(f"{level} = {side} px" for level, side in enumerate(resolutions))
        raise UserError(
            f"layer {short(cut)}: must be from 1 to {len(resolutions) - 1}: levels below it are coarse, from it on "
            f"fine (levels: {levels})"
        )
    return int(cut)


def mix(network: Synthesis, coarse: Style, fine: Style, cut: int) -> list[Style]:
    """One style a level: ``coarse`` below level ``cut``, ``fine`` from it on; errors as ``check_cut``."""
    check_cut(cut, [level.resolution for level in network.levels])
    return [coarse] * cut + [fine] * (len(network.levels) - cut)


def mix_noise(network: Synthesis, coarse: Tensor, fine: Tensor, cut: int) -> Tensor:
    """The noise [B, noise_dim] that goes with ``mix``: each level's comes with its style."""
    split = network.noise_dim - sum(network.noise_sizes[cut:])
    return torch.cat([coarse[:, :split], fine[:, split:]], dim=1)
