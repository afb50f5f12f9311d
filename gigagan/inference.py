"""Drawing with weights that stay as they are: what follows from weights alone is computed once, not in every call.

Training computes gains, the inner products of a bank's kernels and the order of weights in memory anew in every pass,
because weights change between passes. Here they are kept, which leaves every formula as it is: pictures are the same
but for rounding. bf16 and compilation are for those who ask.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigagan import prepared
from gigagan.errors import UserError
from gigagan.networks.conv import Conv
from gigagan.networks.generator import Level, Synthesis
from gigagan.networks.parameters import Linear

Dtype = Literal["fp32", "bf16"]
S = TypeVar("S")


def faster(sampler: S, dtype: Dtype = "fp32", compile: bool = False) -> S:
    """The same sampler (a GeneratorSampler or an Upsampling), whose network is prepared as ``prepare`` does.

    Raises UserError as that.
    """
    network = sampler.generator if hasattr(sampler, "generator") else sampler.network  # type: ignore[attr-defined]
    prepare(network, dtype, compile)
    return sampler


@torch.no_grad()
def prepare(network: Synthesis, dtype: Dtype = "fp32", compile: bool = False) -> Synthesis:
    """The same network, which from now on draws with what its weights of this moment give, on their device.

    Its parameters stay as they are, so that it can be saved, or prepared again otherwise; what is kept beside them
    takes, on a CPU, at most about twice their memory. It must be neither trained nor moved then. Elsewhere levels stay
    as they are but for their gains: one convolution a picture is too many calls for a GPU.

    Args:
        dtype: bf16 computes levels, not text and styles, under autocast. Slower than fp32 on a CPU without AMX.
        compile: T, mapping and levels go through ``torch.compile``, on a GPU as CUDA graphs; the first picture of each
            batch size then takes minutes (on a CPU).

    Raises UserError for compilation on a CPU without a C++ compiler.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    compiler = os.environ.get("CXX", "g++")
    if compile and on_cpu and not shutil.which(compiler):
        raise UserError(f"--compile: no C++ compiler ({compiler}) on this machine: install one, or draw without")
    prepare_layers(network.eval().requires_grad_(False), on_cpu)
    draw: Callable[..., list[Tensor]] = partial(type(network).synthesise, network)
    if dtype == "bf16":
        draw = _in_bf16(draw)
    if compile:
        how = {"mode": None if on_cpu else "reduce-overhead", "dynamic": False}
        draw = torch.compile(draw, **how)
        network.text.compile(**how)
        network.mapping.compile(**how)
    network.synthesise = draw  # type: ignore[method-assign]
    return network


@torch.no_grad()
def prepare_layers(module: nn.Module, on_cpu: bool = True) -> None:
    """Let every layer in it compute with what its weights of this moment give."""
    for layer in module.modules():
        make = _MAKERS.get(type(layer))
        if make and (on_cpu or make is not prepared.level):
            layer.forward = make(layer)


def _in_bf16(draw: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    def autocast(styles: list[Any], noise: Tensor, *inputs: Tensor) -> list[Tensor]:
        with torch.autocast(noise.device.type, torch.bfloat16):
            return [image.float() for image in draw(styles, noise, *inputs)]

    return autocast


def _linear(layer: Linear) -> Callable[[Tensor], Tensor]:
    weight = prepared.matrix(layer)[0].T  # in the order that a product reads without sorting it first
    bias = None if layer.bias is None else layer.bias * layer.lr_multiplier
    return lambda x: F.linear(x, weight, bias)


def _conv(layer: Conv) -> Callable[[Tensor], Tensor]:
    weight = (layer.weight * layer.gain).contiguous(memory_format=torch.channels_last)
    return lambda x: F.conv2d(x, weight, layer.bias, stride=layer.stride, padding=layer.padding)


_MAKERS: dict[type, Callable] = {Linear: _linear, Conv: _conv, Level: prepared.level}
