"""What an entry of a pretrained model may say, and what must lie in its folder: all without loading weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.rivals.pretrained import check, samplers
from evaluation.rivals.pretrained.settings import pick, read
from tests.evaluation.rivals.pretrained.conftest import entry

ENTRIES = Path(__file__).parents[4] / "ablations/pretrained.yaml"
ENTRY = "tiny: {label: Tiny, folder: sd, steps: 2, guidance: 3, resolution: 64}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace("steps", "stepz"), "no field 'stepz' (did you mean 'steps'?)"),
        (ENTRY.replace("64", "'64'"), "resolution: must be a whole number, not '64'"),
        (ENTRY.replace("label: Tiny, ", ""), "lacks label, text"),
        (ENTRY.replace("label", "adapter: difusers, label"), "adapter: must be diffusers or single_file or"),
        (ENTRY.replace("label", "dtype: half, label"), "dtype: must be fp32 or fp16 or bf16, not 'half'"),
        (ENTRY.replace("label", "call: {eta: [1]}, label"), "call: must be a map from texts to"),
        ("other: {}", "lacks label"),
    ],
)
def test_a_field_that_is_unknown_lacking_or_of_another_type_is_one_line(tmp_path, text, said):
    path = tmp_path / "pretrained.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as e:
        read(path)
    assert said in e.value.message
    assert "\n" not in e.value.message


def test_an_entry_that_is_not_there_is_named_with_the_nearest(tmp_path):
    path = tmp_path / "pretrained.yaml"
    path.write_text(ENTRY)
    assert pick(path, "tiny") == entry()
    with pytest.raises(SystemExit, match=r"no pretrained model 'tinny' .did you mean 'tiny'"):
        pick(path, "tinny")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 4, "timesteps": (999, 500)}, "both steps and timesteps are given"),
        ({"steps": 0}, "neither steps nor timesteps are given"),
        ({"steps": -1}, "steps: must be at least 1"),
        ({"timesteps": (250, 999)}, "timesteps: must fall from noise to picture"),
        ({"timesteps": (-1,)}, "timesteps: must be 0 or more"),
        ({"resolution": 500}, "resolution: must be a multiple of 8 px, not 500"),
        ({"guidance": None}, "lacks guidance"),
        ({"guidance": float("nan")}, "guidance: must be 0 or more"),
        ({"guidance": 1.0, "negative_prompt": "green"}, "negative_prompt: does nothing at guidance 1"),
        ({"lora_scale": 0.5}, "lora_scale: 0.5 without a lora"),
        ({"call": {"generator": 1}}, "call: generator is not to be given here"),
        ({"folder": "../sd"}, "folder: ../sd must lie in the folder of models"),
        ({"denoiser": "/etc/passwd"}, "denoiser: /etc/passwd must lie in the folder of models"),
        ({"module": "a.py:A"}, "module: means nothing to the adapter diffusers"),
        ({"adapter": "images"}, "means nothing to the adapter images"),
        ({"adapter": "single_file"}, "lacks file"),
        ({"sha256": "abc"}, "sha256: must be 64 hexadecimal digits"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_one_line(fields, said):
    with pytest.raises(SystemExit) as e:
        entry(**fields)
    assert said in e.value.message


def test_what_makes_other_pictures_is_another_recipe_and_what_names_them_is_not():
    recipe = entry().recipe("files")
    assert entry(guidance=3, call={}).recipe("files") == recipe  # 3.0, and nothing that is not so anyway
    assert entry(label="Other", stand_in_for="SD-distilled").recipe("files") == recipe
    for other in ({"steps": 3}, {"guidance": 4.0}, {"dtype": "bf16"}, {"call": {"eta": 1.0}}, {"safety_checker": True}):
        assert entry(**other).recipe("files") != recipe
    assert entry().recipe("other files") != recipe


def test_reading_entries_imports_neither_torch_nor_diffusers():
    code = (
        "import sys, evaluation.rivals.pretrained.settings; print({'torch', 'diffusers', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scheduler": "LCMSchedulr"}, "diffusers has no 'LCMSchedulr' (did you mean 'LCMScheduler'?)"),
        ({"scheduler": "DDIMScheduler", "timesteps": (999, 499)}, "timesteps: DDIMScheduler takes a number of steps"),
        ({"scheduler": "LCMScheduler", "timesteps": (1200, 499)}, "timesteps: LCMScheduler knows 0 to 999, not 1200"),
        ({"scheduler": "LCMScheduler", "steps": 60}, "LCMScheduler does not take these steps"),
        ({"scheduler_options": {"spacing": "trailing"}}, "DDIMScheduler has no 'spacing'"),
        ({"call": {"etaa": 1}}, "StableDiffusionPipeline takes no 'etaa' (did you mean 'eta'?)"),
        ({"safety_checker": True}, "safety_checker: "),
        ({"variant": "fp16"}, "has no weights of the variant fp16; say no variant"),
        ({"lora": "lcm-lora"}, "lcm-lora is not there: put the LoRA (a file of weights, or a folder with one) there"),
        ({"denoiser": "unet"}, "unet is not there: put the unet (a file of weights, or its folder) there"),
        (
            {"folder": "nope"},
            "nope is not there: put the files of the model's repository, with model_index.json on top",
        ),
        ({"folder": "sd/model_index.json"}, "is a file: a pipeline is a folder with model_index.json"),
        ({"folder": "sd/unet"}, "is no pipeline's folder: it has no model_index.json"),
        ({"sha256": 64 * "0"}, "its files are other ones than expected: their digest is"),
    ],
    ids=str,
)
def test_what_a_folder_does_not_give_is_one_line_before_anything_is_loaded(models, fields, said):
    with pytest.raises(SystemExit) as e:
        samplers.look(entry(**fields), models)
    assert said in e.value.message
    assert "\n" not in e.value.message


def test_a_missing_folder_of_models_says_what_to_make(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no folder of models .*models: make it"):
        samplers.look(entry(), tmp_path / "models")


@pytest.fixture
def own(models, tmp_path):
    """A folder of models with an sd of its own."""
    shutil.copytree(models / "sd", tmp_path / "sd")
    return tmp_path


def refusal(own, **fields) -> str:
    with pytest.raises(SystemExit) as e:
        samplers.look(entry(**fields), own)
    assert "\n" not in e.value.message
    return e.value.message


def test_a_part_that_lacks_is_named(own):
    shutil.rmtree(own / "sd" / "vae")
    assert refusal(own) == f"{own / 'sd'}: lacks vae: put that folder of the repository there, too"


def test_a_part_without_its_configuration_or_weights_is_named(own):
    (own / "sd" / "unet" / "diffusion_pytorch_model.safetensors").rename(own / "unet.safetensors")
    assert "unet: has no weights: put its .safetensors there" in refusal(own)
    (own / "sd" / "unet" / "config.json").unlink()
    assert "unet: has no configuration" in refusal(own)


def test_a_part_whose_weights_are_given_elsewhere_needs_none(own):
    (own / "sd" / "unet" / "diffusion_pytorch_model.safetensors").rename(own / "unet.safetensors")
    assert samplers.look(entry(denoiser="unet.safetensors"), own).sha


def test_weights_that_are_there_as_another_variant_alone_are_named(own):
    unet = own / "sd" / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.fp16.safetensors")
    assert "unet: has no weights without a variant; say variant: fp16" in refusal(own)


def test_a_shard_that_lacks_is_named(own):
    unet = own / "sd" / "unet"
    name = "diffusion_pytorch_model-0000{}-of-00002.safetensors".format
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / name(1))
    index = {"weight_map": {"a": name(1), "b": name(2)}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert f"unet: lacks {name(2)} (1 of 2 files): bring it" in refusal(own)


class Told:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return print, ("this ran",)


def test_pickled_weights_are_refused_unless_allowed_and_then_nothing_in_them_runs(own, load, capsys):
    unet = own / "sd" / "unet"
    safe = unet / "diffusion_pytorch_model.safetensors"
    tensors = load_file(safe)
    wanted = load(own)(["blue"], [1])
    torch.save(tensors, unet / "diffusion_pytorch_model.bin")
    safe.unlink()
    assert "only pickled weights are there: bring the .safetensors, or say allow_pickle: true" in refusal(own)
    assert (load(own, allow_pickle=True)(["blue"], [1]) == wanted).all()
    torch.save({**tensors, "conv_in.bias": Told()}, unet / "diffusion_pytorch_model.bin")
    with pytest.raises(SystemExit, match="cannot be loaded"):
        load(own, allow_pickle=True)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": ["pipeline", "RectifiedFlowPipeline"]}, "code of its own, which is not run"),
        ({"_class_name": "NoPipeline"}, "diffusers has no pipeline 'NoPipeline'"),
        ({"unet": ["os", "system"]}, "unet is of 'os', which is not loaded"),
        ({"unet": [None, None]}, "has neither a unet nor a transformer"),
    ],
    ids=str,
)
def test_an_index_that_asks_for_other_code_is_refused(own, change, said):
    path = own / "sd" / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert said in refusal(own)


def test_an_index_or_configuration_that_cannot_be_read_is_one_line(own):
    (own / "sd" / "scheduler" / "scheduler_config.json").write_text("[")
    assert "scheduler_config.json: is not JSON" in refusal(own)
    (own / "sd" / "model_index.json").write_text("[]")
    assert "model_index.json: is no JSON object" in refusal(own)


def test_the_digest_is_that_of_names_and_contents_and_can_be_asked_for(own):
    sha = samplers.look(entry(), own).sha
    assert samplers.look(entry(sha256=sha), own).sha == sha
    file = own / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["encoder.conv_in.bias"] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert "its files are other ones than expected" in refusal(own, sha256=sha)


def test_check_prints_what_would_run_and_names_what_cannot(models, tmp_path, monkeypatch, capsys):
    path = tmp_path / "pretrained.yaml"
    path.write_text(f"{ENTRY}\nlost: {{label: Lost, folder: lost, steps: 1, guidance: 0, resolution: 64}}\n")
    monkeypatch.setattr(sys, "argv", ["check", "--models", str(models), "--settings", str(path)])
    with pytest.raises(SystemExit, match="1 cannot be run: lost"):
        check.main()
    tiny, lost = capsys.readouterr().out.splitlines()
    assert tiny.startswith("tiny: StableDiffusionPipeline, DDIMScheduler, 2 steps at 501 1, guidance 3, 64 px, fp32")
    assert "lost is not there" in lost


def test_the_entries_of_real_models_are_sound():
    found = {name: entry for name, entry in read(ENTRIES).items() if not name.startswith("tiny_")}
    assert len(found) == 14
    assert found["dmd2_sdxl_4"].timesteps == (999, 749, 499, 249)
    assert all(model.stand_in_for for model in found.values())


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("sd15_50", "sd"),
        ("sd15_dpm_4", "sd"),
        ("sd15_unipc_4", "sd"),
        ("lcm_lora_4", "sd"),
        ("sd_turbo_1", "sd"),
        ("sdxl_turbo_4", "sdxl"),
        ("sdxl_lightning_4", "sdxl"),
        ("dmd2_sdxl_4", "sdxl"),
        ("pixart_lcm_4", "pixart"),
        ("sana_sprint_2", "sana"),
    ],
)
def test_the_entries_of_real_models_sample_tiny_ones_of_their_kind(name, folder, models):
    """Their schedulers take their steps, and each step is one evaluation, or two with guidance."""
    real = pick(ENTRIES, name)
    fields = ("scheduler", "scheduler_options", "steps", "timesteps", "guidance")
    tiny = entry(folder=folder, **{field: getattr(real, field) for field in fields})
    guided = real.guidance > 1 and folder != "sana"  # which takes the scale itself
    assert samplers.load(tiny, models, torch.device("cpu")).nfe == (len(real.timesteps) or real.steps) * (1 + guided)
