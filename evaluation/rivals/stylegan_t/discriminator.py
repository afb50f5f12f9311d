"""The discriminator's heads (Sec. 3.2): small 1-D networks on the tokens of a frozen ViT, which stays outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.rivals.stylegan_t.config import DiscriminatorConfig
from gigagan.networks.parameters import Linear, constant, derive, initialise, leaky_relu, normal

TINY = 1e-12


class SpectralConv1d(nn.Module):
    """A convolution over tokens whose weight, as a matrix [n_out, n_in * kernel], is divided by its largest singular
    value (Miyato et al. 2018), estimated by one step of power iteration whenever it is trained. The tokens' ends meet.

    [B, n_in, T] -> [B, n_out, T]
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = normal(n_out, n_in, kernel, std=1 / math.sqrt(3 * n_in * kernel))  # the spread of torch's own
        self.bias = constant(n_out) if bias else None
        self.register_buffer("left", torch.zeros(n_out))
        self.register_buffer("right", torch.zeros(n_in * kernel))
        self.kernel = kernel

    @torch.no_grad()
    def begin(self, seed: int, name: str, steps: int = 15) -> None:
        """Singular vectors of the first weight: drawn, and iterated until they are near."""
        generator = torch.Generator().manual_seed(derive(seed, "discriminator", name))
        self.left.copy_(F.normalize(torch.randn(self.left.shape, generator=generator), dim=0))
        for _ in range(steps):
            self._iterate()

    @torch.no_grad()
    def _iterate(self) -> None:
        matrix = self.weight.flatten(1)
        self.right.copy_(F.normalize(matrix.T @ self.left, dim=0, eps=TINY))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0, eps=TINY))

    def normalised(self) -> Tensor:
        """The weight as it is applied: [n_out, n_in, kernel]"""
        if self.training and self.weight.requires_grad and torch.is_grad_enabled():
            self._iterate()
        return self.weight / torch.dot(self.left, self.weight.flatten(1) @ self.right)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            x = F.pad(x, (self.kernel // 2, self.kernel // 2), mode="circular")
        return F.conv1d(x, self.normalised(), self.bias)


class LocalNorm(nn.Module):
    """Batch normalisation over each ``size`` successive pictures and all their tokens; there are no running statistics.

    [B, n, T] -> [B, n, T], B a multiple of the size
    """

    def __init__(self, n: int, size: int) -> None:
        super().__init__()
        self.weight, self.bias = constant(n, value=1.0), constant(n)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(0, (-1, self.size))
        variance, mean = torch.var_mean(groups, dim=(1, 3), keepdim=True, correction=0)
        y = ((groups - mean) * (variance + 1e-5).rsqrt()).flatten(0, 1)
        return y * self.weight[:, None] + self.bias[:, None]


class Head(nn.Module):
    """tokens [B, n, T], text [B, text_width] -> a logit for each token, [B, T]

    One step per token, one over its neighbours (residual), then a projection (Miyato & Koyama 2018).
    """

    def __init__(self, n: int, text_width: int, d: DiscriminatorConfig) -> None:
        super().__init__()
        # Deviation: no bias, as one before a normalisation would be taken out again.
        self.first, self.first_norm = SpectralConv1d(n, n, 1, bias=False), LocalNorm(n, d.virtual_batch)
        self.second, self.second_norm = SpectralConv1d(n, n, d.kernel, bias=False), LocalNorm(n, d.virtual_batch)
        self.last = SpectralConv1d(n, d.text_width, 1)
        self.text = Linear(text_width, d.text_width, gain=d.text_gain)

    def hidden(self, x: Tensor) -> Tensor:
        """[B, n, T] -> [B, n, T]"""
        x = leaky_relu(self.first_norm(self.first(x)))
        return (x + leaky_relu(self.second_norm(self.second(x)))) / math.sqrt(2)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        y = self.last(self.hidden(x)) * self.text(text)[:, :, None]
        return y.sum(1) / math.sqrt(y.shape[1])


class Discriminator(nn.Module):
    """One head for each level of the backbone: what is trained and kept of the discriminator."""

    def __init__(self, d: DiscriminatorConfig, width: int, text_width: int) -> None:
        """``width``: channels of the backbone's tokens; ``text_width``: of the captions' embeddings."""
        super().__init__()
        self.heads = nn.ModuleList(Head(width, text_width, d) for _ in d.levels)

    def begin(self, seed: int) -> None:
        """First weights and singular vectors, keyed by the seed."""
        initialise(self, seed, "discriminator")
        for name, module in self.named_modules():
            if isinstance(module, SpectralConv1d):
                module.begin(seed, name)

    def forward(self, features: list[Tensor], text: Tensor) -> Tensor:
        """[B, width, T] for each level, text [B, text_width] (or [B / 2, text_width], of pairs of pictures) -> logits
        [B, levels * T], one a token and level. B is a multiple of the virtual batch."""
        text = text.repeat(len(features[0]) // len(text), 1)
        return torch.cat([head(x, text) for head, x in zip(self.heads, features, strict=True)], dim=1)
