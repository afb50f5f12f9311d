"""The networks in plain tensor operations on their parameters by name: what the tests hold the layers to.

Nothing of gigagan is used here, and nothing of how it computes: no batch of levels, no bank mixed in its outputs, no
fused attention, no strides. Gains, scales and constants are the paper's and StyleGAN2's, as numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Parameters = dict[str, Tensor]
"""What a part of a network consists of: name within the part -> value."""


def of(module: torch.nn.Module) -> Parameters:
    return dict(module.named_parameters())


def part(p: Parameters, name: str) -> Parameters:
    return {key.removeprefix(f"{name}."): value for key, value in p.items() if key.startswith(f"{name}.")}


def parts(p: Parameters, name: str) -> list[Parameters]:
    """Those of a list of parts, in order."""
    n = len({key.split(".")[0] for key in part(p, name)})
    return [part(p, f"{name}.{k}") for k in range(n)]


def agree(found: Tensor, wanted: Tensor, inputs: list[Tensor], **tolerances: float) -> None:
    """Asserts that two ways to compute something have the same outputs and the same gradients in every input."""
    torch.testing.assert_close(found, wanted, **tolerances)
    upstream = torch.randn_like(wanted)
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, upstream) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerances)


# Layers ---------------------------------------------------------------------------------------------------------------


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def linear(p: Parameters, x: Tensor, gain: float = 1.0, lr_multiplier: float = 1.0) -> Tensor:
    """W x + b with the equalised learning rate's scale, 1 / sqrt(fan-in). [..., n_in] -> [..., n_out]"""
    y = x @ p["weight"].T * (gain * lr_multiplier / math.sqrt(x.shape[-1]))
    return y + p["bias"] * lr_multiplier if "bias" in p else y


def conv(p: Parameters, x: Tensor, gain: float = 1.0) -> Tensor:
    """[B, n_in, H, W] -> [B, n_out, H, W]"""
    kernel = p["weight"] * (gain / math.sqrt(p["weight"][0].numel()))
    y = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    return y + p["bias"][:, None, None] if "bias" in p else y


def adaptive_conv(p: Parameters, images: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """Eq. 1 and 2 with StyleGAN2's demodulation, one image after the other; demodulated, sqrt(2) makes up for what the
    leaky ReLU takes."""
    outputs = []
    for image, w in zip(images, styles, strict=True):
        bank = p["bank"] / math.sqrt(p["bank"][0, 0].numel())
        shares = linear(part(p, "selection"), w).softmax(0) if "selection.weight" in p else torch.ones(1)
        kernel = sum(share * k for share, k in zip(shares, bank, strict=True))
        modulated = kernel * linear(part(p, "modulation"), w)[None, :, None, None]
        if demodulate:
            rows = [row / torch.sqrt(row.square().sum() + 1e-8) * math.sqrt(2) for row in modulated]
            modulated = torch.stack(rows)
        outputs.append(F.conv2d(image[None], modulated, p["bias"], padding=kernel.shape[-1] // 2)[0])
    return torch.stack(outputs)


def halve(x: Tensor) -> Tensor:
    """The mean of 2 x 2 pixels."""
    return (x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 4


def double(x: Tensor) -> Tensor:
    """Every new pixel lies a quarter of a pixel beside an old one; edges are continued."""
    for dim in (2, 3):
        x = x.movedim(dim, 0)
        before, after = torch.cat([x[:1], x[:-1]]), torch.cat([x[1:], x[-1:]])
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1).flatten(0, 1).movedim(0, dim)
    return x


def resize(x: Tensor, side: int) -> Tensor:
    while x.shape[-1] > side:
        x = halve(x)
    while x.shape[-1] < side:
        x = double(x)
    return x


def residual(x: Tensor, y: Tensor, gain: float) -> Tensor:
    return (x + gain * y) / math.sqrt(1 + gain**2)


def normalise(x: Tensor) -> Tensor:
    """Zero mean and unit variance over the last dimension."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """[B, C, H, W] -> [B]: of every group of neighbours, at every place of every channel, then their mean."""
    found = []
    for images in x.split(group):
        distance = images - images.mean(0)
        found += [(distance.square().mean(0) + 1e-8).sqrt().mean()] * group
    return torch.stack(found)


# Attention ------------------------------------------------------------------------------------------------------------


def mlp(p: Parameters, x: Tensor) -> Tensor:
    y = linear(part(p, "expand"), x)
    return linear(part(p, "contract"), y * (1 + torch.erf(y / math.sqrt(2))) / 2)


def by_distance(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(-|q - k|^2 / sqrt(8 d)) v of one head of one image."""
    distances = (query[:, None] - key[None]).square().sum(-1)
    return (-distances / math.sqrt(8 * query.shape[-1])).softmax(1) @ value


def by_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) v"""
    return (query @ key.T / math.sqrt(query.shape[-1])).softmax(1) @ value


def per_head(attend, width: int, *qkv: Tensor) -> Tensor:
    """Each head has ``width`` neighbouring channels of queries, keys and values."""
    return torch.cat([attend(*head) for head in zip(*(x.split(width, dim=-1) for x in qkv), strict=True)], dim=-1)


def self_attention(p: Parameters, x: Tensor, style: Tensor | None, width: int) -> Tensor:
    """Tokens of one image [T, C], and its style as one more to look at."""
    context = x if style is None else torch.cat([x, linear(part(p, "style_token"), style)[None]])
    both, value = linear(part(p, "query_key"), context), linear(part(p, "value"), context)
    return linear(part(p, "out"), per_head(by_distance, width, both[: len(x)], both, value))


def cross_attention(p: Parameters, x: Tensor, words: Tensor, width: int) -> Tensor:
    query = linear(part(p, "query"), x)
    key, value = (linear(part(p, name), words) for name in ("key", "value"))
    return linear(part(p, "out"), per_head(by_product, width, query, key, value))


def attention_layer(
    p: Parameters, images: Tensor, width: int, gain: float, styles: Tensor | None = None, words: list[Tensor] = ()
) -> Tensor:
    """Self-attention and an MLP, then, where there are words [C, text width] for each image, cross-attention and
    another one."""
    outputs = []
    for k, image in enumerate(images):
        x = image.flatten(1).T
        style = None if styles is None else styles[k]
        x = residual(x, self_attention(part(p, "self_block.attention"), x, style, width), gain)
        x = residual(x, mlp(part(p, "self_block.mlp"), x), gain)
        if len(words):
            x = residual(x, cross_attention(part(p, "cross_block.attention"), x, words[k], width), gain)
            x = residual(x, mlp(part(p, "cross_block.mlp"), x), gain)
        outputs.append(x.T.reshape(image.shape))
    return torch.stack(outputs)


# Conditions -----------------------------------------------------------------------------------------------------------


def token_layer(p: Parameters, x: Tensor, width: int) -> Tensor:
    """A pre-norm transformer layer on the tokens of one caption [C, width]."""
    qkv = linear(part(p, "qkv"), normalise(x)).chunk(3, dim=-1)
    x = x + linear(part(p, "out"), per_head(by_product, width, *qkv))
    return x + mlp(part(p, "mlp"), normalise(x))


def text(p: Parameters, tokens: Tensor, width: int) -> Tensor:
    """T of one caption: [C, width] -> [C, width]"""
    x = normalise(tokens)
    for layer in parts(p, "layers"):
        x = token_layer(layer, x, width)
    return normalise(x)


def read(p: Parameters, tokens: Tensor, ends: Tensor, width: int) -> tuple[Tensor, list[Tensor]]:
    """Of several captions [B, C, width]: t_global [B, width], T at the end token, and t_local, T at all others."""
    found = [text(p, each, width) for each in tokens]
    others = [torch.arange(tokens.shape[1]) != end for end in ends]
    return torch.stack([each[end] for each, end in zip(found, ends, strict=True)]), [
        each[other] for each, other in zip(found, others, strict=True)
    ]


def mapping(p: Parameters, z: Tensor, condition: Tensor, lr_multiplier: float) -> Tensor:
    """M(z, t_global)"""
    if embed := part(p, "embed"):
        condition = linear(embed, condition)
    x = torch.cat([z, condition], dim=1)
    for layer in parts(p, "layers"):
        x = leaky(linear(layer, x, math.sqrt(2), lr_multiplier))
    return x


# The discriminator ----------------------------------------------------------------------------------------------------


def phi_layer(
    p: Parameters, x: Tensor, block_gain: float, head_width: int, attention_gain: float, std: int = 0
) -> Tensor:
    """One layer of phi: [B, n_in, r, r] -> [B, n_out, r/2, r/2], or [B, n_out, 1, 1] from 4 px."""
    for block in parts(p, "blocks"):
        y = x
        for layer in parts(block, "convs"):
            y = leaky(conv(layer, y, math.sqrt(2)))
        x = residual(x, y, block_gain)
    start = x
    if std:
        x = torch.cat([x, minibatch_std(x, std)[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
    for layer in parts(p, "convs"):
        x = leaky(conv(layer, x, math.sqrt(2)))
    for layer in parts(p, "attention"):
        x = attention_layer(layer, x, head_width, attention_gain)
    if "skip.weight" not in p:
        kernel = part(p, "out")
        flat = x.reshape(len(x), -1) @ kernel["weight"][:, :, 0, 0].T * math.sqrt(2 / x[0].numel())
        return leaky(flat + kernel["bias"])[:, :, None, None]
    # Every second of a convolution's outputs; each branch has half of the variance of their sum.
    return leaky(conv(part(p, "out"), x))[..., ::2, ::2] + conv(part(p, "skip"), halve(start), math.sqrt(1 / 2))


def predictor(p: Parameters, x: Tensor, condition: Tensor) -> Tensor:
    """Eq. 7, psi_j(phi, t_D) + Conv1x1(phi), or the projection discriminator: [B, n, h, w] -> [B, h, w]"""
    logits = conv(part(p, "unconditional"), x)[:, 0]
    if layers := parts(p, "layers"):
        for layer in layers[:-1]:
            x = leaky(adaptive_conv(layer, x, condition, demodulate=True))
        return logits + adaptive_conv(layers[-1], x, condition, demodulate=False)[:, 0]
    if direction := part(p, "projection"):
        return logits + torch.einsum("bnhw,bn->bhw", x, linear(direction, condition)) / math.sqrt(x.shape[1])
    return logits


# The generator --------------------------------------------------------------------------------------------------------


def synthesis_block(p: Parameters, x: Tensor, w: Tensor, noises: list[Tensor], gain: float | None) -> Tensor:
    """Adaptive convolutions; ``gain`` of the residual branch, or None where there is no skip."""
    y = x
    for layer, noise in zip(parts(p, "convs"), noises, strict=True):
        y = leaky(adaptive_conv(part(layer, "conv"), y, w, demodulate=True) + layer["noise_strength"] * noise)
    if gain is None:
        return y
    return residual(conv(part(p, "skip"), x) if "skip.weight" in p else x, y, gain)


def pyramid(
    p: Parameters, x: Tensor, skips: dict[int, Tensor], w: Tensor, words: list[Tensor], noise: Tensor, config
) -> list[Tensor]:
    """Levels upon each other: features at the lowest resolution, and what is added where a level begins -> images,
    highest resolution first. ``config`` gives the gains and the heads' width."""
    image, images = None, []
    for level in parts(p, "levels"):
        x = x if image is None else double(x)
        side = x.shape[-1]
        x = x + skips[side] if side in skips else x
        rgb = 0
        for k, block in enumerate(parts(level, "blocks")):
            n = len(parts(block, "convs"))
            mine, noise = noise[:, : n * side**2], noise[:, n * side**2 :]
            gain = config.generator.block_gain if k else None
            x = synthesis_block(block, x, w, list(mine.view(-1, n, 1, side, side).unbind(1)), gain)
            if early := part(level, f"early_rgb.{k}"):
                rgb = rgb + adaptive_conv(early, x, w, demodulate=False)
        for layer in parts(level, "attention"):
            x = attention_layer(layer, x, config.attention.head_width, config.attention.gain, w, words)
        rgb = rgb + adaptive_conv(part(level, "to_rgb"), x, w, demodulate=False)
        image = rgb if image is None else double(image) + rgb
        images.insert(0, image)
    assert noise.shape[1] == 0, "noise is left over"
    return images


def encoder_block(p: Parameters, x: Tensor) -> Tensor:
    """The upsampler's way down: [B, n_in, r, r] -> [B, n_out, r/2, r/2]"""
    y = leaky(conv(part(p, "conv"), x, math.sqrt(2)))
    return leaky(conv(part(p, "out"), y))[..., ::2, ::2] + conv(part(p, "skip"), halve(x), math.sqrt(1 / 2))
