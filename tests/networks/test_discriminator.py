"""The discriminator: which predictions there are, and that levels and captions stay apart."""

from __future__ import annotations

import itertools
import math

import literal
import pytest
import torch
from torch import Tensor

from gigagan.config import Config
from gigagan.errors import UserError
from gigagan.networks.condition import Labels
from gigagan.networks.conv import downsample
from gigagan.networks.discriminator import Discriminator, Layer, append_minibatch_std, image_pyramid
from gigagan.networks.generator import Generator
from gigagan.networks.text import TextFeatures, TextTransformer


def pyramid(n: int, resolution: int = 16, seed: int = 0) -> list[Tensor]:
    """Levels that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(seed)
    sides = [side for side in (64, 32, 16, 8, 4) if side <= resolution]
    return [torch.randn(n, 3, side, side, generator=generator) for side in sides]


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_every_level_is_read_out_after_every_layer_behind_it(tiny, ready, captions, resolution):
    d = ready(Discriminator(tiny(f"data.resolution={resolution}"), 16))
    levels = {8: 2, 16: 3, 32: 4}[resolution]
    (predictions,) = d(pyramid(2, resolution), [captions(2)])
    wanted = {(i, j) for i, j in itertools.product(range(levels), range(1, levels + 1)) if i < j}
    assert predictions.keys() == wanted
    assert len(predictions) == levels * (levels + 1) // 2
    for (_, j), logits in predictions.items():
        side = 1 if j == levels else resolution >> j
        assert logits.shape == (2, side, side)


@pytest.mark.parametrize(
    ("multi_scale", "wanted"),
    [
        ("input+output", {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}),
        ("input", {(0, 3), (1, 3), (2, 3)}),
        ("output", {(0, 1), (0, 2), (0, 3)}),
        ("none", {(0, 3)}),
    ],
)
def test_predictions_of_each_mode(tiny, ready, captions, multi_scale, wanted):
    full = ready(Discriminator(tiny(), 16))
    d = Discriminator(tiny(f"discriminator.multi_scale={multi_scale}"), 16)
    d.load_state_dict({name: value for name, value in full.state_dict().items() if name in d.state_dict()})
    (all_predictions,) = full(pyramid(2), [captions(2)])
    (predictions,) = d(pyramid(2), [captions(2)])
    assert predictions.keys() == wanted
    for key in wanted:
        torch.testing.assert_close(predictions[key], all_predictions[key], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_levels_are_independent(tiny, ready, captions):
    d = ready(Discriminator(tiny(), 16))
    images, text = pyramid(2), captions(2)
    (before,) = d(images, [text])
    for i, changed in enumerate(pyramid(2, seed=1)):
        (after,) = d([*images[:i], changed, *images[i + 1 :]], [text])
        for key in before:
            same = torch.allclose(before[key], after[key], rtol=1e-4, atol=1e-5)
            assert same == (key[0] != i), f"level {i} changed, prediction {key}"


def test_the_paper_s_discriminator_has_15_predictions_at_64_px():
    """Their shapes alone: it has 381M parameters."""
    with torch.device("meta"):
        d = Discriminator(Config(), 768)
        images = [torch.empty(2, 3, side, side) for side in (64, 32, 16, 8, 4)]
        (predictions,) = d(images, [TextFeatures(torch.empty(2, 77, 768), torch.full((2,), 5))])
    assert {key: tuple(logits.shape) for key, logits in predictions.items()} == {
        (i, j): (2, side, side) for j, side in ((1, 32), (2, 16), (3, 8), (4, 4), (5, 1)) for i in range(j)
    }
    assert len(predictions) == 15


@pytest.mark.parametrize("std", [0, 2])
def test_each_of_15_predictions_has_a_gradient_in_the_picture_of_its_own_level_alone(tiny, ready, captions, std):
    d = ready(Discriminator(tiny("data.resolution=64", f"discriminator.minibatch_std={std}"), 16))
    images = [level.requires_grad_() for level in pyramid(2, 64)]
    (predictions,) = d(images, [captions(2)])
    assert len(predictions) == 15
    for (i, j), logits in predictions.items():
        gradients = torch.autograd.grad(logits.sum(), images, retain_graph=True, allow_unused=True)
        reached = [level for level, gradient in enumerate(gradients) if gradient is not None and gradient.any()]
        assert reached == [i], f"prediction {i, j}"


@torch.no_grad()
@pytest.mark.parametrize("predictor", ["modulated", "projection"])
@pytest.mark.parametrize("std", [0, 2])
def test_a_prediction_is_phi_from_i_to_j_then_its_predictor(tiny, ready, captions, predictor, std):
    """Every D_ij on its own, from the numbers that the network consists of."""
    settings = [f"discriminator.predictor={predictor}", f"discriminator.minibatch_std={std}", "text.depth=2"]
    d = ready(Discriminator(tiny(*settings, "discriminator.predictor_depth=3", "discriminator.blocks=2"), 16)).double()
    images, text = [level.double() for level in pyramid(2)], captions(2)
    text = text._replace(tokens=text.tokens.double())
    (predictions,) = d(images, [text])
    p = literal.of(d)
    t, _ = literal.read(literal.part(p, "text"), *text, 8)
    for i in range(3):
        x = literal.leaky(literal.conv(literal.part(p, f"from_rgb.{i}"), images[i], math.sqrt(2)))
        for j in range(i + 1, 4):
            layer = literal.part(p, f"layers.{j - 1}")
            x = literal.phi_layer(layer, x, 0.4, 8, 0.3, std if j == 3 else 0)
            wanted = literal.predictor(literal.part(p, f"predictors.{j}"), x, t)
            torch.testing.assert_close(predictions.pop((i, j)).double(), wanted, rtol=1e-5, atol=1e-5)
    assert not predictions


@torch.no_grad()
def test_text_enters_the_predictors_only_and_the_trunk_runs_once(tiny, ready, captions):
    d = ready(Discriminator(tiny(), 16))
    images = pyramid(2)
    calls: list[str] = []
    features: list[Tensor] = []
    for layer in d.layers:
        layer.register_forward_hook(lambda _module, _args, y: (calls.append("layer"), features.append(y))[0] and None)
    d.text.register_forward_hook(lambda *_: calls.append("text"))
    first, second, third = captions(2), captions(2, seed=1), captions(2, seed=2)
    several = d(images, [first, second, third])
    assert calls.count("layer") == len(d.layers)
    assert calls.count("text") == 3

    before = features[: len(d.layers)]
    for text, predictions in zip((first, second, third), several, strict=True):
        features.clear()
        (alone,) = d(images, [text])
        assert all(torch.equal(a, b) for a, b in zip(features, before, strict=True))
        assert all(torch.equal(alone[key], predictions[key]) for key in alone)
    assert all((several[0][key] - several[1][key]).abs().min() > 1e-4 for key in several[0])


@torch.no_grad()
def test_the_unconditional_term_is_there(tiny, ready, captions):
    """With psi's last layer at zero, what is left does not see the caption."""
    d = ready(Discriminator(tiny(), 16))
    for predictor in d.predictors.values():
        predictor.layers[-1].bank.zero_()
        predictor.layers[-1].bias.zero_()
    one, other = d(pyramid(2), [captions(2), captions(2, seed=1)])
    assert all(torch.equal(one[key], other[key]) and one[key].std() > 0 for key in one)


@torch.no_grad()
def test_groups_of_pictures_share_their_captions(tiny, ready, captions):
    """Real and generated pictures in one batch: each caption goes to its picture of either group."""
    d = ready(Discriminator(tiny(), 16))
    real, fake, text = pyramid(2), pyramid(2, seed=1), captions(2)
    (both,) = d([torch.cat(level) for level in zip(real, fake, strict=True)], [text])
    for group, images in ((slice(0, 2), real), (slice(2, 4), fake)):
        (alone,) = d(images, [text])
        for key in alone:
            torch.testing.assert_close(both[key][group], alone[key], rtol=1e-4, atol=1e-5)


def test_levels_of_real_images_are_means_of_2_x_2_pixels():
    images = torch.randn(2, 3, 16, 16)
    levels = image_pyramid(images, 3)
    assert [level.shape[-1] for level in levels] == [16, 8, 4]
    assert torch.equal(levels[0], images)
    torch.testing.assert_close(levels[2], downsample(downsample(images)))
    torch.testing.assert_close(levels[2][0, 0, 0, 0], images[0, 0, :4, :4].mean())


def test_generator_and_discriminator_have_a_text_transformer_each(tiny):
    for network in (Generator(tiny("text.depth=3"), 16), Discriminator(tiny("text.depth=3"), 16)):
        assert isinstance(network.text, TextTransformer)
        assert len(network.text.layers) == 3


@torch.no_grad()
def test_features_keep_their_size_through_the_first_network(tiny, ready):
    layer = ready(Layer(tiny("attention.kinds=none"), 16), disturbed=0.0)
    torch.manual_seed(0)
    x = torch.randn(16, 8, 16, 16)
    y = layer(x)
    assert y.shape == (16, 16, 8, 8)
    assert 0.6 < y.square().mean().sqrt().item() < 1.6


@pytest.mark.parametrize(
    ("side", "n_blocks", "n_attention", "std"), [(8, 3, 2, 0), (16, 1, 0, 0), (16, 0, 0, 0), (4, 2, 0, 2), (4, 0, 0, 4)]
)
def test_a_layer_of_phi_is_its_formula(tiny, ready, side, n_blocks, n_attention, std):
    """Residual blocks but a resolution's last, attention, a convolution of stride 2 with a 1x1 skip; at 4 px, the
    deviation of the batch and a convolution of everything. Outputs and all gradients."""
    settings = [f"discriminator.blocks={n_blocks}", "discriminator.block_gain=0.3", "attention.gain=0.5"]
    attention = [f"discriminator.attention_depth={n_attention}"]
    layer = ready(Layer(tiny(*settings, *attention, f"discriminator.minibatch_std={std}"), side)).double()
    assert (len(layer.blocks), len(layer.attention)) == (max(n_blocks - 1, 0), n_attention)
    x = torch.randn(4, min(128 // side, 16), side, side, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(x), literal.phi_layer(literal.of(layer), x, 0.3, 8, 0.5, std)
    literal.agree(found, wanted, [x, *layer.parameters()], rtol=1e-5, atol=1e-6)  # the deviation is computed in fp32


def test_minibatch_standard_deviation_of_neighbours():
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    y = append_minibatch_std(x, 3)
    assert y.shape == (6, 4, 4, 4)
    assert torch.equal(y[:, :3], x)
    for start in (0, 3):
        values = [x[start : start + 3, c, h, w] for c in range(3) for h in range(4) for w in range(4)]
        wanted = sum(math.sqrt(v.var(correction=0).item() + 1e-8) for v in values) / len(values)
        torch.testing.assert_close(y[start : start + 3, 3], torch.full((3, 4, 4), wanted, dtype=torch.float64))
    with pytest.raises(UserError, match="minibatch_std=4: does not divide the 6 pictures"):
        append_minibatch_std(x, 4)


@torch.no_grad()
def test_minibatch_standard_deviation_keeps_levels_and_groups_apart(tiny, ready, captions):
    """Levels, and real and generated pictures, share a batch; a group never mixes them."""
    d = ready(Discriminator(tiny("discriminator.minibatch_std=2"), 16))
    real, fake, text = pyramid(4), pyramid(4, seed=1), captions(4)
    (both,) = d([torch.cat(level) for level in zip(real, fake, strict=True)], [text])
    (alone,) = d(real, [text])
    for key in alone:
        torch.testing.assert_close(both[key][:4], alone[key], rtol=1e-4, atol=1e-5)
    changed = [torch.cat([level[:3], other[3:]]) for level, other in zip(real, fake, strict=True)]
    (after,) = d(changed, [text])
    moved = [not torch.allclose(after[2, 3][k], alone[2, 3][k], atol=1e-6) for k in range(4)]
    assert moved == [False, False, True, True]


@torch.no_grad()
def test_only_so_many_levels_may_enter(tiny, ready, captions):
    d = ready(Discriminator(tiny("discriminator.entries=2"), 16))
    (predictions,) = d(pyramid(2)[:2], [captions(2)])
    assert {i for i, _ in predictions} == {0, 1}
    assert "2" not in d.from_rgb


def unconditional(tiny, *more: str):
    return tiny("condition.kind=none", "attention.kinds=self", "loss.clip_weight=0", "loss.matching=none", *more)


@torch.no_grad()
def test_projection_is_an_inner_product_with_the_condition(tiny, ready, captions):
    d = ready(Discriminator(tiny("discriminator.predictor=projection"), 16))
    features, condition = torch.randn(2, 16, 3, 3), torch.randn(2, 16)
    predictor = d.predictors["3"]
    found = predictor(features, condition)
    direction = condition @ predictor.projection.weight.T / 4 + predictor.projection.bias
    for b in range(2):
        for h in range(3):
            for w in range(3):
                x = features[b, :, h, w]
                wanted = direction[b] @ x / 4 + predictor.unconditional.weight[0, :, 0, 0] @ x / 4
                torch.testing.assert_close(found[b, h, w], wanted + predictor.unconditional.bias[0])


@torch.no_grad()
def test_classes_take_the_text_s_place_and_may_be_absent(tiny, ready):
    config = tiny(
        "condition.kind=class", "condition.classes=3", "condition.width=5", "attention.kinds=self", "loss.clip_weight=0"
    )
    d = ready(Discriminator(config, 16))
    one, other = d(pyramid(2), [Labels(torch.tensor([0, 2])), Labels(torch.tensor([1, 2]))])
    assert all((one[key][0] != other[key][0]).all() and torch.equal(one[key][1], other[key][1]) for key in one)
    assert not any(name.startswith("text.layers") for name, _ in d.named_parameters())
    d = ready(Discriminator(unconditional(tiny), 16))
    one, other = d(pyramid(2), [Labels(torch.tensor([0, 0])), Labels(torch.tensor([1, 2]))])
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(predictor.projection is None for predictor in d.predictors.values())
