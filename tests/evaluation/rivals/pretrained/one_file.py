"""A tiny pipeline's tensors under the names of the single files that Stable Diffusion first came in."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

UNET = [
    (r"time_embedding\.linear_1", "time_embed.0"),
    (r"time_embedding\.linear_2", "time_embed.2"),
    (r"conv_in", "input_blocks.0.0"),
    (r"conv_norm_out", "out.0"),
    (r"conv_out", "out.2"),
    (r"down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
    (r"down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (r"down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
    (r"down_blocks\.1\.attentions\.0", "input_blocks.3.1"),
    (r"mid_block\.resnets\.0", "middle_block.0"),
    (r"mid_block\.attentions\.0", "middle_block.1"),
    (r"mid_block\.resnets\.1", "middle_block.2"),
    (r"up_blocks\.0\.resnets\.(\d)", r"output_blocks.\1.0"),
    (r"up_blocks\.0\.attentions\.(\d)", r"output_blocks.\1.1"),
    (r"up_blocks\.0\.upsamplers\.0\.conv", "output_blocks.1.2.conv"),
    (r"up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
    (r"up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
]
RESNET = [
    (r"\.norm1", ".in_layers.0"),
    (r"\.conv1", ".in_layers.2"),
    (r"\.time_emb_proj", ".emb_layers.1"),
    (r"\.norm2", ".out_layers.0"),
    (r"\.conv2", ".out_layers.3"),
    (r"\.conv_shortcut", ".skip_connection"),
]
VAE = [
    (r"conv_norm_out", "norm_out"),
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_(q|k|v)", r"attn_1.\1"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"conv_shortcut", "nin_shortcut"),
]


def _unet(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    rules = [*UNET, *(RESNET if "resnets" in name else ())]
    for pattern, other in rules:
        name = re.sub(rf"^{pattern}" if (pattern, other) in UNET else pattern, other, name)
    return f"model.diffusion_model.{name}", tensor


def _vae(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    for pattern, other in VAE:
        name = re.sub(pattern, other, name)
    if "attn_1" in name and "norm" not in name and name.endswith("weight"):
        tensor = tensor[:, :, None, None]  # then it was a convolution
    return f"first_stage_model.{name}", tensor


def _text(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    return f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}", tensor


def write(folder: Path, file: Path) -> Path:
    """All weights of a pipeline's folder in one file."""
    tensors = {}
    for part, renamed in (("unet", _unet), ("vae", _vae), ("text_encoder", _text)):
        (weights,) = (folder / part).glob("*.safetensors")
        tensors |= dict(renamed(name, tensor) for name, tensor in load_file(weights).items())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file
