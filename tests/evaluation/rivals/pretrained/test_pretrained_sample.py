"""The command that draws a set of pictures with a pretrained model, and what it says of flaws and of memory."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from evaluation.rivals.pretrained import sample
from gigagan.archive import read_about, read_images, read_prompts
from gigagan.degenerate import Tally
from gigagan.drawing import draw, write
from gigagan.memory import is_out_of_memory
from tests.evaluation.rivals.pretrained.conftest import entry

ENTRIES = """
tiny: {label: Tiny, folder: sd, steps: 1, guidance: 3, resolution: 64}
black: {label: Black, folder: checked, steps: 1, guidance: 1, resolution: 64, safety_checker: true}
"""
CAPTIONS = ["a red circle", "blue", "a red circle"]


@pytest.fixture
def command(models, tmp_path, monkeypatch):
    """``command("tiny", "--batch", "2")`` -> samples.zip and run.json"""
    (tmp_path / "pretrained.yaml").write_text(ENTRIES)
    lines = [json.dumps({"index": i, "caption": caption, "seed": 0}) for i, caption in enumerate(CAPTIONS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))

    def run(name: str, *more: str):
        out, about = tmp_path / f"{name}.zip", tmp_path / f"{name}.json"
        files = {"models": models, "settings": tmp_path / "pretrained.yaml", "prompts": tmp_path / "prompts.jsonl"}
        options = [word for option, path in files.items() for word in (f"--{option}", str(path))]
        options += ["--model", name, "--out", str(out), "--about", str(about), *more]
        monkeypatch.setattr(sys, "argv", ["sample", *options])
        sample.main()
        return out, json.loads(about.read_text())

    return run


def test_the_command_draws_the_prompts_and_says_of_what(command, load, capsys):
    out, about = command("tiny", "--batch", "2")
    images, captions = read_images(out)
    assert captions == CAPTIONS
    assert [prompt["seed"] for prompt in read_prompts(out)] == [0, 1, 2]
    sampler = load(steps=1)
    assert np.abs(images.astype(int) - sampler(CAPTIONS, [0, 1, 2])).max() <= 1
    assert about["recipe_sha"] == entry(label="Another", steps=1).recipe(sampler.sha) != entry().recipe(sampler.sha)
    assert (about["family"], about["nfe"], about["dtype"], about["kimg"]) == ("pretrained", 2, "fp32", None)
    assert about["params_m"] == sampler.params_m
    assert about["flaws"] == {"n": 3, "n_constant": 0, "n_non_finite": 0, "n_blackened": 0, "n_cut": 0}
    said = capsys.readouterr().err
    assert "tiny: StableDiffusionPipeline, DDIMScheduler, 1 step at 1, guidance 3, 64 px, fp32" in said
    assert "3/3 img" in said
    assert "warning" not in said


def test_blackened_pictures_are_said_and_counted(command, capsys):
    out, about = command("black")
    assert not read_images(out)[0].any()
    assert about["flaws"] == {"n": 3, "n_constant": 3, "n_non_finite": 0, "n_blackened": 3, "n_cut": 0}
    said = capsys.readouterr().err
    assert "safety checker on" in said
    assert "3 of 3 pictures are of one colour throughout" in said
    assert "3 of 3 pictures were blackened by the safety checker" in said


class Small:
    """A sampler whose device holds three pictures at once."""

    resolution, device = 8, torch.device("cpu")

    def __init__(self, holds: int = 3) -> None:
        self.holds, self.batches = holds, []

    def encode(self, captions):
        return captions

    def generate(self, condition, seeds):
        self.batches.append(len(seeds))
        if len(seeds) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tensor(seeds)[:, None, None, None].expand(-1, 3, 8, 8) / 100


def drawn(sampler, n=10, batch=8):
    pictures = draw(sampler, ["a"] * n, list(range(n)), batch, Tally())
    return [round((int(picture[0, 0, 0]) / 127.5 - 1) * 100) for picture in pictures]


def test_what_held_nan_is_counted_said_and_kept_with_the_pictures(tmp_path, capsys):
    class Broken(Small):
        def generate(self, condition, seeds):
            images = super().generate(condition, seeds).clone()
            images[..., 0] = 1  # else they would all be of one colour
            images[[seed == 4 for seed in seeds], 0, 0, 0] = float("nan")
            images[[seed == 5 for seed in seeds]] = float("inf")
            return images

    tally = write(tmp_path / "x.zip", Broken(), ["a"] * 7, list(range(7)), 3)
    assert (tally.n, tally.n_non_finite, tally.n_constant) == (7, 2, 0)
    assert read_about(tmp_path / "x.zip") == {"n_non_finite": 2}
    assert "2 of 7 pictures held NaN or infinity" in capsys.readouterr().err
    write(tmp_path / "y.zip", Small(), ["a"] * 7, list(range(7)), 3)
    assert read_about(tmp_path / "y.zip") == {}


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_that_is_said(capsys):
    sampler = Small()
    assert drawn(sampler) == list(range(10))  # each picture once, in order
    assert sampler.batches == [8, 4, 2, 2, 2, 2, 2]
    assert "--batch 8 does not fit into the memory of cpu: 2 does\n" in capsys.readouterr().err


def test_a_single_picture_that_does_not_fit_is_one_line():
    with pytest.raises(
        SystemExit, match="a single picture of 8 px does not fit into the memory of cpu: take a smaller"
    ):
        drawn(Small(holds=0))


def test_a_model_that_does_not_fit_is_one_line(load, monkeypatch):
    from diffusers import StableDiffusionPipeline

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusionPipeline, "to", full)
    with pytest.raises(SystemExit, match="does not fit into the memory of cpu; in half precision it takes half"):
        load()


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    class Broken(Small):
        def generate(self, condition, seeds):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        drawn(Broken())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(UnboundLocalError("cannot access local variable 'latents'"))
