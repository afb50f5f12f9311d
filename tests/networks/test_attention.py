"""Attention against literal loops, and what the paper wants of it: bounded slopes, the style as a token, the text."""

from __future__ import annotations

import math

import literal
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gigagan.config import AttentionConfig, TextConfig
from gigagan.errors import UserError
from gigagan.networks.attention import (
    CrossAttention,
    PixelAttention,
    SelfAttention,
    TokenLayer,
    distance_attention,
    head_count,
    twice_differentiable,
)
from gigagan.networks.parameters import Linear
from gigagan.networks.text import TextTransformer

WIDTH, HEAD, STYLE, TEXT = 8, 4, 6, 16


def affine(layer: Linear, x: Tensor) -> Tensor:
    y = x @ layer.weight.T / math.sqrt(x.shape[-1])
    return y if layer.bias is None else y + layer.bias


def heads(x: Tensor) -> list[Tensor]:
    """[T, WIDTH] -> one [T, HEAD] per head"""
    return list(x.split(HEAD, dim=-1))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(-|q - k|^2 / sqrt(8 d)) v of one head and image, query by query and key by key."""
    rows = []
    for q in query:
        logits = torch.stack([-((q - k) ** 2).sum() / math.sqrt(8 * len(q)) for k in key])
        rows.append(logits.softmax(0) @ value)
    return torch.stack(rows)


def test_distance_attention_is_a_softmax_over_negative_squared_distances():
    query, key, value = (torch.randn(2, 3, n, 5, dtype=torch.float64) for n in (4, 6, 6))
    found = distance_attention(query, key, value)
    for b in range(2):
        for head in range(3):
            torch.testing.assert_close(found[b, head], attend(query[b, head], key[b, head], value[b, head]))


@pytest.mark.parametrize("width", [16, 256])
def test_logits_of_unit_normal_vectors_have_the_same_spread_in_every_width(width):
    """Read back from what becomes of one-hot values. Of the variance of |q - k|^2 / sqrt(8 d), which is 1, the quarter
    that q makes is the same for every key, so the softmax hides it."""
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 400, width), torch.randn(1, 1, 300, width)
    shares = distance_attention(query, key, torch.eye(300)[None, None])[0, 0]
    torch.testing.assert_close(shares.sum(1), torch.ones(400))
    assert shares.log().var(1).mean().item() == pytest.approx(3 / 4, rel=0.1)


def slope(attention, x: Tensor) -> float:
    """The largest gain of self-attention around the tokens x [T, d] (spectral norm of its Jacobian)."""
    jacobian = torch.autograd.functional.jacobian(lambda t: attention(*([t[None, None]] * 3)), x)
    return torch.linalg.matrix_norm(jacobian.reshape(x.numel(), x.numel()), 2).item()


def test_distance_attention_is_lipschitz_where_the_dot_product_is_not():
    """A token at the origin among large ones: the dot product's slope grows with their square (Kim et al. 2021)."""
    torch.manual_seed(0)
    tokens = torch.randn(6, 4, dtype=torch.float64)
    tokens[0] = 0
    sizes = (0.1, 0.5, 1, 2, 5, 10, 100)
    with twice_differentiable():
        distance = [slope(distance_attention, size * tokens) for size in sizes]
        dot = [slope(F.scaled_dot_product_attention, size * tokens) for size in sizes]
    assert max(distance) < 4
    assert dot[-1] > 50 * dot[-2] > 2500


def test_self_attention_sees_itself_and_the_style(ready):
    layer = ready(SelfAttention(WIDTH, HEAD, STYLE)).double()
    x, style = torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.randn(2, STYLE, dtype=torch.float64)
    found = layer(x, style)
    for b in range(2):
        context = torch.cat([x[b], affine(layer.style_token, style[b])[None]])
        tied, value = heads(affine(layer.query_key, context)), heads(affine(layer.value, context))
        parts = [attend(both[:5], both, v) for both, v in zip(tied, value, strict=True)]
        torch.testing.assert_close(found[b], affine(layer.out, torch.cat(parts, dim=1)))
    assert (layer(x, -style) - found).abs().max() > 1e-3


def test_query_and_key_are_tied_and_without_a_bias():
    names = {name for name, _ in SelfAttention(WIDTH, HEAD, None).named_parameters()}
    assert names == {"query_key.weight", "value.weight", "value.bias", "out.weight", "out.bias"}


def test_far_apart_every_token_attends_to_itself(ready):
    """Only a token's own distance is zero; a dot product's largest logit may be any other's."""
    layer = ready(SelfAttention(WIDTH, HEAD, None)).double()
    x = 1000 * torch.randn(1, 5, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(layer(x), affine(layer.out, affine(layer.value, x)))


def test_cross_attention_reads_every_text_token_but_the_masked_one(ready):
    layer = ready(CrossAttention(WIDTH, HEAD, TEXT)).double()
    x, text = torch.randn(1, 3, WIDTH, dtype=torch.float64), torch.randn(1, 5, TEXT, dtype=torch.float64)
    end = 2
    mask = torch.arange(5)[None] != end
    found = layer(x, text, mask)

    seen = text[0, mask[0]]
    parts = [
        (query @ key.T / math.sqrt(HEAD)).softmax(-1) @ value
        for query, key, value in zip(
            heads(affine(layer.query, x[0])),
            heads(affine(layer.key, seen)),
            heads(affine(layer.value, seen)),
            strict=True,
        )
    ]
    torch.testing.assert_close(found[0], affine(layer.out, torch.cat(parts, dim=1)))
    for position in range(5):
        other = text.clone()
        other[0, position] += 1
        assert torch.equal(layer(x, other, mask), found) == (position == end)


def test_second_derivative_where_r1_needs_it():
    inputs = [torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    with twice_differentiable():
        assert torch.autograd.gradgradcheck(distance_attention, inputs)


@pytest.mark.parametrize("width", [1.0, 1.4])
def test_a_layer_adds_attention_and_mlps_with_a_reduced_gain(ready, width):
    """Outputs and all gradients; also with one more head than the layer's own channels would make."""
    config = AttentionConfig(head_width=HEAD, mlp_ratio=2, gain=0.3, width=width)
    layer = ready(PixelAttention(WIDTH, config, STYLE, TEXT)).double()
    assert len(layer.self_block.attention.query_key.weight) == (WIDTH if width == 1 else WIDTH + HEAD)
    x, style, words = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, WIDTH, 3, 2), (2, STYLE), (2, 5, TEXT))
    )
    mask = torch.tensor([[True, True, False, True, True], [False, True, True, True, True]])
    found = layer(x, style, words, mask)
    read = [caption[seen] for caption, seen in zip(words, mask, strict=True)]
    wanted = literal.attention_layer(literal.of(layer), x, HEAD, 0.3, style, read)
    literal.agree(found, wanted, [x, style, words, *layer.parameters()])


@pytest.mark.parametrize(
    ("kinds", "text", "parts"),
    [
        ("self+cross", TEXT, {"self_block.attention", "self_block.mlp", "cross_block.attention", "cross_block.mlp"}),
        ("self", TEXT, {"self_block.attention", "self_block.mlp"}),
        ("cross", TEXT, {"cross_block.attention", "cross_block.mlp"}),
        ("mlp", TEXT, {"self_block.mlp", "cross_block.mlp"}),
        ("self+cross", None, {"self_block.attention", "self_block.mlp"}),
        ("cross", None, set()),
        ("mlp", None, {"self_block.mlp"}),
    ],
)
def test_kinds_of_attention(ready, kinds, text, parts):
    layer = ready(PixelAttention(WIDTH, AttentionConfig(kinds=kinds, head_width=HEAD), STYLE, text))
    assert {".".join(name.split(".")[:2]) for name, _ in layer.named_parameters()} == parts
    x, style = torch.randn(1, WIDTH, 2, 2), torch.randn(1, STYLE)
    words, mask = torch.randn(1, 3, TEXT), torch.ones(1, 3, dtype=torch.bool)
    y = layer(x, style, words, mask)
    assert torch.equal(y, x) == (not parts)
    assert torch.equal(layer(x, -style, words, mask), y) == ("self_block.attention" not in parts)
    assert torch.equal(layer(x, style, -words, mask), y) == ("cross_block.attention" not in parts)


def test_text_layers_start_without_attention(ready, captions):
    """T's attention branch starts at zero: every token starts as its own."""
    layer = ready(TokenLayer(TEXT, HEAD, 4.0), disturbed=0.0)
    x = captions(1).tokens
    other = x.clone()
    other[0, 0] += torch.randn(TEXT)
    torch.testing.assert_close(layer(x)[:, 1:], layer(other)[:, 1:])
    layer = ready(TokenLayer(TEXT, HEAD, 4.0))
    assert (layer(x)[:, 1:] - layer(other)[:, 1:]).abs().max() > 1e-4


@torch.no_grad()
def test_local_text_is_every_token_but_the_end_and_the_global_text_is_the_end(ready, captions):
    t = ready(TextTransformer(TEXT, TextConfig(depth=2, head_width=HEAD)))
    features = captions(3)
    text = t(features)
    assert text.local.shape == (3, 6, TEXT)
    assert text.mask.sum(1).tolist() == [5, 5, 5]
    for b, end in enumerate(features.end.tolist()):
        wanted = literal.text(literal.of(t), features.tokens[b], HEAD)
        torch.testing.assert_close(text.local[b], wanted)
        torch.testing.assert_close(text.total[b], wanted[end])
        assert not text.mask[b, end]
    scaled = t(features._replace(tokens=100 * features.tokens))
    torch.testing.assert_close(scaled.total, text.total, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("width", "head_width", "heads"), [(64, 32, 2), (64, 64, 1), (16, 64, 1), (96, 48, 2), (64, 31, 2)]
)
def test_a_layer_has_as_many_heads_as_fit(width, head_width, heads):
    assert head_count(width, head_width) == heads


def test_channels_that_heads_do_not_share_evenly_are_refused():
    with pytest.raises(UserError, match=r"head_width=32: does not divide an attention layer's 100 channels"):
        head_count(100, 32)
