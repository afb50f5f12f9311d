"""Entries of real models, as a suite names them: where each one's files go is its ``folder``."""

ENTRIES = """
.sd15: &sd15 {folder: stable-diffusion-v1-5, variant: fp16, resolution: 512, dtype: fp16}
.sdxl: &sdxl {folder: stable-diffusion-xl-base-1.0, variant: fp16, resolution: 1024, dtype: fp16}

sd15_50:
  <<: *sd15
  label: SD 1.5, DDIM
  stand_in_for: SD-v1.5 of Table 2
  scheduler: DDIMScheduler
  steps: 50
  guidance: 3
sd15_dpm_4:
  <<: *sd15
  label: SD 1.5, DPM++
  stand_in_for: a fast solver, which no training distilled
  scheduler: DPMSolverMultistepScheduler
  steps: 4
  guidance: 3
sd15_unipc_4:
  <<: *sd15
  label: SD 1.5, UniPC
  stand_in_for: a fast solver, which no training distilled
  scheduler: UniPCMultistepScheduler
  steps: 4
  guidance: 3

.lcm: &lcm
  <<: *sd15
  stand_in_for: SD-distilled of Table 3, whose weights are not public
  lora: lcm-lora-sdv1-5/pytorch_lora_weights.safetensors
  scheduler: LCMScheduler
  guidance: 1
lcm_lora_1: {<<: *lcm, label: LCM-LoRA, steps: 1}
lcm_lora_2: {<<: *lcm, label: LCM-LoRA, steps: 2}
lcm_lora_4: {<<: *lcm, label: LCM-LoRA, steps: 4}

.turbo: &turbo
  stand_in_for: distilled diffusion with an adversarial loss
  variant: fp16
  scheduler_options: {timestep_spacing: trailing}
  guidance: 0
  resolution: 512
  dtype: fp16
sd_turbo_1: {<<: *turbo, label: SD-Turbo, folder: sd-turbo, steps: 1}
sdxl_turbo_1: {<<: *turbo, label: SDXL-Turbo, folder: sdxl-turbo, steps: 1}
sdxl_turbo_4: {<<: *turbo, label: SDXL-Turbo, folder: sdxl-turbo, steps: 4}

sdxl_lightning_4:
  <<: *sdxl
  label: SDXL-Lightning
  stand_in_for: distilled diffusion with an adversarial loss
  denoiser: SDXL-Lightning/sdxl_lightning_4step_unet.safetensors
  scheduler: EulerDiscreteScheduler
  scheduler_options: {timestep_spacing: trailing}
  steps: 4
  guidance: 0
dmd2_sdxl_4:
  <<: *sdxl
  label: DMD2
  stand_in_for: distilled diffusion with a distribution-matching loss
  denoiser: DMD2/dmd2_sdxl_4step_unet_fp16.bin
  allow_pickle: true # no safetensors of it are offered; it is read as tensors alone
  scheduler: LCMScheduler
  timesteps: [999, 749, 499, 249] # the scheduler's own four are others
  guidance: 0
pixart_lcm_4:
  label: PixArt-LCM
  stand_in_for: distilled diffusion with a transformer
  folder: PixArt-LCM-XL-2-1024-MS
  scheduler: LCMScheduler
  steps: 4
  guidance: 0
  resolution: 1024
  dtype: fp16
sana_sprint_2:
  label: SANA-Sprint
  stand_in_for: distilled diffusion with a transformer
  folder: Sana_Sprint_1.6B_1024px_diffusers
  steps: 2
  guidance: 4.5
  resolution: 1024
  dtype: bf16
instaflow_1:
  label: InstaFlow
  stand_in_for: distilled diffusion by rectified flow
  adapter: python
  folder: instaflow_0_9B_from_sd_1_5
  module: instaflow.py:InstaFlow # your own file: diffusers has no pipeline of its class, and none is run from a folder
  resolution: 512
"""
