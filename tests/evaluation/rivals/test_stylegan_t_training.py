"""StyleGAN-T's losses, its training through GigaGAN's trainer, and the sampler of what came out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.rivals.stylegan_t import losses
from evaluation.rivals.stylegan_t.config import Config
from evaluation.rivals.stylegan_t.phases import StyleGANT
from evaluation.rivals.stylegan_t.sampler import StyleGANTSampler, conditioning
from gigagan.clip import Clip, Clips
from gigagan.data import open_dataset
from gigagan.errors import UserError
from gigagan.overrides import parse
from gigagan.training import distributed
from gigagan.training.batches import Batch, Batches, Told
from gigagan.training.checkpoint import Checkpoints
from gigagan.training.ema import EMA
from gigagan.training.trainer import Rhythm, Trainer

CPU = torch.device("cpu")
TINY = [
    "data.resolution=16",
    "generator.z_dim=6",
    "generator.channel_base=128",
    "generator.channel_max=12",
    "generator.res_blocks=1",
    "discriminator.backbone=clip",
    "discriminator.levels=0,1,2",
    "discriminator.text_width=8",
    "loss.blur_sigma=2",
    "loss.blur_kimg=0.1",
    "train.batch=16",
    "train.ema_kimg=0.05",
]


def tiny(*overrides: str) -> Config:
    return parse([*TINY, *overrides], Config())


def made(config: Config, clip: Clip, seed: int = 0) -> StyleGANT:
    return StyleGANT(config, Clips(clip, clip, None), seed, CPU)


def batches(config: Config, clip: Clip) -> Batches:
    return Batches(open_dataset(config.data, "train"), Told(conditioning(clip, CPU), clip), config, 0, CPU)


def first(config: Config, clip: Clip) -> tuple[Batch, Tensor]:
    return next(batches(config, clip).start(0))


def train(config: Config, clip: Clip, folder: Path) -> dict[str, Tensor]:
    """Up to the budget, from the folder's newest checkpoint; everything that a checkpoint holds of networks."""
    model = made(config, clip)
    ema, phases = EMA(model.generator, config.train), model.phases()
    networks = {**model.networks, "ema": ema.network}
    optimizers = {f"{phase.name}_optimizer": phase.optimizer for phase in phases}
    checkpoints = Checkpoints(folder / "checkpoints", networks, optimizers, "recipe")
    rhythm = Rhythm(tick=16, checkpoint=10**6, snapshots=1, picture=0)
    Trainer(phases, batches(config, clip), ema, checkpoints, config.train, folder, rhythm, lambda path: None).run()
    return {f"{n}/{name}": t.clone() for n, net in networks.items() for name, t in net.state_dict().items()}


# ------------------------------------------------------------------------------------------------------------ losses


def test_the_hinge_pays_for_what_logits_lack_to_one():
    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]), torch.tensor([[-3.0, 0.0], [1.0, -1.0]])
    assert losses.hinge_discriminator(real, fake).item() == pytest.approx((0.5 + 2) / 4 + (1 + 2) / 4)
    assert losses.hinge_generator(fake).item() == pytest.approx(3 / 4)


def test_the_spherical_distance_is_the_squared_angle():
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(50, 3, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    torch.testing.assert_close(losses.spherical_distance(a, b), (a * b).sum(1).arccos().square())
    same = a.clone().requires_grad_()
    losses.spherical_distance(same, a).sum().backward()
    assert same.grad.isfinite().all()


def test_the_blur_fades_evenly():
    config = parse(["loss.blur_sigma=32", "loss.blur_kimg=1000"], Config()).loss
    seen = [losses.blur_sigma(config, images) for images in (0, 250_000, 999_000, 1_000_000, 3_000_000)]
    assert seen == pytest.approx([32, 24, 0.032, 0, 0])
    assert losses.blur_sigma(replace(config, blur_kimg=0.0), 0) == 0


def test_a_pixel_has_half_its_weight_at_sigma_and_none_beyond_three():
    image = torch.zeros(1, 3, 31, 31)
    image[..., 15, 15] = 1
    blurred = losses.blur(image, 4.0)[0, 0]
    assert (blurred[15, 19] / blurred[15, 15]).item() == pytest.approx(0.5)
    assert (blurred[19, 19] / blurred[15, 15]).item() == pytest.approx(0.25)
    assert blurred[15, 28] == 0 < blurred[15, 27]
    assert blurred.sum().item() == pytest.approx(1)
    assert torch.equal(losses.blur(image, 0.3), image)
    assert losses.blur(torch.ones(1, 3, 8, 8), 32.0).max() < 0.1  # wider than the picture, and all outside is 0


def test_the_weight_of_the_clip_does_not_depend_on_micro_batches(clip):
    """Both terms are means over pictures: so of micro-batches, too, whose own batch statistics are the same."""
    config = tiny("loss.clip_weight=0.7")
    model = made(config, clip)
    batch, embeddings = first(config, clip)
    whole = model.generator_loss(batch, embeddings)
    parts = [model.generator_loss(micro, embeddings) for micro in batch.split(8)]
    for name, value in whole.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)
    assert whole["clip"] > 0.1
    assert made(tiny("loss.clip_weight=0"), clip).generator_loss(batch, embeddings).keys() == {"gan"}


def test_guidance_is_the_mean_distance_between_pictures_and_captions(clip):
    config = tiny("loss.clip_weight=0.5")
    model = made(config, clip)
    batch, embeddings = first(config, clip)
    z, noise = batch.latents("generator", 6, model.generator.noise_dim)
    seen = clip.embed_image(model.generator(z, batch.text.pooled, noise))
    expected = (seen * batch.text.pooled).sum(1).arccos().square().mean() / 2
    torch.testing.assert_close(model.generator_loss(batch, embeddings)["clip"], expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- training


def fall(folder: Path, term: str) -> float:
    """By how much a term of the loss is lower over the last steps of a run than over its first."""
    values = [json.loads(line)[term] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert all(map(math.isfinite, values))
    return float(np.mean(values[:5]) - np.mean(values[-5:]))


def test_first_steps_lower_each_loss_while_the_other_network_waits_and_leave_the_frozen_ones(clip, tmp_path):
    frozen = {name: value.clone() for name, value in clip.state_dict().items()}
    common = ["train.kimg=0.32", "loss.blur_kimg=0", "loss.clip_weight=1"]
    alone = ["train.lr_generator=1e-9", "train.lr_discriminator=0.01", "discriminator.text_gain=3"]
    config = tiny(*common, *alone, "discriminator.augment=false")
    before = made(config, clip).discriminator.state_dict()
    after = train(config, clip, tmp_path / "d")
    train(tiny(*common, "train.lr_generator=0.02", "train.lr_discriminator=1e-9"), clip, tmp_path / "g")
    assert fall(tmp_path / "d", "discriminator/gan") > 0.1
    assert fall(tmp_path / "g", "generator/clip") > 0.05
    assert all(not torch.equal(after[f"discriminator/{name}"], value) for name, value in before.items())
    assert all(torch.equal(value, frozen[name]) for name, value in clip.state_dict().items())
    assert all(parameter.grad is None for parameter in clip.parameters())
    assert after["generator/mapping.mean"].abs().max() > 0
    assert torch.equal(after["generator/mapping.mean"], after["ema/mapping.mean"])


def test_a_resumed_run_equals_one_that_was_not_interrupted_bit_for_bit(clip, tmp_path):
    whole = train(tiny("train.kimg=0.096"), clip, tmp_path / "whole")
    train(tiny("train.kimg=0.048"), clip, tmp_path / "parts")
    torch.manual_seed(123)  # no global state of another process matters
    parts = train(tiny("train.kimg=0.096"), clip, tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_every_parameter_gets_a_gradient_from_its_own_phase(clip):
    config = tiny("loss.clip_weight=0.5")
    model = made(config, clip)
    with torch.no_grad():
        model.generator.input.affine.weight.normal_(generator=torch.Generator().manual_seed(0))
    batch, embeddings = first(config, clip)
    for phase in model.phases():
        sum(phase.loss(batch, embeddings).values()).backward()
        without = [name for name, p in phase.network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without, (phase.name, without)
        model.discriminator.requires_grad_(False)  # as the trainer does in the generator's phase


def test_the_seed_alone_decides_the_first_weights(clip):
    torch.manual_seed(1)
    a = made(tiny(), clip)
    torch.manual_seed(2)
    b, c = made(tiny(), clip), made(tiny(), clip, seed=1)
    for name in ("generator", "discriminator"):
        mine, same, other = (list(model.networks[name].state_dict().values()) for model in (a, b, c))
        assert all(torch.equal(x, y) for x, y in zip(mine, same, strict=True))
        assert any(not torch.equal(x, y) for x, y in zip(mine, other, strict=True))


def test_pictures_larger_than_the_vit_sees_are_cropped_or_resized_each_by_its_own_draw(clip):
    config = tiny("data.resolution=32", "discriminator.augment=false", "loss.blur_kimg=0", "loss.clip_crop=16")
    model = made(config, clip)
    batch, embeddings = first(config, clip)
    views = model._views(batch.images, batch, "real")
    resized = F.avg_pool2d(batch.images, 2)
    same = [torch.allclose(view, small, atol=1e-6) for view, small in zip(views, resized, strict=True)]
    assert views.shape == (16, 3, 16, 16)
    assert 0 < sum(same) < 16
    alone = next(batch.split(8))
    assert torch.equal(model._views(alone.images, alone, "real"), views[:8])
    resizing = made(replace(config, discriminator=replace(config.discriminator, crop=0.0)), clip)
    torch.testing.assert_close(resizing._views(batch.images, batch, "real"), resized)
    assert all(value.isfinite() for value in model.generator_loss(batch, embeddings).values())


def test_what_the_discriminator_sees_is_blurred_less_the_more_images_were_seen(clip):
    config = tiny("discriminator.augment=false")
    model = made(config, clip)
    batch, _ = first(config, clip)
    early, late = (model._views(batch.images, replace(batch, images_seen=n), "real") for n in (0, 100))
    assert torch.equal(late, batch.images)
    torch.testing.assert_close(early, losses.blur(batch.images, 2.0))


def test_half_precision_changes_the_losses_a_little(clip):
    batch, embeddings = first(tiny(), clip)
    exact, coarse = (made(tiny(f"train.dtype={dtype}"), clip) for dtype in ("fp32", "bf16"))
    for loss in ("generator_loss", "discriminator_loss"):
        a, b = (sum(getattr(model, loss)(batch, embeddings).values()).item() for model in (exact, coarse))
        assert a != b
        assert b == pytest.approx(a, rel=0.05, abs=0.05)


def test_a_start_and_a_share_that_virtual_batches_do_not_divide_are_refused(clip, tmp_path, monkeypatch):
    clips = Clips(clip, clip, None)
    with pytest.raises(UserError, match="StyleGAN-T begins from nothing"):
        StyleGANT(tiny(), clips, 0, CPU, tmp_path)
    monkeypatch.setattr(distributed, "world", lambda: 4)
    with pytest.raises(UserError, match=r"train\.batch=16: each process's 4 pictures are no multiple of .*batch=8"):
        StyleGANT(tiny(), clips, 0, CPU)


# ----------------------------------------------------------------------------------------------------------- sampler


def test_captions_are_told_by_unit_vectors_that_can_be_picked_from(clip):
    told = conditioning(clip, CPU)(["a small red circle", "a big blue square", "a green triangle"])
    torch.testing.assert_close(told.pooled.norm(dim=1), torch.ones(3))
    assert torch.equal(told[1:].to("cpu").pooled, told.pooled[1:])


def test_a_sampled_picture_depends_on_its_caption_and_seed_alone(clip):
    config = tiny()
    draw = StyleGANTSampler(made(config, clip).generator, config, clip, CPU)
    captions, seeds = ["a small red circle", "a big blue square"], [3, 4]
    pictures = draw(captions, seeds)
    assert (pictures.shape, pictures.dtype, draw.nfe) == ((2, 16, 16, 3), np.uint8, 1)
    assert np.array_equal(draw(captions[1:], seeds[1:])[0], pictures[1])
    assert not np.array_equal(draw(captions, [5, 4])[0], pictures[0])


def test_the_configuration_truncates_samples(clip):
    config = tiny("sampling.truncation=0")
    generator = made(config, clip).generator
    mean, captions = StyleGANTSampler(generator, config, clip, CPU), ["a small red circle"]
    told = mean.encode(captions)
    expected = generator.synthesise(
        generator.style(torch.zeros(1, 6), told.pooled, 0.0), torch.zeros(1, generator.noise_dim)
    )
    torch.testing.assert_close(mean.generate(told, [7]), expected)  # noise has no strength yet
    assert not torch.equal(mean.generate(told, [7], truncation=1.0), expected)
