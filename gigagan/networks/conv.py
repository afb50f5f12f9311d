"""Convolutions: plain, modulated, and sample-adaptive (Sec. 3.1, Eq. 1 and 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigagan.networks.parameters import ACTIVATION_GAIN, Linear, constant, normal

# At most this many pixels, a bank is cheaper as one wide convolution than as one kernel a sample (measured on a CPU).
WIDE_PIXELS = 256
EPSILON = 1e-8


def upsample(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W]; bilinear, which is StyleGAN2's [1, 3, 3, 1] filter."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def downsample(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H/2, W/2]; mean over 2 x 2 pixels."""
    return F.avg_pool2d(x, 2)


class Conv(nn.Module):
    """Convolution with an equalised learning rate. [B, n_in, H, W] -> [B, n_out, H/stride, W/stride]"""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = normal(n_out, n_in, kernel, kernel)
        self.bias = constant(n_out) if bias else None
        self.gain = gain / math.sqrt(n_in * kernel * kernel)
        self.stride = stride
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, self.bias, stride=self.stride, padding=self.padding)


class AdaptiveConv(nn.Module):
    """Sample-adaptive kernel selection, then modulation, demodulation and convolution (Eq. 1 and 2).

    K = sum_i K_i softmax(W_filter^T w + b_filter)_i and g(f, w) = ((W_mod^T w + b_mod) (x) K) * f, for a bank of
    ``kernels`` filters. With ``kernels=1`` there is no bank and no selection affine: StyleGAN2's modulated convolution.
    Demodulated outputs have the variance that an activation wants (``ACTIVATION_GAIN``).

    [B, n_in, H, W], style [B, w_dim] -> [B, n_out, H, W]
    """

    def __init__(
        self, n_in: int, n_out: int, kernel: int, style_dim: int, *, kernels: int = 1, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.bank = normal(kernels, n_out, n_in, kernel, kernel)
        self.bias = constant(n_out)
        self.modulation = Linear(style_dim, n_in, bias=1.0)
        self.selection = Linear(style_dim, kernels) if kernels > 1 else None
        self.demodulate = demodulate
        self.gain = 1 / math.sqrt(n_in * kernel * kernel)
        self.padding = kernel // 2

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, bank = self.modulation(style), self.bank * self.gain
        # No bank, no choice: every sample's share of the only kernel is one.
        choice = scale.new_ones(len(scale), 1) if self.selection is None else self.selection(style).softmax(-1)
        # Mixing the bank's outputs costs N convolutions but needs no kernel per sample, which is what costs most where
        # there are few pixels.
        mix = len(bank) == 1 or x.shape[2] * x.shape[3] <= WIDE_PIXELS
        y = self._mix_outputs(x, scale, bank, choice) if mix else self._mix_kernels(x, scale, bank, choice)
        return y + self.bias.to(y.dtype)[:, None, None]

    def select(self, scale: Tensor, bank: Tensor, choice: Tensor) -> Tensor:
        """Eq. 1 with modulation and demodulation: one kernel a sample, [B, n_out, n_in, k, k]."""
        kernels = (choice @ bank.flatten(1)).view(-1, *bank.shape[1:]) * scale[:, None, :, None, None]
        if self.demodulate:
            kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + EPSILON).rsqrt() * ACTIVATION_GAIN
        return kernels

    def _mix_kernels(self, x: Tensor, scale: Tensor, bank: Tensor, choice: Tensor) -> Tensor:
        """The equations as written: one kernel a sample, run as a grouped convolution."""
        b, c, h, w = x.shape
        kernels = self.select(scale, bank, choice)
        y = F.conv2d(x.reshape(1, b * c, h, w), kernels.flatten(0, 1).to(x.dtype), padding=self.padding, groups=b)
        return y.view(b, -1, *y.shape[2:])

    def _mix_outputs(self, x: Tensor, scale: Tensor, bank: Tensor, choice: Tensor) -> Tensor:
        """The same function without a kernel per sample: convolution is linear in its kernel, so the features are
        modulated before it, and the outputs of the bank's kernels are mixed and demodulated after it."""
        x = x * scale.to(x.dtype)[:, :, None, None]
        y = F.conv2d(x, bank.flatten(0, 1), padding=self.padding)
        if len(bank) == 1 and not self.demodulate:
            return y
        shares = choice[:, :, None]
        if self.demodulate:
            shares = shares * (self._demodulation(scale, bank, choice) * ACTIVATION_GAIN)[:, None, :]
        mixed = None
        for part, share in zip(y.chunk(len(bank), dim=1), shares.to(y.dtype).unbind(1), strict=True):
            share = share[:, :, None, None]
            mixed = part * share if mixed is None else torch.addcmul(mixed, part, share)
        return mixed

    @staticmethod
    def _demodulation(scale: Tensor, bank: Tensor, choice: Tensor) -> Tensor:
        """1 / norm of each sample's modulated kernel, [B, n_out], from the kernels' inner products.

        |sum_i a_i K_i (x) s|^2 = sum_ij a_i a_j <K_i, K_j>_(over k x k) . s^2, so no kernel per sample is needed.
        """
        if len(bank) == 1:
            power = scale.square() @ bank[0].square().sum((2, 3)).T
        else:
            gram = torch.einsum("noikl,moikl->nmoi", bank, bank)
            pairs = choice[:, :, None] * choice[:, None, :]
            power = torch.einsum("bnmo,bnm->bo", torch.einsum("bi,nmoi->bnmo", scale.square(), gram), pairs)
        return (power + EPSILON).rsqrt()
