"""Rivals through their commands: a few steps of training, what a run says of itself, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import samplers
from evaluation.execution import Execution
from evaluation.rivals import families, sample, train
from gigagan.archive import read_images, write_images
from gigagan.errors import UserError
from gigagan.sampling import load

CPU = torch.device("cpu")
CAPTIONS = ["a small red circle on white", "a big blue square on black", "a green triangle"]
SETTINGS = {
    "stylegan2": ["attention.kinds=none", "generator.kernels=1", "loss.matching=none", "loss.clip_weight=0",
                  "vision.weight=0", "discriminator.multi_scale=none", "discriminator.predictor=projection"],
    "stylegan_t": ["data.resolution=16", "generator.z_dim=8", "generator.channel_base=128", "generator.channel_max=16",
                   "generator.res_blocks=1", "discriminator.backbone=clip", "discriminator.levels=0,1,2",
                   "train.batch=8"],
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch, clip_folder, tiny_overrides) -> Callable[..., Path]:
    """``run(family, *words)``: trains two steps, as the command does; returns the folder."""

    def trained(family: str, *words: str) -> Path:
        base = tiny_overrides if family == "stylegan2" else []
        shared = [f"text.clip=local-dir:{clip_folder}", "train.kimg=0.016"]
        typed = ["--family", family, "--out", str(tmp_path / family), "--device", "cpu", "--checkpoint", "1"]
        monkeypatch.setattr("sys.argv", ["train", *typed, *base, *SETTINGS[family], *shared, *words])
        train.main()
        return tmp_path / family

    return trained


@pytest.mark.parametrize("family", SETTINGS)
def test_a_rival_learns_keeps_itself_and_draws(family: str, run, monkeypatch, tmp_path: Path) -> None:
    folder = run(family)
    about = json.loads((folder / "run.json").read_text())
    assert (about["family"], about["kimg"], about["steps"], about["nfe"]) == (family, 0.016, 1, 1)
    assert about["train_tflop"] > 0
    assert about["discriminator_params_m"] > 0
    assert (folder / "grid.png").is_file()

    before, after = (samplers.load(folder, "cpu", snapshot) for snapshot in (0, None))
    pictures = [sampler(CAPTIONS, [3, 4, 5]) for sampler in (before, after)]
    assert (pictures[0] != pictures[1]).any()  # what it learned is what is kept

    blank = [np.zeros((16, 16, 3), np.uint8)] * len(CAPTIONS)
    write_images(tmp_path / "prompts.zip", iter(blank), CAPTIONS, [0, 1, 2])
    typed = ["--run", str(folder), "--prompts", str(tmp_path / "prompts.zip"), "--out", str(tmp_path / "samples.zip")]
    monkeypatch.setattr("sys.argv", ["sample", *typed, "--batch", "2"])
    sample.main()
    drawn, _ = read_images(tmp_path / "samples.zip")
    assert (drawn == after(CAPTIONS, [0, 1, 2])).mean() > 0.999


def test_stylegan2_is_read_by_all_that_reads_gigagan(run) -> None:
    sampler = load(run("stylegan2"))
    assert sampler(CAPTIONS, [0, 1, 2]).shape == (3, 16, 16, 3)
    assert sampler.style_mean is not None  # its truncation, too


def test_a_run_of_another_family_is_another_recipe(run, tmp_path: Path) -> None:
    run("stylegan2")
    (tmp_path / "stylegan2").rename(tmp_path / "stylegan_t")
    with pytest.raises(UserError, match="holds a run of another recipe"):
        run("stylegan_t")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start", "elsewhere"], "--start elsewhere: StyleGAN-T begins from nothing"),
        (["generator.chanel_base=8"], r"unknown override 'generator.chanel_base' \(did you mean 'generator.chan"),
        (["discriminator.backbone=nowhere.safetensors"], "backbone=nowhere.safetensors: there is no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run("stylegan_t", *words)
    assert not (tmp_path / "stylegan_t").exists()


@pytest.mark.parametrize("family", SETTINGS)
def test_a_network_that_is_ready_to_draw_draws_what_was_trained(family: str, run) -> None:
    folder = run(family)
    ready, trained = (samplers.load(folder, CPU, dtype=dtype) for dtype in ("fp32", None))
    pictures = [sampler.generate(sampler.encode(CAPTIONS), [0, 1, 2]) for sampler in (ready, trained)]
    assert torch.allclose(*pictures, atol=1e-5)
    assert not torch.equal(*pictures)  # it does take another way


def test_stylegan2_with_a_part_of_gigagan_is_refused(run) -> None:
    with pytest.raises(UserError, match=r"generator\.kernels=2: StyleGAN2 has no such part: set generator\.kernels=1"):
        run("stylegan2", "generator.kernels=2")
    with pytest.raises(UserError, match="--start elsewhere: StyleGAN2 begins from nothing"):
        run("stylegan2", "--start", "elsewhere")


@pytest.mark.parametrize("family", SETTINGS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_every_family_is_timed_in_every_dtype(family: str, dtype: str, run, monkeypatch) -> None:
    folder = run(family)
    execution = Execution(CPU, dtype)
    sampler = samplers.load(folder, CPU, dtype=execution.prepared)
    drawing, encoders = samplers.networks(sampler)
    execution.place([*drawing, *encoders])
    with execution(), torch.inference_mode():
        image = sampler.generate(sampler.encode(CAPTIONS), [0, 1, 2])
    plain = samplers.load(folder, CPU).generate(samplers.load(folder, CPU).encode(CAPTIONS), [0, 1, 2])
    assert (image.float() - plain).abs().mean() < 0.05 * plain.std() + (0 if dtype == "fp32" else 0.05)


@pytest.mark.parametrize("family", SETTINGS)
def test_compilation_reaches_what_draws(family: str, run, monkeypatch) -> None:
    graphs = []
    monkeypatch.setattr(torch, "compile", lambda call, **how: graphs.append(call) or call)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: graphs.append(self))
    sampler = samplers.load(run(family), CPU, dtype=None)
    drawing, _ = samplers.networks(sampler)
    Execution(CPU, compiled="default").compile(drawing)
    names = {getattr(graph, "__name__", type(graph).__name__) for graph in graphs}
    assert {"synthesise", "Mapping"} <= names


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown family 'stylegant' \(did you mean 'stylegan_t'"):
        families.family("stylegant")
