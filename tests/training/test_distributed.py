"""Two processes on the CPU, under torchrun, give the gradients of one with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from first_step import gradients
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["train.batch=6", "loss.generator_matching_weight=1", "loss.clip_captions=20"]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, tiny_overrides, clip_folder) -> Path:
    """The folder that both have written their gradients to."""
    folder = tmp_path_factory.mktemp("gradients")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("first_step.py")
    done = subprocess.run(
        [*launch, str(script), str(folder), str(clip_folder), *tiny_overrides, *OPTIONS],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, tiny, clips) -> dict[str, dict[str, Tensor]]:
    return gradients(tiny(*OPTIONS), clips, tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("micro_batch", [0, 1], ids=["whole", "accumulated"])
@pytest.mark.parametrize("phase", ["discriminator", "r1", "generator"])
def test_gradients_are_those_of_one_process(two_processes, one_process, phase, micro_batch):
    """The generator's contain the contrastive negatives and c^ of the global batch, the discriminator's c^."""
    first, second = (load_file(two_processes / f"{phase}-{micro_batch}-{rank}.safetensors") for rank in (0, 1))
    wanted = one_process[phase]
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert first.keys() == second.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-5 * largest)


def test_the_gradients_would_differ_if_captions_stayed_at_home(tiny, clips, tmp_path, one_process):
    """What the test above can see: with its own three captions alone, a process computes something else."""
    alone = gradients(tiny(*OPTIONS, "train.batch=3"), clips, tmp_path)
    for phase in ("discriminator", "generator"):
        largest = max(float(gradient.abs().max()) for gradient in one_process[phase].values())
        difference = max(float((alone[phase][name] - g).abs().max()) for name, g in one_process[phase].items())
        assert difference > 1e-3 * largest
