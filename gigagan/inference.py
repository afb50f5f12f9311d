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

from gigagan.errors import UserError
from gigagan.networks.conv import EPSILON, AdaptiveConv, Conv
from gigagan.networks.generator import Synthesis
from gigagan.networks.parameters import ACTIVATION_GAIN, Linear

FEW_PIXELS = 64
"""Up to so many, a bank is cheaper as one wide matrix product than as one kernel a sample (measured on a CPU)."""

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
    takes, on a CPU, about twice their memory. It must be neither trained nor moved then. Elsewhere adaptive
    convolutions stay as they are: one a picture is too many calls for a GPU.

    Args:
        dtype: bf16 computes levels, not text and styles, under autocast. Slower than fp32 on a CPU without AMX.
        compile: levels go through ``torch.compile``, on a GPU as CUDA graphs; the first picture of each batch size then
            takes minutes (on a CPU).

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
        draw = torch.compile(draw, mode=None if on_cpu else "reduce-overhead", dynamic=False)
    network.synthesise = draw  # type: ignore[method-assign]
    return network


@torch.no_grad()
def prepare_layers(module: nn.Module, on_cpu: bool = True) -> None:
    """Let every layer in it compute with what its weights of this moment give."""
    for layer in module.modules():
        make = _MAKERS.get(type(layer))
        if make and (on_cpu or make is not _adaptive_conv):
            layer.forward = make(layer)


def _in_bf16(draw: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    def autocast(styles: list[Any], noise: Tensor, *inputs: Tensor) -> list[Tensor]:
        with torch.autocast(noise.device.type, torch.bfloat16):
            return [image.float() for image in draw(styles, noise, *inputs)]

    return autocast


def _linear(layer: Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight * layer.gain
    bias = None if layer.bias is None else layer.bias * layer.lr_multiplier
    return lambda x: F.linear(x, weight, bias)


def _conv(layer: Conv) -> Callable[[Tensor], Tensor]:
    weight = (layer.weight * layer.gain).contiguous(memory_format=torch.channels_last)
    return lambda x: F.conv2d(x, weight, layer.bias, stride=layer.stride, padding=layer.padding)


def _adaptive_conv(layer: AdaptiveConv) -> Callable[[Tensor, Tensor], Tensor]:
    """``AdaptiveConv.forward``: the bank's outputs mixed where there are few pixels, else one kernel a sample; one
    plain convolution where there is no bank."""
    bank = layer.bank * layer.gain
    n, n_out, n_in, k, _ = bank.shape
    # Both orders have a pixel's channels as neighbours, as the features have.
    flat = bank.permute(0, 1, 3, 4, 2).reshape(n, -1).contiguous()
    wide = bank.permute(3, 4, 2, 0, 1).reshape(k * k * n_in, n * n_out).contiguous()
    first, second = torch.triu_indices(n, n)
    # <K_i, K_j> for i <= j, those with i < j twice; [pairs * n_in, n_out]
    products = torch.einsum("poikl,poikl->pio", bank[first], bank[second]) * (1 + (first < second))[:, None, None]
    products = products.flatten(0, 1)

    def demodulation(scale: Tensor, choice: Tensor) -> Tensor:
        pairs = choice[:, first] * choice[:, second]
        power = (pairs[:, :, None] * scale.square()[:, None]).flatten(1) @ products
        return (power + EPSILON).rsqrt() * ACTIVATION_GAIN

    def mix_outputs(x: Tensor, scale: Tensor, choice: Tensor) -> Tensor:
        """x [B, H, W, n_in] -> [B, H, W, n_out]"""
        h, w = x.shape[1:3]
        x = F.pad(x * scale[:, None, None], (0, 0, *(k // 2,) * 4)) if k > 1 else x * scale[:, None, None]
        seen = torch.cat([x[:, i : i + h, j : j + w] for i in range(k) for j in range(k)], -1)
        y = (seen.flatten(0, 2) @ wide).view(*seen.shape[:3], n, n_out)
        shares = choice[:, :, None]
        if layer.demodulate:
            shares = shares * demodulation(scale, choice)[:, None]
        mixed = layer.bias.to(y.dtype)
        for part, share in zip(y.unbind(3), shares.unbind(1), strict=True):
            mixed = torch.addcmul(mixed, part, share[:, None, None].to(part.dtype))
        return mixed

    def mix_kernels(x: Tensor, scale: Tensor, choice: Tensor) -> Tensor:
        kernels = (choice @ flat).view(-1, n_out, k * k, n_in) * scale[:, None, None]
        if layer.demodulate:
            kernels *= (kernels.square().sum((2, 3), keepdim=True) + EPSILON).rsqrt() * ACTIVATION_GAIN
        kernels = kernels.view(-1, n_out, k, k, n_in).permute(0, 1, 4, 2, 3).to(x.dtype)
        # Neither one convolution in groups nor a copy of the features: each picture has a convolution of its own.
        each = zip(x.split(1), kernels, strict=True)
        return torch.cat([F.conv2d(part, kernel, layer.bias, padding=layer.padding) for part, kernel in each])

    def forward(x: Tensor, style: Tensor) -> Tensor:
        scale = layer.modulation(style)
        choice = scale.new_ones(len(scale), 1) if layer.selection is None else layer.selection(style).softmax(-1)
        if x.shape[2] * x.shape[3] > FEW_PIXELS:
            return mix_kernels(x, scale, choice)
        return mix_outputs(x.permute(0, 2, 3, 1), scale, choice).permute(0, 3, 1, 2)

    return forward


_MAKERS: dict[type, Callable] = {Linear: _linear, Conv: _conv, AdaptiveConv: _adaptive_conv}
