"""Every family of models trains: finite losses that move, and a gradient in every parameter that should have one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from first_step import CPU
from PIL import Image

from gigagan import train
from gigagan.clip import Clips
from gigagan.data import open_dataset
from gigagan.errors import UserError
from gigagan.sampling import load
from gigagan.training.batches import Batches
from gigagan.training.ema import EMA
from gigagan.training.phases import GigaGAN

ALONE = ["attention.kinds=self", "loss.clip_weight=0", "vision.weight=0"]
UPSAMPLER = [
    "upsampler.input=8",
    "upsampler.lowest=4",
    "discriminator.minibatch_std=2",
    "loss.perceptual=clip",
    "loss.perceptual_weight=2",
    "vision.weight=0",
]
CLASSES = ["data.name=classes", "condition.kind=class", "condition.classes=3", "condition.width=6"]
FAMILIES = {
    "text": [],
    "no vision-aided": ["vision.weight=0"],
    "class": [*CLASSES, *ALONE, "discriminator.predictor=projection", "discriminator.multi_scale=none"],
    "class, vision-aided": [*CLASSES, "attention.kinds=self", "loss.clip_weight=0"],
    "unconditional": ["condition.kind=none", "loss.matching=none", *ALONE],
    "upsampler": UPSAMPLER,
    "upsampler, unconditional": [
        *UPSAMPLER,
        "condition.kind=none",
        "loss.matching=none",
        "attention.kinds=self",
        "loss.clip_weight=0",
    ],
    "deep": ["generator.block_skip=true", "generator.block_rgb=true", "generator.blocks=2", "discriminator.blocks=2"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three classes of six pictures each, in train and test."""
    folder = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for k, name in enumerate(("ant", "bee", "cat")):
            (folder / split / name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(80 * k, 80 * k + 60, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def overrides(pictures):
    return lambda family: [
        *FAMILIES[family],
        *([f"data.path={pictures}"] if "data.name=classes" in FAMILIES[family] else []),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_have_finite_moving_losses_and_a_gradient_everywhere(tiny, clip, overrides, family):
    config = tiny(*overrides(family), "loss.r1_interval=1")
    needed = Clips(
        clip if config.condition.kind == "text" else None,
        clip if config.loss.clip_weight or config.loss.perceptual_weight else None,
        clip if config.vision.weight else None,
    )
    model = GigaGAN(config, needed, 0, CPU)
    before = {id(p): p.clone() for network in model.networks.values() for p in network.parameters()}
    batches = Batches(open_dataset(config.data, "train"), needed, config, 0, CPU).start(0)
    seen: dict[str, list[float]] = {}
    with_gradient: set[int] = set()
    phases = model.phases()
    for _ in range(4):
        batch, embeddings = next(batches)
        for phase in phases:
            phase.optimizer.zero_grad(set_to_none=True)
            terms = phase.loss(batch, embeddings)
            sum(terms.values()).backward()
            with_gradient |= {id(p) for p in phase.network.parameters() if p.grad is not None and p.grad.any()}
            phase.optimizer.step()
            for name, term in terms.items():
                seen.setdefault(f"{phase.name}/{name}", []).append(term.item())
    assert all(np.isfinite(values).all() and len(set(values)) > 1 for values in seen.values())
    assert ("discriminator/vision" in seen) == (config.vision.weight > 0)
    assert ("generator/perceptual" in seen) == (config.loss.perceptual_weight > 0)
    unheard = [
        f"{scope}.{name}"
        for scope, network in model.networks.items()
        for name, p in network.named_parameters()
        if id(p) not in with_gradient or torch.equal(p, before[id(p)])
    ]
    assert unheard == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_from_its_command(
    tiny_overrides, clip_folder, overrides, monkeypatch, tmp_path, capsys, family
):
    folder = tmp_path / "run"
    typed = ["--out", str(folder), "--device", "cpu", *tiny_overrides, f"text.clip=local-dir:{clip_folder}"]
    monkeypatch.setattr("sys.argv", ["train", *typed, *overrides(family), "train.kimg=0.008"])
    train.main()
    about = json.loads((folder / "config.json").read_text())
    assert about["classes"] == (["ant", "bee", "cat"] if "class" in family else [])
    assert bool(about["clip_sha"]) == ("class" not in family and "unconditional" not in family)
    with Image.open(folder / "grid.png") as grid:
        assert min(grid.size) >= 16 * 4
    if "upsampler" not in family:
        sampler = load(folder)
        images = sampler(["bee", "1"] if "class" in family else ["a red circle", "a red circle"], [0, 0])
        assert images.shape == (2, 16, 16, 3)
        assert (images[0] == images[1]).all()


def test_classes_must_be_as_many_as_the_configuration_says(tiny, clip, pictures):
    settings = ["condition.kind=class", "condition.width=6", *ALONE]
    config = tiny(*settings, "condition.classes=4", "data.name=classes", f"data.path={pictures}")
    with pytest.raises(UserError, match=r"condition\.classes=4: data set classes has 3"):
        Batches(open_dataset(config.data, "train"), Clips(None, None, None), config, 0, CPU)
    config = tiny(*settings, "condition.classes=4")
    with pytest.raises(UserError, match=r"data set scenes names none: .*data\.name=classes"):
        Batches(open_dataset(config.data, "train"), Clips(None, None, None), config, 0, CPU)


def test_a_distance_to_the_truth_is_for_upsamplers(tiny, clips):
    with pytest.raises(UserError, match=r"only an upsampler has a ground truth"):
        GigaGAN(tiny("loss.perceptual_weight=1"), clips, 0, CPU)
    with pytest.raises(UserError, match=r"loss\.lpips_backbone=FILE"):
        GigaGAN(tiny("upsampler.input=8", "upsampler.lowest=4", "loss.perceptual_weight=1"), clips, 0, CPU)


def test_the_average_is_of_every_parameter(tiny, clips):
    model = GigaGAN(tiny(*UPSAMPLER), clips, 0, CPU)
    ema = EMA(model.generator, model.config.train)
    assert [p.shape for p in ema.network.parameters()] == [p.shape for p in model.generator.parameters()]
