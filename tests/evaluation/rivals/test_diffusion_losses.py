"""What teacher and students are trained towards."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from evaluation.rivals.diffusion import consistency, guided, schedule, teacher
from evaluation.rivals.diffusion.captions import no_caption
from evaluation.rivals.diffusion.phases import Diffusion
from gigagan.clip import Clip, Clips
from gigagan.networks.text import TextFeatures
from tests.evaluation.rivals.tiny_diffusion import CPU, batch, config, denoiser, disturb


@pytest.fixture
def given(clip: Clip) -> tuple[Tensor, TextFeatures, Tensor]:
    """z, captions and strengths of guidance of four pictures."""
    seen = batch(clip)
    return seen.images, seen.text, torch.tensor([1.0, 1.5, 2.0, 4.0])


class Says(nn.Module):
    """A network that says what a function does, and remembers what it was asked."""

    def __init__(self, says) -> None:
        super().__init__()
        self.says, self.asked = says, []

    def forward(self, z, t, text, guidance=None):
        self.asked.append((z, t, text, guidance))
        return self.says(z, t, text, guidance)


def trained(clip: Clip, **sections) -> Diffusion:
    return Diffusion(config(**sections), Clips(clip, None, None), 0, CPU)


def test_captions_are_left_out_of_a_share_that_follows_from_the_seeds(clip):
    model = trained(clip, diffusion={"dropout": 0.25})
    empty = no_caption(clip, CPU)

    def without(first: int, n: int) -> list[bool]:
        model.generator = Says(lambda z, t, text, guidance: z)
        model.loss(batch(clip, n, first), torch.empty(0))
        ((_, _, text, _),) = model.generator.asked
        left_out = (text.tokens == empty.tokens).all((1, 2))
        assert ((text.end == empty.end) == left_out).all()
        return left_out.tolist()

    seen = without(0, 2000)
    assert sum(seen) / 2000 == pytest.approx(0.25, abs=0.03)
    assert without(0, 2000) == seen
    assert without(500, 10) == seen[500:510]  # in any batch
    assert without(2000, 2000) != seen


@pytest.mark.parametrize(("objective", "parts"), [("data", 64), ("guidance", 64), ("halving", 4), ("consistency", 64)])
def test_times_are_uniform_over_those_that_will_be_asked_for(clip, objective, parts):
    model = trained(clip)
    model.config = config(diffusion={"train_steps": 64, "objective": objective}, sampling={"steps": 4})
    found, counts = model.times(torch.linspace(1e-6, 1, 1000)).unique(return_counts=True)
    torch.testing.assert_close(found, torch.arange(1, parts + 1) / parts)
    assert counts.max() - counts.min() <= 1
    assert model.times(torch.tensor([0.0])).item() > 0


def test_the_teacher_learns_velocity(clip):
    model, seen = trained(clip), batch(clip)
    noise, places = model.draw(seen)
    t = model.times(places[:, 0])
    for error in (0.0, 0.5):
        model.generator = Says(lambda *_, error=error: schedule.velocity(seen.images, noise, t) + error)
        assert model.loss(seen, torch.empty(0))["data"].item() == pytest.approx(error**2, abs=1e-9)
    ((z, asked, _, guidance),) = model.generator.asked
    torch.testing.assert_close(z, schedule.noised(seen.images, noise, t))
    assert asked.equal(t)
    assert guidance is None
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_guidance_goes_from_no_caption_to_the_caption_and_beyond(clip, given):
    z, text, strength = given
    network, t = denoiser(clip), torch.tensor([1.0, 0.7, 0.5, 0.1])
    empty = no_caption(clip, CPU)
    said = teacher.guided(network, z, t, text, empty, strength)
    for k, g in enumerate(strength.tolist()):
        row = slice(k, k + 1)
        with_caption, without = (network(z[row], t[row], text_) for text_ in (text[row], empty))
        assert (with_caption - without).abs().max() > 1e-3
        torch.testing.assert_close(said[row], g * with_caption + (1 - g) * without)
    torch.testing.assert_close(said[:1], network(z[:1], t[:1], text[:1]))  # 1 = none


def test_the_first_stage_is_asked_once_and_told_the_strength(clip, given):
    z, text, strength = given
    network, empty, t = denoiser(clip), no_caption(clip, CPU), torch.tensor([1.0, 0.7, 0.5, 0.1])
    wanted = teacher.guided(network, z, t, text, empty, strength)
    off = Says(lambda *_: wanted + 0.5)
    assert guided.guidance_loss(Says(lambda *_: wanted), network, z, t, text, empty, strength).item() == 0
    weights = [max(math.cos(a), math.sin(a)) ** 2 for a in (t * math.pi / 2).tolist()]
    loss = guided.guidance_loss(off, network, z, t, text, empty, strength)
    assert loss.item() == pytest.approx(0.25 * sum(weights) / 4, rel=1e-5)
    ((_, _, asked, told),) = off.asked
    assert told is strength
    assert asked is text


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_one_step_of_a_perfect_student_ends_where_two_of_its_teacher_do(clip, given, steps):
    """Against DDIM written out in pictures and noise, from every time of the student's grid."""
    z, text, strength = given
    network = denoiser(clip)
    for k in range(1, steps + 1):
        there = z
        for part in (2 * k, 2 * k - 1):
            t = torch.full((4,), part / (2 * steps))
            v = network(there, t, text, strength)
            a, b = (math.pi / 2 * p / (2 * steps) for p in (part, part - 1))
            x, noise = math.cos(a) * there - math.sin(a) * v, math.sin(a) * there + math.cos(a) * v
            there = math.cos(b) * x + math.sin(b) * noise
        t = torch.full((4,), k / steps)
        student = Says(lambda z, t, text, g: guided.two_steps(network, z, t, steps, text, g))
        assert guided.halving_loss(student, network, z, t, steps, text, strength).item() == 0
        landed = schedule.ddim(z, student(z, t, text, strength), t, t - 1 / steps)
        torch.testing.assert_close(landed, there, atol=1e-5, rtol=1e-5)
        # What the teacher itself does in one such step is something else.
        alone = schedule.ddim(z, network(z, t, text, strength), t, t - 1 / steps)
        assert (alone - there).abs().max() > 1e-3
        assert guided.halving_loss(network, network, z, t, steps, text, strength).item() > 0


def test_at_time_0_the_consistency_function_is_the_identity_whatever_the_network_says(clip, given):
    z, text, strength = given
    at = torch.tensor([0.0, 0.0, 1.0, 1.0])
    says = Says(lambda z, *_: 5 + 0 * z)
    found = consistency.picture(says, z, at, text, strength, config())
    assert found[:2].equal(z[:2])
    torch.testing.assert_close(found[2:], torch.full_like(z[2:], -5))  # and elsewhere nothing but what the network says
    small = consistency.boundaries(torch.tensor([0.5 / 10240]), 1024, config().distillation)
    assert [float(x) for x in small] == pytest.approx([0.5, 0.5 / math.sqrt(0.5)])  # they meet where time is sigma_data


def test_the_consistency_loss_is_that_between_two_points_of_the_guided_trajectory(clip, given):
    z, text, strength = given
    t, settings = torch.tensor([1.0, 0.75, 0.5, 0.25]), config(distillation={"solver_steps": 8, "huber": 0.01})
    network, empty = denoiser(clip), no_caption(clip, CPU)
    student, target = disturb(denoiser(clip), seed=2).requires_grad_(True), denoiser(clip, seed=4)
    there = schedule.ddim(z, teacher.guided(network, z, t, text, empty, strength), t, t - 1 / 8)
    f = [consistency.picture(*at, text, strength, settings) for at in ((student, z, t), (target, there, t - 1 / 8))]
    wanted = ((f[0] - f[1].detach()).square() + 1e-4).sqrt().mean() - 0.01
    loss = consistency.consistency_loss(student, target, network, z, t, text, empty, strength, settings)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    gradient = student.unet.conv_in.weight.grad.clone()
    student.zero_grad()
    wanted.backward()
    torch.testing.assert_close(student.unet.conv_in.weight.grad, gradient)


def test_a_straight_trajectory_is_consistent(clip, given):
    """Where teacher and student know the picture, every point of the trajectory leads to it."""
    x, text, strength = given
    noise, t = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)), torch.tensor([1.0, 0.75, 0.5, 0.25])

    def knows(z: Tensor, at: Tensor, *_) -> Tensor:
        angle = (at * math.pi / 2).view(-1, 1, 1, 1)
        pictures = x.repeat(len(z) // 4, 1, 1, 1)
        return (z * angle.cos() - pictures) / angle.sin().clamp(min=1e-6)

    z, settings = schedule.noised(x, noise, t), config(distillation={"solver_steps": 8})
    arguments = (knows, knows, z, t, text, no_caption(clip, CPU), strength, settings)
    assert consistency.consistency_loss(knows, *arguments).item() < 1e-6
    assert consistency.consistency_loss(lambda z, *_: 0 * z, *arguments).item() > 0.01


def test_the_strength_of_guidance_changes_what_a_student_says(clip, given):
    z, text, strength = given
    network, t = denoiser(clip), torch.full((4,), 0.5)
    said = [network(z, t, text, g) for g in (None, strength, strength + 0.25)]
    assert (said[0] - said[1]).abs().max() > 1e-4
    assert (said[1] - said[2]).abs().max() > 1e-4


def test_the_last_step_of_the_solver_ends_at_the_picture(clip, given):
    z, text, strength = given
    network, empty, settings = denoiser(clip), no_caption(clip, CPU), config(distillation={"solver_steps": 2})
    t = torch.tensor([0.5, 0.4, 0.2, 0.1])
    there = schedule.picture(z, teacher.guided(network, z, t, text, empty, strength), t)
    says = Says(lambda z, *_: 0 * z)
    student = Says(lambda z, t, *_: schedule.velocity_to(z, there, t, 0 * t))
    loss = consistency.consistency_loss(student, says, network, z, t, text, empty, strength, settings)
    assert loss.item() < 1e-6
    assert says.asked[0][1].tolist() == [0.0] * 4


def test_the_target_follows_the_student_once_a_step(clip):
    """Whatever the number of micro-batches."""
    model, seen = trained(clip), batch(clip)
    model.config = config(diffusion={"objective": "consistency"}, distillation={"target_decay": 0.75})
    model.target, model.teacher = denoiser(clip, seed=6), denoiser(clip, seed=5)
    first = [p.clone() for p in model.target.parameters()]
    for k, images_seen in enumerate((0, 0, 4), 1):
        model.loss(replace(seen, images_seen=images_seen), torch.empty(0))
        keep = 0.75 ** (1 if k < 3 else 2)
        for was, now, to in zip(first, model.target.parameters(), model.generator.parameters(), strict=True):
            torch.testing.assert_close(now, keep * was + (1 - keep) * to)


@pytest.mark.parametrize("objective", ["data", "guidance", "halving", "consistency"])
def test_a_few_steps_lower_the_loss_and_reach_every_parameter(clip, objective):
    model = trained(clip)
    model.config = config(diffusion={"objective": objective}, sampling={"steps": 2}, train={"lr_generator": 0.003})
    disturb(model.generator)
    model.teacher = denoiser(clip, seed=5)
    model.target = denoiser(clip, seed=6)
    (phase,), seen = model.phases(), batch(clip)
    losses, reached = [], set()
    for _ in range(8):
        phase.optimizer.zero_grad()
        loss = sum(phase.loss(seen, torch.empty(0)).values())
        loss.backward()
        reached |= {name for name, p in phase.network.named_parameters() if p.grad is not None and p.grad.any()}
        phase.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0], losses
    unheard = {name for name, _ in phase.network.named_parameters()} - reached
    assert unheard == ({"unet.time_embedding.cond_proj.weight"} if objective == "data" else set())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_objective_none_trains_nothing(clip):
    model = trained(clip)
    model.config = config(diffusion={"objective": "none"}, sampling={"method": "guided"}, train={"kimg": 0})
    assert model.phases() == []
