"""The vision-aided discriminator (Sec. 3.5): small conditioned heads on a frozen CLIP's image features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigagan.config import VisionConfig
from gigagan.errors import UserError
from gigagan.networks.conv import Conv
from gigagan.networks.discriminator import Predictions, predictor
from gigagan.networks.parameters import ACTIVATION_GAIN, derive, leaky_relu

HEAD_DEPTH = 2  # modulated layers of a head, the one that makes the logit included


class Head(nn.Module):
    """A fixed random projection (as in Projected GAN, Sauer et al. 2021), a 3x3 convolution, a conditioned predictor.

    features [B, C, h, w], condition [B, width] -> logits [B, h, w]
    """

    def __init__(self, n_in: int, n: int, width: int, kind: str, name: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(derive("vision-aided projection", name))
        # Unit-norm features keep unit variance. The same in every run and never trained, so no checkpoint holds it.
        projection = torch.randn(n, n_in, 1, 1, generator=generator, device="cpu") / n_in**0.5
        self.register_buffer("projection", projection, persistent=False)
        self.conv = Conv(n, n, 3, gain=ACTIVATION_GAIN)
        self.predictor = predictor(n, width, kind, HEAD_DEPTH)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        # Deviation: features are normalised over channels, so that every block of every CLIP is heard alike.
        features = F.layer_norm(features.permute(0, 2, 3, 1), features.shape[1:2]).permute(0, 3, 1, 2)
        return self.predictor(leaky_relu(self.conv(F.conv2d(features, self.projection))), condition)


class VisionAided(nn.Module):
    """One head on each chosen block of the image tower; the tower itself is frozen and stays outside.

    Deviation: the condition is the pyramid discriminator's own t_D, and there is no augmentation of its inputs; the
    paper says neither.
    """

    def __init__(self, config: VisionConfig, map_widths: list[int], width: int, kind: str) -> None:
        """``map_widths``: channels of the feature maps after each block; ``width``: the condition's.

        Raises UserError for a block that the tower has not got.
        """
        super().__init__()
        if max(config.layers) > len(map_widths):
            raise UserError(f"vision.layers={max(config.layers)}: the image tower has {len(map_widths)} blocks")
        self.heads = nn.ModuleDict(
            {str(k): Head(map_widths[k - 1], config.channels, width, kind, str(k)) for k in config.layers}
        )

    def forward(self, maps: list[Tensor], condition: Tensor) -> Predictions:
        """Feature maps [B, C, h, w] of all blocks, condition [B, width] (or [B / 2, width], of pairs of pictures)
        -> {(0, block): logits [B, h, w]}"""
        groups = len(maps[0]) // len(condition)
        condition = condition.repeat(groups, 1)
        return {(0, int(k)): head(maps[int(k) - 1], condition).float() for k, head in self.heads.items()}
