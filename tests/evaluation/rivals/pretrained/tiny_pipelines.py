"""Tiny pipelines with random weights, saved by diffusers itself as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WIDTH = 8
SIGNS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of single letters, written here."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SIGNS, *(f"{sign}</w>" for sign in SIGNS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=77,
        pad_token="<|endoftext|>",
    )


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 * len(SIGNS) + 2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=2 * len(SIGNS),
        eos_token_id=2 * len(SIGNS) + 1,
        pad_token_id=1,
    )


def unet(cross: int = WIDTH, **more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=2,
        norm_num_groups=2,
        **more,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
    )


def scheduler(kind: type = DDIMScheduler, **more):
    return kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, **more)


def checker() -> StableDiffusionSafetyChecker:
    """A safety checker that objects to every picture."""
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = StableDiffusionSafetyChecker(
        CLIPConfig(
            text_config=text_config(WIDTH).to_dict(),
            vision_config={**vision, "image_size": 16, "patch_size": 8},
            projection_dim=WIDTH,
        )
    )
    made.concept_embeds_weights.data.fill_(-2.0)  # thresholds below every cosine
    return made


def sd(folder: Path, checked: bool = False) -> Path:
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(WIDTH)),
        tokenizer=tokenizer(folder.with_name(f"{folder.name}-words")),
        unet=unet(),
        scheduler=scheduler(clip_sample=False, steps_offset=1),
        safety_checker=checker() if checked else None,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16) if checked else None,
        requires_safety_checker=checked,
    )
    pipe.save_pretrained(folder)
    return folder


def lcm(folder: Path) -> Path:
    """A latent consistency model, whose UNet takes the guidance scale."""
    torch.manual_seed(0)
    pipe = LatentConsistencyModelPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(WIDTH)),
        tokenizer=tokenizer(folder.with_name(f"{folder.name}-words")),
        unet=unet(time_cond_proj_dim=8),
        scheduler=scheduler(LCMScheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return folder


def sdxl(folder: Path) -> Path:
    torch.manual_seed(0)
    words = folder.with_name(f"{folder.name}-words")
    second = CLIPTextModelWithProjection(text_config(WIDTH))
    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(WIDTH)),
        text_encoder_2=second,
        tokenizer=tokenizer(words),
        tokenizer_2=tokenizer(words),
        # Six sizes of 4 values each beside the second encoder's projection.
        unet=unet(
            2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + WIDTH,
            transformer_layers_per_block=1,
        ),
        scheduler=scheduler(EulerDiscreteScheduler),
        add_watermarker=False,
    )
    pipe.save_pretrained(folder)
    return folder


def t5_tokenizer() -> T5Tokenizer:
    """Whole words alone; what is not one of them is unknown."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((sign, -3.0) for sign in SIGNS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def pixart(folder: Path) -> Path:
    torch.manual_seed(0)
    config = T5Config(vocab_size=64, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    pipe = PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=T5EncoderModel(config),
        vae=vae(),
        transformer=PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_channels=8,
            in_channels=4,
            cross_attention_dim=8,
            out_channels=8,
        ),
        scheduler=scheduler(LCMScheduler),
    )
    pipe.save_pretrained(folder)
    return folder


def sana_sprint(folder: Path) -> Path:
    torch.manual_seed(0)
    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "▁": 4, **{sign: i for i, sign in enumerate(SIGNS, 5)}}
    text = Gemma2Config(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=8,
        head_dim=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=1,
    )
    pipe = SanaSprintPipeline(
        tokenizer=GemmaTokenizer(vocab=words, merges=[]),
        text_encoder=Gemma2Model(text),
        vae=AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=32,
            qk_norm="rms_norm_across_heads",
            guidance_embeds=True,
        ),
        scheduler=SCMScheduler(),
    )
    pipe.save_pretrained(folder)
    return folder
