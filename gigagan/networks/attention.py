"""Attention (Sec. 3.3): self-attention with squared-distance logits, cross-attention to the text, and T's layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gigagan.config import AttentionConfig
from gigagan.errors import UserError
from gigagan.networks.parameters import Linear, residual


def head_count(width: int, head_width: int) -> int:
    """Heads of ``head_width`` channels, or one where there are fewer. Raises UserError if channels are left over."""
    n = max(1, width // head_width)
    if width % n:
        raise UserError(f"head_width={head_width}: does not divide an attention layer's {width} channels")
    return n


def inner_width(width: int, config: AttentionConfig) -> int:
    """Channels of queries, keys and values in a layer of ``width`` channels: whole heads, unless it is the layer's own
    width (where ``head_count`` refuses what does not divide it)."""
    wanted = round(width * config.width)
    return wanted if wanted == width else max(1, round(wanted / config.head_width)) * config.head_width


def _heads(x: Tensor, n: int) -> Tensor:
    """[B, T, n * d] -> [B, n, T, d]"""
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """[B, n, T, d] -> [B, T, n * d]"""
    return x.transpose(1, 2).flatten(2)


def distance_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(-|q - k|^2 / sqrt(8 d)) v, the Lipschitz attention of Sec. 3.3.

    |q|^2 is the same for every key and cancels in the softmax, so what is left is a dot product and a bias per key.
    Between independent unit-normal vectors of width d, |q - k|^2 has standard deviation sqrt(8 d): dividing by it
    gives logits of unit spread at initialisation.

    query [B, n, Q, d], key and value [B, n, K, d] -> [B, n, Q, d]
    """
    scale = 1 / math.sqrt(8 * query.shape[-1])
    bias = -scale * key.square().sum(-1)[:, :, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=2 * scale)


def twice_differentiable() -> sdpa_kernel:
    """Context for R1: fused attention has no second derivative, the mathematical form has."""
    return sdpa_kernel(SDPBackend.MATH)


class MLP(nn.Module):
    """[..., width] -> [..., width]"""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = max(1, round(width * ratio))
        self.expand = Linear(width, hidden)
        self.contract = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x)))


class SelfAttention(nn.Module):
    """L2 self-attention with tied query and key, and the style w as one more token to attend to.

    No bias on query and key: tied, it cancels in their difference.

    tokens [B, T, width], style [B, style_dim] or None -> [B, T, width]
    """

    def __init__(self, width: int, head_width: int, style_dim: int | None, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.n_heads = head_count(inner, head_width)
        self.query_key = Linear(width, inner, bias=None)
        self.value = Linear(width, inner)
        self.out = Linear(inner, width)
        self.style_token = Linear(style_dim, width) if style_dim else None

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        context = x
        if self.style_token is not None:
            context = torch.cat([x, self.style_token(style).to(x.dtype)[:, None]], dim=1)
        query_key = _heads(self.query_key(context), self.n_heads)
        value = _heads(self.value(context), self.n_heads)
        return self.out(_merge(distance_attention(query_key[:, :, : x.shape[1]], query_key, value)))


class CrossAttention(nn.Module):
    """Image features ask, text tokens answer.

    Deviation: dot-product logits; the paper does not say which it uses here.

    tokens [B, T, width], text [B, C, text_width], mask [B, C] bool (False = not attended to) -> [B, T, width]
    """

    def __init__(self, width: int, head_width: int, text_width: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.n_heads = head_count(inner, head_width)
        self.query = Linear(width, inner)
        self.key = Linear(text_width, inner)
        self.value = Linear(text_width, inner)
        self.out = Linear(inner, width)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        query = _heads(self.query(x), self.n_heads)
        key, value = (_heads(layer(text), self.n_heads) for layer in (self.key, self.value))
        return self.out(_merge(F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])))


class Block(nn.Module):
    """Residual attention and residual MLP on an image's pixels, each branch with a reduced gain (Sec. 3.3).

    ``attention`` may be None: then the MLP stands alone (the variant that asks how much of attention's effect is its
    weights).
    """

    def __init__(self, attention: nn.Module | None, width: int, config: AttentionConfig) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = MLP(width, config.mlp_ratio)
        self.gain = config.gain

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h, w = x.shape[2:]
        x = x.permute(0, 2, 3, 1).flatten(1, 2)
        if self.attention is not None:
            x = residual(x, self.attention(x, *context), self.gain)
        x = residual(x, self.mlp(x), self.gain)
        # Unflattening NHWC memory and permuting it back is a channels-last tensor, at no cost.
        return x.unflatten(1, (h, w)).permute(0, 3, 1, 2)


class PixelAttention(nn.Module):
    """One attention layer of the networks: self-attention, then cross-attention where there is a text (Eq. 5)."""

    def __init__(self, width: int, config: AttentionConfig, style_dim: int | None, text_width: int | None) -> None:
        super().__init__()
        mlp_only, inner = config.kinds == "mlp", inner_width(width, config)
        self.self_block = self.cross_block = None
        if mlp_only or "self" in config.kinds:
            attention = None if mlp_only else SelfAttention(width, config.head_width, style_dim, inner)
            self.self_block = Block(attention, width, config)
        if text_width is not None and (mlp_only or "cross" in config.kinds):
            attention = None if mlp_only else CrossAttention(width, config.head_width, text_width, inner)
            self.cross_block = Block(attention, width, config)

    def forward(
        self, x: Tensor, style: Tensor | None = None, text: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if self.self_block is not None:
            x = self.self_block(x, style)
        if self.cross_block is not None:
            x = self.cross_block(x, text, mask)
        return x


class TokenLayer(nn.Module):
    """A pre-norm transformer layer on text tokens: what T is made of (Sec. 3.2). [B, C, width] -> [B, C, width]

    Deviation: its attention starts at zero, so that T begins near the frozen features; the paper does not say.
    """

    def __init__(self, width: int, head_width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.n_heads = head_count(width, head_width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width, zero=True)
        self.mlp = MLP(width, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (_heads(part, self.n_heads) for part in self.qkv(_normalise(x)).chunk(3, dim=-1))
        x = x + self.out(_merge(F.scaled_dot_product_attention(query, key, value)))
        return x + self.mlp(_normalise(x))


def _normalise(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
