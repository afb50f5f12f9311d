"""A pretrained model as a run: bound, drawn with, scored and timed by the commands that take any run; no network."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import fixture, samplers, score, speed
from evaluation.execution import Execution
from evaluation.protocols import SpeedProtocol
from evaluation.rivals import sample
from evaluation.rivals.pretrained import bind
from evaluation.rivals.pretrained.settings import read
from gigagan.archive import read_images, write_images
from tests.evaluation.rivals.pretrained.conftest import entry

ENTRIES = """
tiny: {label: Tiny, folder: sd, steps: 2, guidance: 3, resolution: 64}
whole: {label: Whole, folder: sd, steps: 1, guidance: 1, resolution: 64, separable: false}
half: {label: Half, folder: sd, steps: 1, guidance: 1, resolution: 64, dtype: bf16}
finished: {label: Finished, adapter: images, folder: finished}
"""
CAPTIONS = [f"picture {sign}" for sign in "abcdefghijklmnop"]  # as many as the protocol scores
QUICK = SpeedProtocol("speed@2", "", warm_up=0, rounds=2, batches=(1, 2), sweep_rounds=1, matrix=16)


def command(main, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
    main()


@pytest.fixture(scope="module")
def place(models, tmp_path_factory):
    """Entries, prompts, a judge, a reference, finished pictures."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "pretrained.yaml").write_text(ENTRIES)
    lines = [json.dumps({"index": i, "caption": caption, "seed": 0}) for i, caption in enumerate(CAPTIONS)]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    with torch.random.fork_rng():
        fixture.write_clip(folder / "judge", "judge", 2)
    noise = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)
    write_images(folder / "reference.zip", noise, ["x"] * 32, range(32))
    (models / "finished").mkdir(exist_ok=True)
    for i in range(len(CAPTIONS)):
        Image.fromarray(noise[i]).resize((64, 64)).save(models / "finished" / f"{i}.png")
    (models / "finished" / "captions.txt").write_text("\n".join(CAPTIONS))
    return folder


@pytest.fixture(scope="module")
def run(models, place):
    """``run("tiny")``: its folder, bound once."""

    def bound(name: str):
        folder = place / "runs" / name / "seed0"
        if not folder.is_dir():
            bind.write(folder, read(place / "pretrained.yaml")[name], models, torch.device("cpu"), 1)
        return folder

    return bound


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_from_a_folder_of_models_to_rows_by_the_commands_alone(models, place, tmp_path, monkeypatch, capsys):
    run, prompts = tmp_path / "tiny" / "seed0", place / "prompts.jsonl"
    settings = ["--models", models, "--settings", place / "pretrained.yaml"]
    command(bind.main, monkeypatch, *settings, "--model", "tiny", "--out", run)
    assert "tiny: StableDiffusionPipeline, DDIMScheduler, 2 steps" in capsys.readouterr().out
    command(sample.main, monkeypatch, "--run", run, "--prompts", prompts, "--out", tmp_path / "x.zip", "--batch", 8)
    pictures, captions = read_images(tmp_path / "x.zip")
    assert captions == CAPTIONS
    own = bind.load(bind.read(run), "cpu")
    assert np.abs(own(CAPTIONS[:2], [0, 1]).astype(int) - pictures[:2]).max() <= 1

    words = ["--protocol", "fixture-random-weights@1", "--reference", place / "reference.zip", "--threads", 1]
    words += ["--judge", f"local-dir:{place / 'judge'}", "--suite", "s", "--variant", "tiny", "--seed", 0, "--run", run]
    command(score.main, monkeypatch, "--images", tmp_path / "x.zip", *words, "--record", tmp_path / "x.jsonl")
    scored = {row["metric"]: row for row in rows(tmp_path / "x.jsonl")}
    assert scored.keys() == {"fd", "clip_score"}
    row = scored["fd"]
    assert [row[name] for name in ("family", "seed", "kimg", "seconds", "steps", "nfe", "dtype")] == [
        "pretrained", 0, None, None, 2, 4, "fp32"
    ]  # fmt: skip
    assert (row["recipe_sha"], row["params_m"]) == (entry().recipe(own.sha), own.params_m)
    assert not {"n_constant", "n_non_finite"} & row.keys()

    spoilt = pictures.copy()
    spoilt[3] = 7
    write_images(tmp_path / "y.zip", spoilt, CAPTIONS, range(len(CAPTIONS)), {"n_non_finite": 2})
    command(score.main, monkeypatch, "--images", tmp_path / "y.zip", *words, "--record", tmp_path / "y.jsonl")
    assert {(row["n_constant"], row["n_non_finite"]) for row in rows(tmp_path / "y.jsonl")} == {(1, 2)}


def test_speed_is_of_what_can_be_timed_and_the_rest_is_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed.protocols, "load_speed", lambda name: QUICK)
    folders = [run(name) for name in ("tiny", "whole", "half", "finished")]
    command(speed.main, monkeypatch, "--runs", *folders, "--suite", "s", "--out", tmp_path / "speed.jsonl")
    found: dict[str, dict[str, dict]] = {}
    for row in rows(tmp_path / "speed.jsonl"):
        found.setdefault(row["variant"], {})[row["metric"]] = row
    latencies = {"latency_text_ms", "latency_ms", "latency_end_to_end_ms"}
    assert found["tiny"].keys() == found["half"].keys() == latencies | {"throughput_images_per_s", "params_m"}
    assert found["whole"].keys() == {"latency_end_to_end_ms", "params_m"}
    assert "finished" not in found
    assert "finished seed 0 at 64 px: not timed: 16 finished pictures of finished" in capsys.readouterr().err
    tiny, half = (found[name]["latency_ms"] for name in ("tiny", "half"))
    assert (tiny["nfe"], tiny["dtype"], half["nfe"], half["dtype"]) == (4, "fp32", 1, "bf16")
    assert "peak_share" in tiny  # which is against the rate in fp32
    assert "peak_share" not in half
    assert tiny["dataset"] == "" and tiny["flops_g"] > half["flops_g"] > 0  # noqa: PT018


def test_half_precision_is_kept_while_it_is_timed(run):
    one = speed.timed_run(run("half"), {"variant": "half", "seed": 0}, Execution(torch.device("cpu")), None)
    assert one.dtype == "bf16"
    assert {p.dtype for network in (*one.networks, *one.encoders) for p in network.parameters()} == {torch.bfloat16}
    assert speed.timed_run(run("tiny"), {}, Execution(torch.device("cpu")), None).dtype == ""


@pytest.mark.parametrize("words", [["--dtype", "bf16"], ["--compile", "default"], ["--channels-last"]])
def test_a_pretrained_model_is_timed_as_it_is_configured_alone(run, tmp_path, monkeypatch, words):
    with pytest.raises(SystemExit, match="pretrained models are timed as they are configured: leave --dtype"):
        command(speed.main, monkeypatch, "--runs", run("tiny"), "--suite", "s", *words, "--out", tmp_path / "x.jsonl")


def test_other_files_than_those_that_were_bound_are_refused(models, run, tmp_path):
    bound = bind.read(run("tiny"))
    shutil.copytree(models / "sd", tmp_path / "sd")
    moved = bound._replace(models=tmp_path)
    assert bind.load(moved, "cpu").sha == bound.settings.sha256  # the same files elsewhere are the same model
    with (tmp_path / "sd" / "scheduler" / "scheduler_config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(SystemExit, match="its files are other ones than expected"):
        bind.load(moved, "cpu")


def test_a_bound_run_holds_all_that_makes_its_pictures(models, run, tmp_path):
    settings = entry(scheduler="LCMScheduler", timesteps=(999, 499), negative_prompt="x", call={"eta": 0.5})
    bind.write(tmp_path / "seed0", settings, models, torch.device("cpu"), 1)
    assert replace(bind.read(tmp_path / "seed0").settings, sha256="") == settings


def test_a_run_folder_s_mistakes_are_one_line(run, tmp_path):
    with pytest.raises(SystemExit, match="a pretrained model has no snapshots"):
        samplers.load(run("tiny"), "cpu", snapshot=0)
    shutil.copytree(run("tiny"), tmp_path / "seed0")
    about = json.loads((tmp_path / "seed0/config.json").read_text())
    about["settings"]["stepz"] = about["settings"].pop("steps")
    (tmp_path / "seed0/config.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match=r"is damaged, or of another version .*: bind the model again"):
        samplers.load(tmp_path / "seed0", "cpu")
    assert bind.read(tmp_path) is None
