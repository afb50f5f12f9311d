"""Noise, velocity and DDIM: their identities, and diffusers' own scheduler beside ours."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler

from evaluation.rivals.diffusion import schedule

N = 1024


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, noise and times, t = 1 among them."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 6, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x, noise, torch.tensor([1.0, 0.75, 0.5, 0.25, 1 / 16, 1 / N], dtype=torch.float64)


def test_noise_and_picture_are_mixed_by_an_angle(drawn):
    x, noise, t = drawn
    z, v = schedule.noised(x, noise, t), schedule.velocity(x, noise, t)
    torch.testing.assert_close(z.square() + v.square(), x.square() + noise.square())  # cos^2 + sin^2 = 1
    torch.testing.assert_close(z[0], noise[0])  # zero terminal SNR
    torch.testing.assert_close(schedule.noised(x, noise, 0 * t), x)


def test_the_picture_and_the_noise_follow_from_velocity(drawn):
    x, noise, t = drawn
    z, v = schedule.noised(x, noise, t), schedule.velocity(x, noise, t)
    torch.testing.assert_close(schedule.picture(z, v, t), x)
    angle = (t * math.pi / 2).view(-1, 1, 1, 1)
    torch.testing.assert_close(angle.sin() * z + angle.cos() * v, noise)


def test_a_step_of_ddim_mixes_the_same_picture_and_noise_anew(drawn):
    x, noise, t = drawn
    z, v = schedule.noised(x, noise, t), schedule.velocity(x, noise, t)
    for s in (t / 2, 0 * t):
        torch.testing.assert_close(schedule.ddim(z, v, t, s), schedule.noised(x, noise, s))


def test_the_velocity_to_a_place_leads_there(drawn):
    z, there, t = drawn
    for s in (t / 2, 0 * t):
        torch.testing.assert_close(schedule.ddim(z, schedule.velocity_to(z, there, t, s), t, s), there)


def test_the_velocity_to_a_place_is_the_target_that_salimans_and_ho_print(drawn):
    """Algorithm 2, of the picture, with alpha = cos and sigma = sin."""
    z, there, t = drawn
    s = t / 2
    a, a_s, sigma, sigma_s = (
        f(x * math.pi / 2).view(-1, 1, 1, 1)
        for f, x in ((torch.cos, t), (torch.cos, s), (torch.sin, t), (torch.sin, s))
    )
    printed = (there - sigma_s / sigma * z) / (a_s - sigma_s / sigma * a)
    torch.testing.assert_close(schedule.picture(z, schedule.velocity_to(z, there, t, s), t), printed)


def test_weights_of_velocity_are_truncated_snr_of_the_picture(drawn):
    x, other, t = drawn
    errors = [schedule.picture(0 * x, v, t) for v in (x, other)]
    snr = (1 / (t * math.pi / 2).tan().square()).clamp(min=1).view(-1, 1, 1, 1)
    weighed = schedule.truncated_snr(t) * (x - other).square()
    torch.testing.assert_close(weighed, snr * (errors[0] - errors[1]).square())


@pytest.mark.parametrize("steps", [1, 2, 4, 16, 32])
def test_ddim_is_that_of_diffusers_step_for_step(steps):
    """With the same times, and a network that says something else at each."""
    kept = (torch.arange(1, N + 1, dtype=torch.float64) / N * math.pi / 2).cos().square()
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    theirs = DDIMScheduler(
        N,
        trained_betas=betas.tolist(),
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(steps)
    z = w = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    for k, index in zip(range(steps, 0, -1), theirs.timesteps, strict=True):
        t, s = (torch.full((2,), part / steps) for part in (k, k - 1))
        assert int(index) == round(N * k / steps) - 1
        z = schedule.ddim(z, (z * 1.3 + k).sin(), t, s)
        w = theirs.step((w * 1.3 + k).sin(), index, w, eta=0.0).prev_sample
        torch.testing.assert_close(z, w, atol=2e-4, rtol=2e-4)
