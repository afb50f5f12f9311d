"""Truncation, interpolation and mixing of styles: their limits, and which level is told what."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gigagan import latents
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.latents import Truncation
from gigagan.networks.generator import Generator, Style
from gigagan.networks.parameters import initialise
from gigagan.networks.text import Text, TextFeatures

CAPTIONS = ["a red circle", "a small blue square on black"]


@pytest.fixture(scope="module")
def generator(tiny) -> Generator:
    generator = Generator(tiny(), 16)
    initialise(generator, 0, "generator")
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    return generator.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(clip: Clip) -> TextFeatures:
    return TextFeatures(*clip.text_features(clip.tokenize(CAPTIONS)))


@pytest.fixture(scope="module")
def style(generator, features) -> Style:
    """Two captions, three z each: rows 0 to 2 and 3 to 5."""
    z, _ = latents.draw(list(range(6)), generator.z_dim, generator.noise_dim)
    return generator.style(z, features[torch.tensor([0, 0, 0, 1, 1, 1])])


@pytest.fixture(scope="module")
def overall(generator) -> torch.Tensor:
    return torch.randn(16, generator=torch.Generator().manual_seed(3))


# -------------------------------------------------------------------------------------------------------- truncation


def test_psi_1_is_no_truncation_to_the_bit(generator, style, overall):
    assert latents.truncate(generator, style, Truncation(), overall) is style
    assert latents.truncate(generator, style, Truncation(1, 1)) is style


def test_psi_0_towards_the_prompt_leaves_one_style_a_prompt(generator, style, features):
    w = latents.truncate(generator, style, Truncation(prompt=0)).w
    mean = latents.prompt_mean(generator, generator.text(features).total)
    for k in range(6):
        assert torch.equal(w[k], mean[k // 3])
    assert (mean[0] - mean[1]).abs().max() > 1e-3


def test_psi_0_towards_the_global_mean_leaves_one_style(generator, style, overall):
    for prompt in (0.0, 0.4, 1.0):
        w = latents.truncate(generator, style, Truncation(prompt, 0), overall).w
        assert torch.equal(w, overall.expand(6, -1))


def test_between_the_limits_both_means_are_approached_one_after_the_other(generator, style, overall):
    mean = latents.prompt_mean(generator, style.text.total)
    once = latents.truncate(generator, style, Truncation(0.7)).w
    torch.testing.assert_close(once, mean + 0.7 * (style.w - mean))
    twice = latents.truncate(generator, style, Truncation(0.7, 0.5), overall)
    torch.testing.assert_close(twice.w, overall + 0.5 * (once - overall))
    assert twice.text is style.text  # the words that the levels attend to are the caption's own


def test_a_prompts_mean_is_that_of_many_z_and_the_same_in_any_batch(generator, features):
    total = generator.text(features).total
    mean = latents.prompt_mean(generator, total)
    assert torch.equal(latents.prompt_mean(generator, total[1:]), mean[1:])
    z, _ = latents.draw(list(range(4000)), generator.z_dim, 1)
    many = generator.mapping(z, total[:1].expand(4000, -1))
    spread = many.std(0)
    assert ((mean[0] - many.mean(0)).abs() < 4.5 * spread / math.sqrt(latents.MEAN_OVER) + 1e-6).all()


@pytest.mark.parametrize("psi", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, None])
@pytest.mark.parametrize(("field", "name"), [("prompt", "truncation"), ("overall", "global truncation")])
def test_a_truncation_outside_its_range_is_refused(psi, field, name):
    with pytest.raises(UserError) as error:
        Truncation(**{field: psi})
    assert error.value.message.startswith(f"{name} {psi!r}: must be a number from 0")


@pytest.mark.parametrize("psi", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_a_truncation_may_be_any_number(psi):
    assert Truncation(psi, psi) == Truncation(float(psi), float(psi))
    assert type(Truncation(psi).prompt) is float


def test_global_truncation_needs_the_mean_style(generator, style):
    with pytest.raises(UserError, match=r"no style_mean\.safetensors beside these weights"):
        latents.truncate(generator, style, Truncation(overall=0.5))


def test_the_global_mean_is_over_all_conditions_however_they_are_batched(generator, features):
    rows = [features[torch.tensor([k % 2])] for k in range(10)]
    batches = [features[torch.tensor([0, 1, 0, 1])], features[torch.tensor([0, 1, 0, 1, 0, 1])]]
    mean = latents.global_mean(generator, rows, 0)
    assert mean.shape == (16,)
    torch.testing.assert_close(latents.global_mean(generator, batches, 0), mean)
    assert (latents.global_mean(generator, rows, 1) - mean).abs().max() > 1e-4
    many = latents.global_mean(generator, [features] * 2000, 0)
    expected = latents.prompt_mean(generator, generator.text(features).total).mean(0)
    torch.testing.assert_close(many, expected, rtol=0, atol=0.25)
    with pytest.raises(ValueError, match="no conditions"):
        latents.global_mean(generator, [], 0)


# ----------------------------------------------------------------------------------------------------- interpolation


def test_a_path_goes_from_stop_to_stop():
    weights = latents.path(3, 5)
    assert weights.shape == (9, 3)
    assert torch.equal(weights[[0, 4, 8]], torch.eye(3))
    torch.testing.assert_close(weights[1], torch.tensor([0.75, 0.25, 0.0]))
    torch.testing.assert_close(weights.sum(1), torch.ones(9))
    for stops, steps in ((1, 5), (2, 1)):
        with pytest.raises(UserError, match="two ends and two steps or more"):
            latents.path(stops, steps)


def test_bilinear_weights_have_the_corners_at_the_corners():
    weights = latents.bilinear(3, 5)
    assert weights.shape == (15, 4)
    assert torch.equal(weights[[0, 4, 10, 14]], torch.eye(4))
    torch.testing.assert_close(weights[7], torch.full((4,), 0.25))
    torch.testing.assert_close(weights.sum(1), torch.ones(15))
    assert latents.bilinear(1, 1).tolist() == [[1, 0, 0, 0]]


def test_blended_texts_are_the_prompts_themselves_at_their_own_corners(generator, features):
    text = generator.text(features)
    assert text.mask.logical_not().nonzero()[0, 1] != text.mask.logical_not().nonzero()[1, 1]  # of other lengths
    blended = latents.blend(text, torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    for part, whole in zip(blended, text, strict=True):
        assert torch.equal(part[[0, 2]], whole)
    torch.testing.assert_close(blended.local[1], text.local.mean(0))
    torch.testing.assert_close(blended.total[1], text.total.mean(0))
    assert blended.mask.dtype == torch.bool
    assert blended.mask[1].all()  # where one caption ends, the other one has a word


def test_z_goes_along_the_sphere():
    z = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0]])
    found = latents.slerp(z, latents.path(2, 3).new_tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]))
    assert torch.equal(found[[0, 2, 3]], z)
    torch.testing.assert_close(found[1], torch.tensor([3.0, 3.0]) / math.sqrt(2))
    same = latents.slerp(torch.stack([z[0], z[0]]), latents.path(2, 4))
    torch.testing.assert_close(same, z[:1].expand(4, -1))
    assert latents.slerp(z[[0, 2]], latents.path(2, 5)).isfinite().all()  # opposite: no arc is the shortest


# ------------------------------------------------------------------------------------------------------------ mixing


@pytest.mark.parametrize("cut", [1, 2])
def test_levels_below_the_cut_are_coarse_and_those_from_it_on_fine(generator, style, cut):
    coarse, fine = latents.pick(style, [0]), latents.pick(style, [4])
    noise = torch.zeros(1, generator.noise_dim)
    levels = latents.mix(generator, coarse, fine, cut)
    assert [level is coarse for level in levels] == [k < cut for k in range(3)]
    assert [level is fine for level in levels] == [k >= cut for k in range(3)]
    # Coarsest first: what the levels below the cut draw is what the coarse style alone draws there.
    mixed = generator.synthesise(levels, noise)[::-1]
    alone = generator.synthesise([coarse] * 3, noise)[::-1]
    for k in range(3):
        assert torch.equal(mixed[k], alone[k]) == (k < cut)


def test_a_style_mixed_with_itself_is_itself(generator, style):
    one = latents.pick(style, [2])
    noise = torch.randn(1, generator.noise_dim, generator=torch.Generator().manual_seed(0))
    mixed = generator.synthesise(latents.mix(generator, one, one, 1), noise)[0]
    assert torch.equal(mixed, generator.synthesise([one] * 3, noise)[0])


def test_the_noise_of_a_mix_comes_with_the_styles(generator):
    a, b = torch.zeros(1, generator.noise_dim), torch.ones(1, generator.noise_dim)
    for cut in (1, 2):
        below = sum(generator.noise_sizes[:cut])
        found = latents.mix_noise(generator, a, b, cut)
        assert found[0, :below].sum() == 0
        assert found[0, below:].sum() == generator.noise_dim - below


@pytest.mark.parametrize("cut", [0, 3, -1, 99, 1.5, "1", True, None])
def test_a_cut_that_is_not_there_names_the_levels(generator, style, cut):
    one = latents.pick(style, [0])
    with pytest.raises(UserError) as error:
        latents.mix(generator, one, one, cut)
    assert error.value.message == (
        f"layer {cut!r}: must be from 1 to 2: levels below it are coarse, from it on fine "
        "(levels: 0 = 4 px, 1 = 8 px, 2 = 16 px)"
    )


def test_a_cut_may_be_any_whole_number():
    assert type(latents.check_cut(np.int64(2), [4, 8, 16])) is int


def test_rows_are_picked_from_every_part(style):
    found = latents.pick(style, [5, 0, 5])
    assert torch.equal(found.w, style.w[[5, 0, 5]])
    assert isinstance(found.text, Text)
    assert all(torch.equal(part, whole[[5, 0, 5]]) for part, whole in zip(found.text, style.text, strict=True))
