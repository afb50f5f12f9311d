"""Pipelines in local folders, saved by diffusers itself: what they draw, and what of that depends on what."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.evaluation.rivals.pretrained import one_file, tiny_pipelines

CAPTIONS = ["a red circle", "blue", "a big green square on a small one", "blue"]
SEEDS = [3, 4, 2**40, 5]
FAMILIES = [
    {"folder": "sd"},
    {"folder": "sd", "scheduler": "LCMScheduler", "guidance": 1.0, "steps": 4},
    {"folder": "sd", "scheduler": "EulerAncestralDiscreteScheduler"},
    {"folder": "sdxl"},
    {"folder": "pixart", "guidance": 4.5},
    {"folder": "sana", "guidance": 4.5},
    {"folder": "lcm", "guidance": 8.5},
]


def far(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference, in levels."""
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_a_picture_depends_on_its_own_caption_and_seed_alone(load, fields):
    sampler = load(**fields)
    together = sampler(CAPTIONS, SEEDS)
    assert together.shape == (4, 64, 64, 3)
    for i in (1, 2):
        assert far(together[i : i + 1], sampler([CAPTIONS[i]], [SEEDS[i]])) <= 1
    assert far(together[1], together[3]) > 3  # one caption, two seeds
    assert far(together[1], sampler(["a red circle"], [SEEDS[1]])[0]) > 0


@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_captions_encoded_apart_draw_what_the_pipelines_own_call_draws(load, models, fields):
    sampler = load(**fields)
    more = {"use_resolution_binning": False} if fields["folder"] in ("pixart", "sana") else {}
    drawn = sampler.pipe(
        prompt=CAPTIONS[:2],
        num_inference_steps=fields.get("steps", 2),
        guidance_scale=fields.get("guidance", 3.0),
        height=64,
        width=64,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS[:2]],
        output_type="np",
        **more,
    ).images
    assert far(sampler(CAPTIONS[:2], SEEDS[:2]), (drawn * 255).round().astype(np.uint8)) == 0


def test_the_text_encoder_runs_in_encode_alone(load):
    sampler, runs = load(), []
    sampler.pipe.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    condition = sampler.encode(["blue"])
    assert len(runs) == 2  # the caption, and none for the guidance
    sampler.generate(condition, [0])
    assert len(runs) == 2
    assert sampler.separable
    assert sampler.timeable


def test_without_guidance_no_text_is_encoded_for_it(load):
    sampler, runs = load(guidance=1.0), []
    sampler.pipe.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    assert "negative_prompt_embeds" not in sampler.encode(["blue"])
    assert len(runs) == 1


def test_captions_are_never_cleaned_which_would_depend_on_what_is_installed(load, monkeypatch):
    sampler, cleaned = load(folder="pixart", guidance=4.5), []
    encode = sampler.pipe.encode_prompt

    @functools.wraps(encode)
    def spied(*args, clean_caption, **more):
        cleaned.append(clean_caption)
        return encode(*args, clean_caption=clean_caption, **more)

    monkeypatch.setattr(sampler.pipe, "encode_prompt", spied)
    sampler(["blue"], [0])
    assert cleaned == [False, False]  # ours, and the one of the pipeline's own call


def test_guidance_and_a_negative_prompt_change_pictures(load):
    plain, guided, negative = (
        load(**fields)(["blue"], [1])
        for fields in ({"guidance": 1.0}, {"guidance": 7.5}, {"guidance": 7.5, "negative_prompt": "green"})
    )
    assert far(plain, guided) > 0
    assert far(guided, negative) > 0


@pytest.mark.parametrize(
    ("fields", "evaluations"),
    [
        ({"steps": 3}, 6),  # guided
        ({"steps": 3, "guidance": 1.0}, 3),
        ({"steps": 4, "guidance": 1.0, "scheduler": "LCMScheduler"}, 4),
        ({"steps": 1, "guidance": 0.0, "scheduler": "EulerDiscreteScheduler"}, 1),
        ({"steps": 3, "guidance": 0.0, "scheduler": "HeunDiscreteScheduler"}, 5),  # of second order but at its end
        ({"steps": 4, "scheduler": "PNDMScheduler", "scheduler_options": {"skip_prk_steps": True}}, 10),  # one is twice
        ({"folder": "sdxl", "timesteps": (999, 749, 499, 249), "scheduler": "LCMScheduler", "guidance": 0.0}, 4),
        ({"folder": "pixart", "steps": 2, "guidance": 4.5}, 4),
        ({"folder": "sana", "guidance": 4.5}, 2),  # which takes the guidance scale itself
        ({"folder": "lcm", "guidance": 8.5}, 2),  # so does this
        ({"separable": False, "steps": 3}, 6),
    ],
    ids=str,
)
def test_evaluations_a_picture_are_counted(load, fields, evaluations):
    sampler, calls = load(**fields), []
    denoiser = getattr(sampler.pipe, "unet", None) or sampler.pipe.transformer
    denoiser.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    assert sampler.nfe == evaluations
    assert sum(calls) == evaluations
    sampler(CAPTIONS[:2], SEEDS[:2])
    assert sum(calls) == 3 * evaluations


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"timesteps": (999, 749, 499, 249)}, [999, 749, 499, 249]),  # DMD2's
        ({"steps": 4}, [999, 759, 499, 259]),  # the scheduler's own
    ],
)
def test_the_steps_taken_are_those_asked_for_and_those_said(load, fields, seen):
    sampler, taken = load(scheduler="LCMScheduler", guidance=0.0, **fields), []
    sampler.pipe.unet.register_forward_hook(lambda module, args, out: taken.append(int(args[1])))
    sampler(["blue"], [0])
    assert taken == seen
    assert f"LCMScheduler, 4 steps at {' '.join(map(str, seen))}, guidance 0, 64 px, fp32" in sampler.description


def test_the_safety_checker_is_off_unless_asked_for_and_what_it_blackens_is_counted(load):
    off, on = load(folder="checked"), load(folder="checked", safety_checker=True)
    assert off.pipe.safety_checker is None
    assert off.description.endswith("safety checker off")
    assert off(["blue"], [0]).std() > 1
    assert on.description.endswith("safety checker on")
    assert not on(["blue", "red"], [0, 1]).any()
    assert on.nfe == off.nfe == 4
    assert (off.n_blackened, on.n_blackened) == (0, 2)


def test_a_lora_is_merged_at_its_scale(load, models):
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(1)
    unet = tiny_pipelines.unet()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(models / "lora", unet_lora_layers=get_peft_model_state_dict(unet))
    plain, full, none = load(), load(lora="lora"), load(lora="lora", lora_scale=0.0)
    wanted = plain(["blue"], [1])
    assert far(full(["blue"], [1]), wanted) > 3
    assert far(none(["blue"], [1]), wanted) == 0
    assert full.params_m == plain.params_m  # nothing is beside the weights that would take time
    assert full.sha != plain.sha
    with pytest.raises(SystemExit, match=r"lora: .* does not fit this pipeline"):
        load(lora="sd/unet/diffusion_pytorch_model.safetensors")


def test_another_denoiser_comes_from_a_folder_a_file_or_where_allowed_a_pickle(load, models):
    torch.manual_seed(2)
    unet = tiny_pipelines.unet()
    unet.save_pretrained(models / "other")
    torch.save(unet.state_dict(), models / "other.bin")
    wanted = load(denoiser="other")(["blue"], [1])
    assert far(wanted, load()(["blue"], [1])) > 3
    assert far(wanted, load(denoiser="other/diffusion_pytorch_model.safetensors")(["blue"], [1])) == 0
    with pytest.raises(SystemExit, match=r"other\.bin: is pickled: bring a \.safetensors file, or say allow_pickle"):
        load(denoiser="other.bin")
    assert far(wanted, load(denoiser="other.bin", allow_pickle=True)(["blue"], [1])) == 0


def test_a_denoiser_of_another_network_is_one_line(load, models):
    tiny_pipelines.unet(16).save_pretrained(models / "wide")
    with pytest.raises(SystemExit, match="cross_attention_dim is 16, the folder's own 8"):
        load(denoiser="wide")
    with pytest.raises(SystemExit, match=r"is no UNet2DConditionModel of .*size mismatch"):
        load(denoiser="wide/diffusion_pytorch_model.safetensors")


def test_a_single_file_with_a_local_configuration_draws_the_same(load, models):
    one_file.write(models / "sd", models / "one.safetensors")
    single = load(adapter="single_file", file="one.safetensors")
    assert far(single(["blue"], [1]), load()(["blue"], [1])) == 0


def test_an_option_of_the_scheduler_that_the_pipeline_overrules_is_refused(load):
    with pytest.raises(SystemExit, match="StableDiffusionPipeline makes steps_offset 1, whatever is said"):
        load(scheduler_options={"steps_offset": 0})


def test_noise_that_no_seed_governs_is_refused(load, monkeypatch):
    sampler = load()
    step = sampler.pipe.scheduler.step

    def noisy(model_output, *rest, **more):
        return step(model_output + torch.randn_like(model_output), *rest, **more)

    monkeypatch.setattr(sampler.pipe.scheduler, "step", noisy)
    with pytest.raises(SystemExit, match="StableDiffusionPipeline with DDIMScheduler draws noise that no seed governs"):
        sampler(["blue"], [0])


def test_captions_that_the_text_encoder_cuts_are_counted(load):
    assert load().count_cut([" ".join("a" * 75), " ".join("a" * 76), "blue"]) == 1


def test_half_precision_is_said_and_refused_where_it_does_not_run(load):
    sampler = load(dtype="bf16")
    assert next(sampler.pipe.unet.parameters()).dtype == torch.bfloat16
    assert (sampler.dtype, sampler.generate(sampler.encode(["blue"]), [0]).dtype) == ("bf16", torch.float32)
    with pytest.raises(SystemExit, match="dtype: fp16 does not run on a CPU"):
        load(dtype="fp16")


def test_parameters_are_those_of_what_draws(load):
    sampler = load()
    vae = sampler.pipe.vae
    drawing = (sampler.pipe.unet, vae.decoder, vae.post_quant_conv)
    assert sampler.params_m == sum(p.numel() for module in drawing for p in module.parameters()) / 1e6


def test_a_class_that_is_not_known_must_be_declared_to_encode_within_its_call(load, monkeypatch):
    from evaluation.rivals.pretrained import diffusion

    apart = load()(["blue"], [1])
    monkeypatch.delitem(diffusion.ENCODED, "StableDiffusionPipeline")
    with pytest.raises(SystemExit, match="how StableDiffusionPipeline encodes captions is not known here"):
        load()
    within = load(separable=False)
    assert "the generator alone is not timed" in within.description
    assert not within.separable
    assert far(within(["blue"], [1]), apart) == 0


def test_what_a_pipeline_refuses_as_it_runs_is_one_line(load):
    with pytest.raises(SystemExit, match=r"StableDiffusionPipeline refuses this: .*callback_on_step_end_tensor_inputs"):
        load(call={"callback_on_step_end_tensor_inputs": "xy"})(["blue"], [0])


def test_a_part_with_too_few_tensors_is_refused_where_the_library_would_draw_them_at_random(load, models, tmp_path):
    shutil.copytree(models / "sd", tmp_path / "sd")
    file = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_out.weight"]
    save_file(tensors, file)
    with pytest.raises(SystemExit, match=r"unet: holds 207 tensors of 208: bring its files again"):
        load(tmp_path)
