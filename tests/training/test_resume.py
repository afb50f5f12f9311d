"""A run that was killed goes on exactly; what does not belong to it is refused, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from gigagan import provenance, train
from gigagan.errors import UserError
from gigagan.training.batches import Batches
from gigagan.training.checkpoint import load_tensors, save_tensors
from gigagan.training.run import alone

ROOT = Path(__file__).resolve().parents[2]
BUDGET = 2000  # images
RHYTHM = ["--tick", "0.25", "--checkpoint", "0.25", "--picture", "1", "--snapshots", "2"]


@pytest.fixture(scope="module")
def command(tiny_overrides, clip_folder) -> Callable[..., list[str]]:
    """The arguments of a run of 2,000 images into a folder."""

    def make(folder: Path, *more: str) -> list[str]:
        options = ["--out", str(folder), "--seed", "3", "--device", "cpu", *RHYTHM]
        settings = ["data.resolution=8", "train.batch=50", "loss.r1_interval=4", f"train.kimg={BUDGET / 1000}"]
        return [*options, *tiny_overrides, f"text.clip=local-dir:{clip_folder}", *settings, *more]

    return make


@pytest.fixture(scope="module")
def run(command) -> Callable[..., None]:
    """Type a training command, in this process; always on the same commit, whatever the tree looks like."""
    origin = {"git_sha": "0123456789ab", "git_dirty": False, "device": "a CPU", "torch": torch.__version__}

    def execute(folder: Path, *more: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train", *command(folder, *more)])
            patch.setattr(provenance, "collect", lambda *_: dict(origin))
            train.main()

    return execute


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("*.safetensors"))


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def learned(folder: Path) -> dict[str, str]:
    """What a run learned, without its clock."""
    names = contents(folder)
    return {name: names[name] for name in names if name.endswith((".safetensors", ".png")) and "/." not in name}


def log(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_run_leaves_everything_that_later_stages_read(whole):
    names = contents(whole).keys()
    assert {"config.json", "run.json", "train.jsonl", "weights.safetensors", "grid.png"} <= names
    assert {name for name in names if name.startswith("snapshots/")} == {
        f"snapshots/{images:012d}.safetensors" for images in (0, 1000, BUDGET)
    }
    assert {name for name in names if name.startswith("checkpoints/")} == {
        f"checkpoints/{images:012d}.safetensors" for images in (1750, BUDGET)
    }
    about = json.loads((whole / "run.json").read_text())
    assert about["kimg"] == BUDGET / 1000
    assert about["params_m"] > 0
    assert about["non_finite_steps"] == 0
    assert about["seconds"] > 0
    rows = log(whole)
    assert [row["images"] for row in rows] == [250, 500, 750, 1000, 1250, 1500, 1750, 2000]
    assert {"discriminator/gan", "discriminator/matching_fake", "r1/penalty", "generator/clip"} <= rows[0].keys()


def test_killed_at_a_random_moment_and_typed_again_equals_never_killed(whole, command, run, tmp_path):
    folder = tmp_path / "run"
    moment = random.uniform(0.25, 0.8)  # a share of the budget ...
    process = subprocess.Popen(
        [sys.executable, "-m", "gigagan.train", *command(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not list((folder / "checkpoints").glob("[0-9]*")) or int(newest(folder).stem) < moment * BUDGET:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.1))  # ... and somewhere between two checkpoints, or within one
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it had ended before it was killed"
    assert not (folder / "weights.safetensors").exists()
    (folder / "checkpoints" / ".000000009999.1.tmp.safetensors").write_bytes(b"what a kill may leave behind")

    run(folder)
    assert learned(folder) == learned(whole), f"killed at a share of {moment}"
    assert log(folder) == log(whole)
    assert not list((folder / "checkpoints").glob(".*"))


def test_a_longer_budget_continues_and_a_finished_run_is_left_as_it_is(whole, run, tmp_path):
    folder = tmp_path / "run"
    run(folder, "train.kimg=0.7")
    run(folder)
    assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    before = learned(folder)
    run(folder)
    assert learned(folder) == before


def test_seeds_differ(whole, run, tmp_path):
    run(tmp_path / "run", "--seed", "4", "train.kimg=0.05")
    first = f"snapshots/{0:012d}.safetensors"
    assert contents(tmp_path / "run")[first] != contents(whole)[first]


class Boom:
    """What a hostile checkpoint would run when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def damage(kind: str, path: Path, mark: Path) -> None:
    if kind == "truncated":
        with path.open("r+b") as f:
            f.truncate(path.stat().st_size // 2)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "torch.save":
        torch.save(Boom(mark), path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Boom(mark)))
    elif kind == "ascii pickle":
        path.write_bytes(pickle.dumps(Boom(mark), protocol=0))
    elif kind == "bf16":
        safetensors.torch.save_file({"x": torch.ones(2, dtype=torch.bfloat16)}, path)
    elif kind == "other recipe":
        tensors, about = load_tensors(path)
        save_tensors(path, tensors, {**about, "recipe": "0123456789ab"})
    else:
        tensors, about = load_tensors(path)
        save_tensors(path, {name: t for name, t in tensors.items() if "mapping" not in name}, about)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "truncated or no safetensors file"),
        ("empty", "truncated or no safetensors file"),
        ("torch.save", "holds a pickle"),
        ("pickle", "holds a pickle"),
        ("ascii pickle", "no safetensors file"),
        ("bf16", "no safetensors file|comes from another recipe"),
        ("other recipe", "comes from another recipe"),
        ("tensors missing", "mapping"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_is_touched(copy, run, tmp_path, kind, words):
    mark = tmp_path / "was run"
    damage(kind, newest(copy), mark)
    before = contents(copy)
    with pytest.raises(UserError, match=words) as error:
        run(copy, "train.kimg=3")
    assert str(newest(copy)) in error.value.message
    assert "\n" not in error.value.message
    assert isinstance(error.value.code, str)  # so that Python prints it and ends with status 1
    assert contents(copy) == before
    assert not mark.exists()


def test_without_the_newest_checkpoint_a_run_goes_on_from_the_one_before(whole, copy, run):
    newest(copy).unlink()
    (copy / "weights.safetensors").unlink()
    run(copy)
    assert learned(copy) == learned(whole)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["loss.clip_weight=0.3"], "another recipe"),
        (["--seed", "5"], "another seed"),
        (["data.objects=1,0,0"], "recipe"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_nothing_is_touched(copy, run, more, words):
    before = contents(copy)
    with pytest.raises(UserError, match=words):
        run(copy, *more)
    assert contents(copy) == before


def test_a_run_of_another_recipe_is_set_aside_where_that_is_asked_for(copy, whole, run):
    """What the workflow does when a variant was edited."""
    run(copy, "loss.clip_weight=0.3", "train.kimg=0.05", "--replace")
    assert json.loads((copy / "run.json").read_text())["kimg"] == 0.05
    assert [path.name for path in (copy / "checkpoints").iterdir()] == [f"{50:012d}.safetensors"]
    (aside,) = (path for path in copy.parent.iterdir() if path.name.startswith(".run."))
    assert learned(aside) == learned(whole)

    run(copy, "loss.clip_weight=0.3", "train.kimg=0.1", "--replace")  # the same recipe: nothing to set aside
    assert [row["images"] for row in log(copy)] == [50, 100]


def test_a_run_that_has_seen_more_than_its_budget_is_set_aside_where_that_is_asked_for(copy, run):
    """A suite's budget was lowered: the workflow has no other folder."""
    before = contents(copy)
    run(copy, "train.kimg=1", "--replace")
    assert json.loads((copy / "run.json").read_text())["kimg"] == 1
    (aside,) = (path for path in copy.parent.iterdir() if path.name.startswith(".run."))
    assert contents(aside).items() <= before.items()


def test_runs_that_are_set_aside_again_and_again_are_all_kept(copy, whole, run):
    """A variant is edited, and edited back."""
    edited = ["loss.clip_weight=0.3", "train.kimg=0.05", "--replace"]
    run(copy, *edited)
    run(copy, "train.kimg=0.1", "--replace")
    run(copy, *edited)
    asides = sorted(path for path in copy.parent.iterdir() if path.name.startswith(".run."))
    assert len(asides) == 3
    assert learned(whole) in [learned(aside) for aside in asides]


def test_a_run_that_is_refused_sets_nothing_aside(copy, run):
    before = contents(copy)
    with pytest.raises(UserError, match="head_width=5"):
        run(copy, "attention.head_width=5", "--replace")
    assert contents(copy) == before
    assert [path.name for path in copy.parent.iterdir()] == ["run"]


def typed_at_a_terminal(typed: list[str]) -> subprocess.Popen:
    """A command in a process group of its own, that hears Ctrl-C even where the tests were started with nohup."""

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {"cwd": ROOT, "text": True, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(typed, preexec_fn=listen, **options)


def test_ctrl_c_is_one_line_even_while_modules_are_imported(tmp_path):
    typed = [sys.executable, "-m", "gigagan.train", "--out", str(tmp_path / "run")]
    with typed_at_a_terminal(typed) as process:
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said.splitlines() == ["interrupted: type the same command again to go on"]


@pytest.fixture
def photographs(tmp_path) -> Callable[[str], str]:
    """``photographs(name)``: the settings for a folder of 40 pictures, 3 of them broken and 2 with endless captions."""

    def make(name: str) -> list[str]:
        folder = tmp_path / name
        folder.mkdir()
        for i in range(40):
            image, words = folder / f"{name}{i:02d}.png", "word " * (60 if i in (8, 22) else 3)
            Image.new("RGB", (8, 8), (6 * i, 0, 0)).save(image)
            image.with_suffix(".txt").write_text(f"{words}{i}")
            if i in (4, 15, 31):
                image.write_bytes(b"no image")
        return ["data.name=folder", f"data.path={folder}"]

    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_skipped_and_cut_is_counted_over_all_sittings_and_processes(photographs, run, tmp_path, workers):
    folder, data = tmp_path / "run", photographs("a")
    for kimg in (0.05, 0.1, 0.15):
        run(folder, *data, f"train.kimg={kimg}", f"data.workers={workers}")
    about = json.loads((folder / "run.json").read_text())
    assert "3 skipped: 3 not an image (a" in about["data"]
    epochs = 150 / 36
    assert 2 * epochs - 2 <= about["captions_cut"] <= 2 * epochs + 2


def test_a_run_does_not_go_on_with_other_data(photographs, run, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    run(folder, *photographs("a"), "train.kimg=0.05")
    with pytest.raises(UserError, match="another recipe"):
        run(folder, *photographs("b"), "train.kimg=0.1")
    (tmp_path / "a").rename(moved)
    run(folder, "data.name=folder", f"data.path={moved}", "train.kimg=0.1")


def test_ctrl_c_loses_nothing(command, whole, tmp_path):
    """Long before the first regular checkpoint; loader processes hear of it, too; and twice, as it may be passed on."""
    folder = tmp_path / "run"
    typed = [sys.executable, "-m", "gigagan.train", *command(folder, "--checkpoint", "100", "data.workers=1")]
    with typed_at_a_terminal(typed) as process:
        while not (folder / "train.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    images = int(newest(folder).stem)
    assert 0 < images < BUDGET
    assert said.splitlines()[-1] == (
        f"interrupted at {images:,} of {BUDGET:,} images: type the same command again to go on"
    )
    subprocess.run(typed, cwd=ROOT, check=True, capture_output=True)
    weights = "weights.safetensors"
    assert contents(folder)[weights] == contents(whole)[weights]


def test_a_folder_that_another_process_trains_into_is_refused(copy, run):
    before = contents(copy)
    with alone(copy), pytest.raises(UserError, match=r"run: another process trains into it.*--out"):
        run(copy)
    assert contents(copy) == before
    run(copy)


def test_a_run_that_is_killed_while_another_is_set_aside_loses_nothing(copy, whole, run, monkeypatch):
    rename, done = Path.rename, []

    def killed(self, target):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        run(copy, "loss.clip_weight=0.3", "train.kimg=0.05", "--replace")
    monkeypatch.undo()
    run(copy, "loss.clip_weight=0.3", "train.kimg=0.05", "--replace")
    (aside,) = (path for path in copy.parent.iterdir() if path.name.startswith(".run."))
    assert contents(aside) == contents(whole)
    assert json.loads((copy / "run.json").read_text())["kimg"] == 0.05


def test_a_run_that_has_seen_more_than_its_budget_is_not_passed_off_as_it(copy, run):
    before = contents(copy)
    with pytest.raises(UserError, match=r"2000 images already, more than train\.kimg=1"):
        run(copy, "train.kimg=1")
    assert contents(copy) == before


@pytest.mark.parametrize("option", ["--tick", "--checkpoint", "--snapshots"])
def test_a_rhythm_of_zero_is_refused(tmp_path, run, option):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "run", option, "0")
    assert not (tmp_path / "run").exists()


def test_one_line_and_status_1_for_a_mistyped_override(tmp_path, run):
    with pytest.raises(UserError, match=r"generator\.kernel.*did you mean 'generator\.kernels'"):
        run(tmp_path / "run", "generator.kernel=1")
    assert not (tmp_path / "run").exists()


def test_divergence_ends_the_run_with_a_clear_word(tmp_path, run):
    with pytest.raises(UserError, match=r"training diverged.*phase.*there is no good checkpoint.*lower learning rate"):
        run(tmp_path / "run", "train.lr_generator=1e30")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.fixture
def spoil(monkeypatch) -> Callable[[Callable[[int], bool]], None]:
    """Pictures become NaN where ``when(images seen)``."""
    assemble = Batches._assemble

    def install(when: Callable[[int], bool]) -> None:
        def spoiled(self, images, captions, images_seen):
            batch, embeddings = assemble(self, images, captions, images_seen)
            if when(images_seen):
                batch.images.fill_(float("nan"))
            return batch, embeddings

        monkeypatch.setattr(Batches, "_assemble", spoiled)

    return install


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(tmp_path, run, spoil, capsys):
    spoil(lambda images: images == 200)
    run(tmp_path / "run", "train.kimg=0.5")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["non_finite_steps"] == 2  # of D: its loss and R1
    assert log(tmp_path / "run")[-1]["non_finite"] == 2
    assert "step left out: discriminator has no finite loss and gradient at 200 images" in capsys.readouterr().err
    tensors, _ = load_tensors(tmp_path / "run" / "weights.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    run(tmp_path / "run", "train.kimg=0.55")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["non_finite_steps"] == 2


def test_a_phase_that_stays_non_finite_ends_the_run_and_the_last_good_checkpoint_is_kept(tmp_path, run, spoil):
    """The discriminator's pictures are broken for good; the generator's gradients stay finite."""
    spoil(lambda images: images >= 300)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="training diverged: 3 updates of phase discriminator") as error:
        run(folder)
    assert str(newest(folder)) in error.value.message
    assert int(newest(folder).stem) == 250
    tensors, _ = load_tensors(newest(folder))
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())

    spoil(lambda images: False)
    run(folder, "train.kimg=0.5")
    assert (folder / "weights.safetensors").exists()


def test_weights_that_failed_at_once_are_no_good_checkpoint(tmp_path, run, spoil):
    spoil(lambda images: images >= 250)
    with pytest.raises(UserError, match="there is no good checkpoint"):
        run(tmp_path / "run")
    assert int(newest(tmp_path / "run").stem) == 250
