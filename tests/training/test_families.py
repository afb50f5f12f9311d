"""Every family of models trains: finite losses that move, and a gradient in every parameter that should have one."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import first_step
import numpy as np
import pytest
import torch
from first_step import CPU, batches_of, gradients
from PIL import Image
from torch import Tensor

from gigagan import train, upsample
from gigagan.clip import Clip, Clips
from gigagan.config import Config
from gigagan.errors import UserError
from gigagan.sampling import load
from gigagan.training.batches import Batch
from gigagan.training.ema import EMA
from gigagan.training.phases import GigaGAN, Phase

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
    "upsampler, class": [*UPSAMPLER, *CLASSES, "attention.kinds=self", "loss.clip_weight=0"],
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


def start(config: Config, clip: Clip) -> tuple[GigaGAN, Batch, Tensor]:
    """A model with first weights, with the CLIPs that it needs and no other, and the only batch that it will see."""
    needed = Clips(
        clip if config.condition.kind == "text" else None,
        clip if config.loss.clip_weight or config.loss.perceptual_weight else None,
        clip if config.vision.weight else None,
    )
    batch, embeddings = next(batches_of(config, needed).start(0))
    return GigaGAN(config, needed, 0, CPU), batch, embeddings


def named(model: GigaGAN) -> dict[str, Tensor]:
    return {f"{scope}.{name}": p for scope, network in model.networks.items() for name, p in network.named_parameters()}


def updates(phase: Phase, batch: Batch, embeddings: Tensor, n: int = 3) -> tuple[list[dict[str, float]], set[int]]:
    """The terms of a phase's loss on one and the same batch: twice with the weights as they are, then after every
    update but the last; and the parameters that had a gradient. Latents follow from the batch, so all that changes a
    number is a change of weights."""
    seen, reached = [phase.loss(batch, embeddings)], set()
    for _ in range(n):
        phase.optimizer.zero_grad(set_to_none=True)
        seen.append(phase.loss(batch, embeddings))
        sum(seen[-1].values()).backward()
        reached |= {id(p) for p in phase.network.parameters() if p.grad is not None and p.grad.any()}
        phase.optimizer.step()
    return [{name: term.item() for name, term in terms.items()} for terms in seen], reached


def falls(seen: list[dict[str, float]]) -> bool:
    """Whether every update lowered the loss, and moved every term of it."""
    totals = [sum(terms.values()) for terms in seen[1:]]
    moved = all(abs(b[name] - a[name]) > 1e-6 for a, b in pairwise(seen[1:]) for name in a)
    return moved and all(b < a for a, b in pairwise(totals))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_have_finite_moving_losses_and_a_gradient_everywhere(tiny, clip, overrides, family):
    """Every phase's updates lower what it is to lower, on a batch that stays the same."""
    config = tiny(*overrides(family), "loss.r1_interval=1")
    model, *fixed = start(config, clip)
    before = {name: p.detach().clone() for name, p in named(model).items()}
    terms: dict[str, set[str]] = {}
    unheard = set(before)
    for phase in model.phases():
        seen, reached = updates(phase, *fixed)
        assert np.isfinite([list(values.values()) for values in seen]).all(), phase.name
        assert seen[0] == seen[1], f"{phase.name}: the same weights and batch, another loss"
        assert falls(seen), (phase.name, seen)
        terms[phase.name] = set(seen[0])
        if phase.name != "r1":  # what it reaches, the discriminator's own loss must have reached
            unheard -= {name for name, p in named(model).items() if id(p) in reached and not p.equal(before[name])}
    assert unheard == set()
    vision = {"vision"} if config.vision.weight else set()
    matching = {"matching_real", "matching_fake"} if config.loss.matching == "real+fake" else set()
    guides = {
        n for n, weight in (("clip", "clip_weight"), ("perceptual", "perceptual_weight")) if vars(config.loss)[weight]
    }
    assert terms == {
        "discriminator": {"gan"} | vision | matching,
        "r1": {"penalty"},
        "generator": {"gan"} | vision | guides,
    }


def test_without_a_learning_rate_no_loss_moves(tiny, clip):
    """What the test above can see."""
    model, *fixed = start(tiny(), clip)
    before = {name: p.detach().clone() for name, p in named(model).items()}
    for phase in model.phases():
        for group in phase.optimizer.param_groups:
            group["lr"] = 0.0
        seen, _ = updates(phase, *fixed)
        assert not falls(seen)
        assert all(terms == seen[0] for terms in seen)
    assert all(p.equal(before[name]) for name, p in named(model).items())


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
    if "upsampler" in family:
        small = np.full((1, 8, 8, 3), (200, 40, 40), np.uint8)
        enlarged = upsample.load(folder)(small, ["bee" if "class" in family else "a red circle"], [0])
        assert enlarged.shape == (1, 16, 16, 3)
        assert np.abs(enlarged.astype(int).mean((0, 1, 2)) - (200, 40, 40)).max() < 20
    else:
        sampler = load(folder)
        images = sampler(["bee", "1"] if "class" in family else ["a red circle", "a red circle"], [0, 0])
        assert images.shape == (2, 16, 16, 3)
        assert (images[0] == images[1]).all()


def test_classes_must_be_as_many_as_the_configuration_says(tiny, clip, pictures):
    settings = ["condition.kind=class", "condition.width=6", *ALONE]
    config = tiny(*settings, "condition.classes=4", "data.name=classes", f"data.path={pictures}")
    with pytest.raises(UserError, match=r"condition\.classes=4: data set classes has 3"):
        batches_of(config, Clips(None, None, None))
    config = tiny(*settings, "condition.classes=4")
    with pytest.raises(UserError, match=r"data set scenes names none: .*data\.name=classes"):
        batches_of(config, Clips(None, None, None))


def test_a_distance_to_the_truth_is_for_upsamplers(tiny, clips):
    with pytest.raises(UserError, match=r"only an upsampler has a ground truth"):
        GigaGAN(tiny("loss.perceptual_weight=1"), clips, 0, CPU)
    with pytest.raises(UserError, match=r"loss\.lpips_backbone=FILE"):
        GigaGAN(tiny("upsampler.input=8", "upsampler.lowest=4", "loss.perceptual_weight=1"), clips, 0, CPU)


def test_the_average_is_of_every_parameter(tiny, clips):
    """Each goes its own half of the way in a half-life."""
    model = GigaGAN(tiny(*UPSAMPLER, "train.ema_kimg=0.1", "train.ema_rampup=0"), clips, 0, CPU)
    ema = EMA(model.generator, model.config.train)
    first = {name: p.detach().clone() for name, p in model.generator.named_parameters()}
    with torch.no_grad():
        for k, p in enumerate(model.generator.parameters()):
            p.add_(k + 1)
    ema.update(100, 100)
    found = dict(ema.network.named_parameters())
    assert found.keys() == first.keys()
    for k, (name, value) in enumerate(first.items()):
        torch.testing.assert_close(found[name], value + (k + 1) / 2)


def test_an_upsampler_learns_from_small_pictures_with_noise_on_them_to_come_near_the_truth(tiny, clip):
    config = tiny(*UPSAMPLER, "upsampler.augment=0.2")
    model, batch, embeddings = start(config, clip)
    taken: list[Tensor] = []
    model.generator.from_rgb.register_forward_pre_hook(lambda _module, args: taken.append(args[0].detach()))
    model.discriminator_loss(batch, embeddings)
    terms = model.generator_loss(batch, embeddings)
    small = batch.images.unflatten(3, (8, 2)).unflatten(2, (8, 2)).mean((3, 5))
    added = [(x - small) / 0.2 for x in taken]
    for phase, noise in zip(("discriminator", "generator"), added, strict=True):
        z, drawn = batch.latents(phase, config.generator.z_dim, model.generator.noise_dim)
        torch.testing.assert_close(noise.flatten(1), drawn[:, : 3 * 8 * 8])
        assert noise.std().item() == pytest.approx(1, abs=0.1)
    assert (added[0] - added[1]).abs().max() > 1

    made = model.generator(z, batch.text, drawn, small)[0]
    maps = [[x / x.norm(dim=1, keepdim=True) for x in clip.image_maps(images)] for images in (made, batch.images)]
    distances = [(a - b).square().sum(1).mean() for a, b in zip(*maps, strict=True)]
    assert len(distances) == 2
    assert terms["perceptual"].item() == pytest.approx(2 * sum(distances).item() / 2, rel=1e-4)


@pytest.mark.parametrize("family", ["text", "class, vision-aided", "upsampler"])
def test_gradients_in_bf16_differ_as_much_as_rounding_the_weights_makes_them(
    tiny, clips, overrides, tmp_path, monkeypatch, family
):
    """What to expect of bf16 in every activation is a small multiple of what bf16 in the weights alone does."""

    def found(*dtype: str) -> dict[str, dict[str, Tensor]]:
        return gradients(tiny(*overrides(family), *dtype), clips, tmp_path)

    def joined(named: dict[str, Tensor], part: str = "") -> Tensor:
        return torch.cat([g.flatten().double() for name, g in named.items() if name.startswith(part)])

    exact, half = found(), found("train.dtype=bf16")
    disturbed = first_step.disturbed_model

    def rounded(config: Config, clips: Clips) -> GigaGAN:
        model = disturbed(config, clips)
        with torch.no_grad():
            for network in model.networks.values():
                for parameter in network.parameters():
                    parameter.copy_(parameter.bfloat16())
        return model

    monkeypatch.setattr(first_step, "disturbed_model", rounded)
    weights = found()
    assert exact.keys() == half.keys() == {"discriminator", "r1", "generator"}
    for phase, named in exact.items():
        assert half[phase].keys() == named.keys()
        gradient = joined(named)
        expected = (joined(weights[phase]) - gradient).norm()
        assert 0 < expected < 0.2 * gradient.norm()
        error = (joined(half[phase]) - gradient).norm()
        assert error < 4 * expected
        assert (error == 0) == (phase == "r1")  # penalties are fp32 either way
        # No part is hidden by the others: in none has most of the gradient gone another way.
        for part in {".".join(name.split(".")[:3]) for name in named}:
            off = joined(half[phase], part) - joined(named, part)
            assert off.norm() < 0.4 * joined(named, part).norm(), f"{phase}: {part}"
