"""A level of a generator as a CPU draws it fastest: the formulas of ``gigagan.networks``, ordered otherwise.

One matrix product makes all that a level's style decides. Kernels are mixed in the order in memory in which they are
used; scales are multiplied into whichever is smaller, features or kernels. Gains, residual ones included, are part of
the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gigagan.networks.attention import Block, CrossAttention, SelfAttention, _heads, _merge, distance_attention
from gigagan.networks.conv import EPSILON, AdaptiveConv
from gigagan.networks.generator import Level
from gigagan.networks.parameters import ACTIVATION_GAIN, LEAK, Linear, residual
from gigagan.networks.text import Text

FEW_PIXELS = 64
"""Up to so many, gathered neighbourhoods times a matrix are faster than a convolution, which sorts its kernel first
(measured on a CPU)."""


def matrix(*layers: Linear) -> tuple[Tensor, Tensor]:
    """Layers side by side as one: weight [n_in, n_out] in this order in memory, which a matrix product reads without
    sorting it first, and bias [n_out]."""
    weight = torch.cat([layer.weight * layer.gain for layer in layers]).T.contiguous()
    biases = [of.weight.new_zeros(len(of.weight)) if of.bias is None else of.bias * of.lr_multiplier for of in layers]
    return weight, torch.cat(biases)


def level(layer: Level) -> Callable[[Tensor, Tensor, Text, Tensor], tuple[Tensor, Tensor]]:
    """``Level.forward``"""
    noisy = [conv for block in layer.blocks for conv in block.convs]
    coloured = [*layer.early_rgb, layer.to_rgb]
    adaptive = [conv.conv for conv in noisy]
    affines = [conv.modulation for conv in adaptive + coloured]
    widths = [len(affine.weight) for affine in affines]
    n = len(adaptive[0].bank)
    if n > 1:
        affines += [conv.selection for conv in adaptive]
        widths.append(n * len(adaptive))
    weight, bias = matrix(*affines)
    convs = [adaptive_conv(conv, layer.resolution) for conv in adaptive]
    rgbs = [to_rgb(conv) for conv in coloured]
    strengths = torch.stack([conv.noise_strength for conv in noisy])  # [convs, 1]
    layers = [
        (None if part.self_block is None else block(part.self_block),
         None if part.cross_block is None else block(part.cross_block))
        for part in layer.attention
    ]  # fmt: skip

    def forward(x: Tensor, style: Tensor, text: Text, noise: Tensor) -> tuple[Tensor, Tensor]:
        told = torch.addmm(bias, style, weight).split(widths, 1)
        scales, colours = told[: len(convs)], told[len(convs) : len(convs) + len(rgbs)]
        noises = (noise.view(len(x), len(convs), -1) * strengths).unbind(1)
        mixtures = mixed(told[-1].view(len(x), len(convs), n)) if n > 1 else [None] * len(convs)
        steps = iter(zip(convs, scales, mixtures, noises, strict=True))
        images = []
        for i, part in enumerate(layer.blocks):
            y = x
            for _ in part.convs:
                conv, *inputs = next(steps)
                y = conv(y, *inputs)
            skipped = x if part.skip is None else part.skip(x)
            x = y if part.residual_gain is None else residual(skipped, y, part.residual_gain)
            if i < len(layer.early_rgb):
                images.append(rgbs[i](x, colours[i]))
        for attend, read in layers:
            x = attend(x, style) if attend else x
            x = read(x, text.local, text.mask) if read else x
        return x, sum(images, start=rgbs[-1](x, colours[-1]))

    return forward


class Mixture(NamedTuple):
    """What is taken of each kernel of a bank."""

    choice: Tensor  # [B, N]
    pairs: Tensor  # [B, N (N + 1) / 2], products of two of its entries


def mixed(logits: Tensor) -> list[Mixture]:
    """The mixtures of several banks at once, from logits [B, banks, N]."""
    n = logits.shape[2]
    first, second = torch.triu_indices(n, n)
    choice = logits.softmax(2)
    pairs = (choice[..., None] * choice[:, :, None]).flatten(2).index_select(2, n * first + second)
    return list(map(Mixture, choice.unbind(1), pairs.unbind(1)))


def adaptive_conv(layer: AdaptiveConv, side: int) -> Callable[[Tensor, Tensor, Mixture | None, Tensor], Tensor]:
    """``NoisyConv.forward`` on features of ``side`` px.

    x [B, n_in, side, side], scale [B, n_in], mixture (None without a bank), scaled noise [B, side * side]
    -> [B, n_out, side, side]
    """
    bank = layer.bank * layer.gain
    n, n_out, n_in, k, _ = bank.shape
    few = side * side <= FEW_PIXELS
    order = (0, 3, 4, 2, 1) if few else (0, 1, 3, 4, 2)
    flat = bank.permute(order).reshape(n, -1).contiguous()
    first, second = torch.triu_indices(n, n)
    # <K_i, K_j> for i <= j, those with i < j twice; [pairs * n_in, n_out]
    products = torch.einsum("poikl,poikl->pio", bank[first], bank[second]) * (1 + (first < second))[:, None, None]
    products = products.flatten(0, 1) / ACTIVATION_GAIN**2

    def demodulation(scale: Tensor, mixture: Mixture | None) -> Tensor:
        """ACTIVATION_GAIN / norm of each picture's modulated kernels, [B, n_out]"""
        power = scale.square()
        if mixture:
            power = (mixture.pairs[:, :, None] * power[:, None]).flatten(1)
        return (power @ products).add_(EPSILON / ACTIVATION_GAIN**2).rsqrt_()

    def gathered(x: Tensor, scale: Tensor, mixture: Mixture | None, noise: Tensor) -> Tensor:
        kernels = (mixture.choice @ flat if mixture else flat).view(-1, k * k * n_in, n_out)
        x = x.permute(0, 2, 3, 1) * scale[:, None, None]
        y = neighbourhoods(x, k) @ (kernels if mixture else kernels[0])
        shift = noise[:, :, None] + layer.bias
        y = torch.addcmul(shift, y, demodulation(scale, mixture)[:, None]) if layer.demodulate else y + shift
        return F.leaky_relu(y, LEAK, inplace=True).view(-1, side, side, n_out).permute(0, 3, 1, 2)

    def convolved(x: Tensor, scale: Tensor, mixture: Mixture | None, noise: Tensor) -> Tensor:
        kernels = (mixture.choice @ flat if mixture else flat).view(-1, n_out, k * k, n_in)
        scales = scale[:, None]
        if layer.demodulate:
            scales = scales * demodulation(scale, mixture)[:, :, None]
        kernels = (kernels * scales[:, :, None]).view(-1, n_out, k, k, n_in).permute(0, 1, 4, 2, 3).to(x.dtype)
        # Neither one convolution in groups nor a copy of the features: each picture has a convolution of its own.
        each = [F.conv2d(*pair, layer.bias, padding=k // 2) for pair in zip(x.split(1), kernels, strict=True)]
        y = each[0] if len(each) == 1 else torch.cat(each)
        return F.leaky_relu(y.add_(noise.view(-1, 1, side, side)), LEAK, inplace=True)

    return gathered if few else convolved


def neighbourhoods(x: Tensor, k: int) -> Tensor:
    """Every pixel with those around it, zero beyond the border: [B, H, W, C] -> [B, H * W, k * k * C]"""
    b, h, w, c = x.shape
    x = F.pad(x, (0, 0, *(k // 2,) * 4)).contiguous()
    # A row of a neighbourhood lies in one piece in memory, so that one copy of long pieces does.
    image, row, pixel, _ = x.stride()
    return x.as_strided((b, h, w, k, k * c), (image, row, pixel, row, 1)).reshape(b, h * w, k * k * c)


def to_rgb(layer: AdaptiveConv) -> Callable[[Tensor, Tensor], Tensor]:
    """``AdaptiveConv.forward`` of 1 x 1 kernels without a bank or demodulation.

    x [B, n_in, H, W], scale [B, n_in] -> [B, 3, H, W]
    """
    weight = (layer.bank[0, :, :, 0, 0] * layer.gain).T.contiguous()

    def forward(x: Tensor, scale: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        y = torch.baddbmm(layer.bias, pixels, weight * scale[:, :, None])
        return y.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)

    return forward


def block(layer: Block) -> Callable[..., Tensor]:
    """``Block.forward``"""
    keep = 1 / math.sqrt(1 + layer.gain**2)
    makers = {SelfAttention: self_attention, CrossAttention: cross_attention}
    attend = None if layer.attention is None else makers[type(layer.attention)](layer.attention)
    expand, bias = matrix(layer.mlp.expand)

    def added(last: Linear) -> Callable[[Tensor, Tensor], Tensor]:
        """residual(x, last(y), gain)"""
        weight, bias = (part * layer.gain * keep for part in matrix(last))
        return lambda x, y: torch.addmm(x, y.flatten(0, 1), weight, beta=keep).add_(bias)

    out = None if layer.attention is None else added(layer.attention.out)
    contract = added(layer.mlp.contract)

    def forward(x: Tensor, *context: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(-1, c)
        if attend is not None:
            x = out(x, attend(x.view(b, -1, c), *context))
        x = contract(x, F.gelu(torch.addmm(bias, x, expand))[None])
        return x.view(b, h, w, c).permute(0, 3, 1, 2)

    return forward


def self_attention(layer: SelfAttention) -> Callable[[Tensor, Tensor], Tensor]:
    """``SelfAttention.forward`` without its last layer. x [B, T, width], style [B, w_dim] -> [B, T, inner]"""
    weight, bias = matrix(layer.query_key, layer.value)
    weight, token = weight.T, layer.style_token

    def forward(x: Tensor, style: Tensor) -> Tensor:
        context = x if token is None else torch.cat([x, token(style).to(x.dtype)[:, None]], 1)
        query_key, value = (_heads(part, layer.n_heads) for part in F.linear(context, weight, bias).chunk(2, 2))
        return _merge(distance_attention(query_key[:, :, : x.shape[1]], query_key, value))

    return forward


def cross_attention(layer: CrossAttention) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """``CrossAttention.forward`` without its last layer.

    x [B, T, width], text [B, C, text_width], mask [B, C] bool -> [B, T, inner]
    """
    query, query_bias = matrix(layer.query)
    scale = 1 / math.sqrt(len(query_bias) // layer.n_heads)
    query, query_bias = (query * scale).T, query_bias * scale
    key_value, bias = matrix(layer.key, layer.value)
    key_value = key_value.T

    def forward(x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        asked = _heads(F.linear(x, query, query_bias), layer.n_heads).flatten(0, 1)
        keys, values = (
            _heads(part, layer.n_heads).flatten(0, 1) for part in F.linear(text, key_value, bias).chunk(2, 2)
        )
        unseen = torch.zeros_like(mask, dtype=asked.dtype).masked_fill_(~mask, -math.inf)[:, None]
        # Few keys: two plain products are faster than one fused attention.
        shares = torch.baddbmm(unseen.repeat_interleave(layer.n_heads, 0), asked, keys.mT).softmax(-1)
        return _merge((shares @ values).unflatten(0, (len(x), -1)))

    return forward
