"""diffusers' text-conditional U-Net as what predicts v, with the guidance as a further input."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.rivals.diffusion.config import Config
from gigagan.clip import Clip
from gigagan.networks.parameters import derive
from gigagan.networks.text import TextFeatures

TIME_SCALE = 1000.0  # diffusers' Fourier features of time are made for thousands of steps
SLOWEST = 100.0  # period of the slowest feature of the guidance, in radians at 1


class Denoiser(nn.Module):
    """v of noised pictures, for captions and, in a student, for a strength of guidance.

    The U-Net attends to all tokens of the frozen features, normalised as GigaGAN's T takes them, and gets the end token
    beside the time.
    """

    def __init__(self, config: Config, clip: Clip) -> None:
        super().__init__()
        width = clip.text_width
        unet, side = config.unet, config.data.resolution
        attends = [side >> level in unet.attention for level in range(len(unet.channels))]
        self.guidance_width = unet.guidance_width
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=3,
            out_channels=3,
            block_out_channels=unet.channels,
            layers_per_block=unet.layers,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            mid_block_type="UNetMidBlock2DCrossAttn",
            cross_attention_dim=width,
            attention_head_dim=unet.heads,  # diffusers' name for the number of heads
            norm_num_groups=unet.groups,
            time_cond_proj_dim=unet.guidance_width,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=width,
        )

    def forward(self, z: Tensor, t: Tensor, text: TextFeatures, guidance: Tensor | None = None) -> Tensor:
        """z [B, 3, R, R], t [B] in [0, 1], guidance [B] (none in a teacher) -> v [B, 3, R, R]"""
        tokens = F.layer_norm(text.tokens, text.tokens.shape[-1:])
        end = tokens[torch.arange(len(tokens), device=tokens.device), text.end]
        strength = None
        if guidance is not None:
            strength = get_timestep_embedding(guidance - 1, self.guidance_width, max_period=SLOWEST)
        time = t * TIME_SCALE
        out = self.unet(z, time, tokens, class_labels=end, timestep_cond=strength, return_dict=False)
        return out[0].float()


def generator_of(config: Config, clip: Clip) -> Denoiser:
    """The network of a configuration, untrained."""
    return Denoiser(config, clip)


def first_weights(config: Config, clip: Clip, seed: int) -> Denoiser:
    """The same with the weights of a seed: it begins by saying v = 0, whatever the guidance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init", "generator"))
        network = generator_of(config, clip)
    nn.init.zeros_(network.unet.conv_out.weight)
    nn.init.zeros_(network.unet.conv_out.bias)
    # A student of the first stage then begins as its teacher exactly.
    nn.init.zeros_(network.unet.time_embedding.cond_proj.weight)
    return network
