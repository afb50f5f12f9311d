"""Parameters whose initial value is keyed by seed and name, and linear layers with an equalised learning rate.

Two variants of a network at one seed start alike wherever they are alike: a parameter's value depends on the seed, on
its own name and on its shape, never on which other parameters exist or in which order they were made.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LEAK = 0.2
# What a layer followed by leaky_relu multiplies its output by, so that the variance stays near one. It belongs to the
# layer (leaky_relu is positively homogeneous), where it costs no pass over the features.
ACTIVATION_GAIN = math.sqrt(2)


def normal(*shape: int, std: float = 1.0) -> nn.Parameter:
    """A parameter to be drawn from N(0, std^2) by ``initialise``."""
    parameter = nn.Parameter(torch.empty(*shape))
    parameter.initial = ("normal", std)  # type: ignore[attr-defined]
    return parameter


def constant(*shape: int, value: float = 0.0) -> nn.Parameter:
    """A parameter to be filled with one value by ``initialise``."""
    parameter = nn.Parameter(torch.empty(*shape))
    parameter.initial = ("constant", value)  # type: ignore[attr-defined]
    return parameter


def derive(*key: object) -> int:
    """A 63-bit seed from any key: independent streams for independent keys."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@torch.no_grad()
def initialise(module: nn.Module, seed: int, scope: str) -> None:
    """Give every parameter of ``module`` its initial value, keyed by (seed, scope, name).

    Raises TypeError for a parameter that was made by neither ``normal`` nor ``constant``.
    """
    for name, parameter in module.named_parameters():
        kind, value = getattr(parameter, "initial", (None, 0.0))
        if kind == "constant":
            parameter.fill_(value)
        elif kind == "normal":
            generator = torch.Generator().manual_seed(derive(seed, scope, name))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * value)
        else:
            raise TypeError(f"{scope}.{name}: made by neither normal() nor constant()")


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAK)


def residual(x: Tensor, y: Tensor, gain: float) -> Tensor:
    """(x + gain * y) / sqrt(1 + gain^2)

    Deviation: the paper prints the gain alone; without the division the features of the deep models grow from block to
    block, a hundredfold in the 64 to 512 px upsampler, before anything is learned.
    """
    return torch.add(x, y, alpha=gain) / math.sqrt(1 + gain * gain)


class Linear(nn.Module):
    """y = x W^T + b with an equalised learning rate (Karras et al. 2018): W ~ N(0, 1), scaled by 1/sqrt(fan-in).

    [..., n_in] -> [..., n_out]
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: float | None = 0.0,  # initial value; None = no bias
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
        zero: bool = False,  # start with no weight at all: a residual branch that is not there yet
    ) -> None:
        super().__init__()
        self.weight = constant(n_out, n_in) if zero else normal(n_out, n_in, std=1 / lr_multiplier)
        self.bias = None if bias is None else constant(n_out, value=bias / lr_multiplier)
        self.gain = gain * lr_multiplier / math.sqrt(n_in)
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.gain, bias)


class Recomputing(nn.Module):
    """A network whose large parts may be computed again in the backward pass instead of being kept (gradient
    checkpointing): the same numbers in a fraction of the memory, for about a third more time."""

    recompute = False

    def part(self, module: nn.Module, *inputs: Any) -> Any:
        """``module(*inputs)``"""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
        return module(*inputs)
