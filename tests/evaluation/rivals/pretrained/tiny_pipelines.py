"""Tiny pipelines of further classes with random weights, saved by diffusers itself as the real ones are."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableDiffusionXLPipeline,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from evaluation.rivals.pretrained.tiny import SIGNS, WIDTH, scheduler, sd, text_config, tokenizer, unet, vae


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


def checked_sd(folder: Path) -> Path:
    """With a safety checker."""
    return sd(
        folder,
        safety_checker=checker(),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
        requires_safety_checker=True,
    )


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
