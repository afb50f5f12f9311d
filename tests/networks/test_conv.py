"""Convolutions against the paper's equations, written out sample by sample."""

from __future__ import annotations

import literal
import pytest
import torch
from torch.nn import functional as F

from gigagan.networks import conv
from gigagan.networks.conv import AdaptiveConv, Conv, downsample, upsample
from gigagan.networks.parameters import leaky_relu

N_IN, N_OUT, STYLE = 5, 4, 6


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    ("kernels", "path"), [(1, "_mix_outputs"), (3, "_mix_outputs"), (3, "_mix_kernels")], ids=lambda value: str(value)
)
def test_adaptive_convolution_is_the_paper_s(ready, monkeypatch, kernels, path, kernel, demodulate):
    """Outputs and all gradients of each of its ways to compute."""
    monkeypatch.setattr(conv, "WIDE_PIXELS", 0 if path == "_mix_kernels" else 10**6)
    other = "_mix_outputs" if path == "_mix_kernels" else "_mix_kernels"
    monkeypatch.setattr(AdaptiveConv, other, None)
    layer = ready(AdaptiveConv(N_IN, N_OUT, kernel, STYLE, kernels=kernels, demodulate=demodulate)).double()
    x = torch.randn(3, N_IN, 6, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, STYLE, dtype=torch.float64, requires_grad=True)
    wanted, found = literal.adaptive_conv(literal.of(layer), x, w, demodulate), layer(x, w)
    literal.agree(found, wanted, [x, w, *layer.parameters()])


@pytest.mark.parametrize("side", [8, 32])
def test_both_ways_are_used_and_agree(ready, side):
    """Few pixels mix the outputs of the bank's kernels, many mix the kernels themselves."""
    layer = ready(AdaptiveConv(N_IN, N_OUT, 3, STYLE, kernels=3)).double()
    used = []
    for name in ("_mix_outputs", "_mix_kernels"):
        way = getattr(layer, name)
        setattr(layer, name, lambda *args, name=name, way=way: (used.append(name), way(*args))[1])
    x, w = torch.randn(2, N_IN, side, side, dtype=torch.float64), torch.randn(2, STYLE, dtype=torch.float64)
    torch.testing.assert_close(layer(x, w), literal.adaptive_conv(literal.of(layer), x, w, demodulate=True))
    assert used == ["_mix_outputs" if side * side <= conv.WIDE_PIXELS else "_mix_kernels"]


@pytest.mark.parametrize("kernels", [1, 4])
@pytest.mark.parametrize("side", [16, 24])
def test_demodulated_outputs_have_the_variance_that_the_activation_wants(ready, kernels, side):
    """Whatever the size of the style: unit variance after leaky_relu."""
    torch.manual_seed(0)
    layer = ready(AdaptiveConv(32, 16, 3, STYLE, kernels=kernels), disturbed=0.0)
    x = torch.randn(8, 32, side, side)
    for size in (0.1, 1.0, 10.0):
        y = layer(x, size * torch.randn(8, STYLE))[:, :, 1:-1, 1:-1]
        variances = y.var((2, 3))
        assert variances.mean().item() == pytest.approx(2, rel=0.05)
        assert variances.min() > 0.5
        assert leaky_relu(y).square().mean().item() == pytest.approx(1.0, abs=0.1)


def test_without_demodulation_the_style_scales_the_output(ready):
    layer = ready(AdaptiveConv(N_IN, N_OUT, 1, STYLE, demodulate=False), disturbed=0.0)
    with torch.no_grad():
        layer.modulation.bias.zero_()
    x, w = torch.randn(2, N_IN, 4, 4), torch.randn(2, STYLE)
    torch.testing.assert_close(layer(x, 3 * w), 3 * layer(x, w))


def test_the_style_selects_the_kernel(ready):
    layer = ready(AdaptiveConv(N_IN, N_OUT, 3, STYLE, kernels=3))
    x, (v, w) = torch.randn(1, N_IN, 8, 8), torch.randn(2, 1, STYLE)
    with torch.no_grad():
        layer.modulation.weight.zero_()  # now the style can act through the selection alone
        assert (layer(x, v) - layer(x, w)).abs().max() > 0.01
        layer.selection.weight.zero_()
        torch.testing.assert_close(layer(x, v), layer(x, w))

        layer.selection.bias.copy_(torch.tensor([-100.0, 100.0, -100.0]))
        single = AdaptiveConv(N_IN, N_OUT, 3, STYLE)
        values = {k: v for k, v in layer.state_dict().items() if not k.startswith("selection")}
        single.load_state_dict({**values, "bank": values["bank"][1:2]})
        torch.testing.assert_close(layer(x, v), single(x, v))


def test_one_kernel_has_nothing_to_select():
    assert AdaptiveConv(N_IN, N_OUT, 3, STYLE, kernels=1).selection is None


def test_plain_convolution_keeps_unit_variance(ready):
    torch.manual_seed(0)
    x = torch.randn(8, 32, 16, 16)
    layer = ready(Conv(32, 24, 3), disturbed=0.0)
    assert layer(x)[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1.0, rel=0.1)
    halved = ready(Conv(32, 24, 3, stride=2, bias=False, gain=2.0), disturbed=0.0)
    assert halved(x).shape == (8, 24, 8, 8)
    assert halved(x)[:, :, 1:-1, 1:-1].var().item() == pytest.approx(4.0, rel=0.1)


def test_resampling_filters():
    """Up: StyleGAN2's [1, 3, 3, 1] (away from the edges); down: the mean of 2 x 2 pixels."""
    x = torch.randn(1, 1, 6, 6)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    spread = F.conv_transpose2d(x, torch.outer(taps, taps)[None, None], stride=2, padding=1)
    torch.testing.assert_close(upsample(x)[..., 2:-2, 2:-2], spread[..., 2:-2, 2:-2])
    torch.testing.assert_close(upsample(x), literal.double(x))
    torch.testing.assert_close(downsample(x)[0, 0, 1, 2], x[0, 0, 2:4, 4:6].mean())
    torch.testing.assert_close(downsample(x), literal.halve(x))
