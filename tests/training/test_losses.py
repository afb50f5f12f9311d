"""Every loss against a formula written out anew, and the terms of each phase."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from gigagan.config import LossConfig
from gigagan.networks.discriminator import image_pyramid
from gigagan.training import losses
from gigagan.training.losses import prediction_weights

LEVELS = 5
MODES = {
    "input+output": (range(LEVELS), range(1, LEVELS + 1)),
    "input": (range(LEVELS), range(LEVELS, LEVELS + 1)),
    "output": (range(1), range(1, LEVELS + 1)),
    "none": (range(1), range(LEVELS, LEVELS + 1)),
}


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def made_up(seed: int = 0) -> dict[tuple[int, int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {(0, 1): (3, 4, 4), (0, 2): (3, 1, 1), (1, 2): (3, 1, 1)}
    return {key: torch.randn(*shape, generator=generator) for key, shape in shapes.items()}


WEIGHTS = {(0, 1): 0.25, (0, 2): 2.0, (1, 2): 1.0}


def literal(predictions: dict[tuple[int, int], Tensor], sign: int, rows=(1, 1, 1)) -> float:
    """Sum over predictions of weight x mean over images and positions of softplus(sign * logit)."""
    total = 0.0
    for key, logits in predictions.items():
        images = [sum(softplus(sign * v) for v in image.flatten().tolist()) / image.numel() for image in logits]
        total += WEIGHTS[key] * sum(row * value for row, value in zip(rows, images, strict=True)) / len(images)
    return total


def test_gan_losses():
    real, fake = made_up(0), made_up(1)
    d = losses.discriminator_gan(real, fake, WEIGHTS).item()
    assert d == pytest.approx(literal(real, -1) + literal(fake, +1), rel=1e-5)
    assert losses.generator_gan(fake, WEIGHTS).item() == pytest.approx(literal(fake, -1), rel=1e-5)


def test_the_matching_loss_pushes_each_logit_down_by_its_sigmoid():
    """d softplus(D) / d D = sigmoid(D), shared out over pictures and positions; nothing where there is no c^."""
    mismatched = {key: logits.requires_grad_() for key, logits in made_up().items()}
    rows = torch.tensor([1.0, 0.0, 1.0])
    losses.matching_aware(mismatched, WEIGHTS, rows).backward()
    for key, logits in mismatched.items():
        share = WEIGHTS[key] * rows[:, None, None] / logits.numel()
        torch.testing.assert_close(logits.grad, share * logits.detach().sigmoid())


def test_matching_loss_calls_mismatched_pairs_fake_and_skips_those_without_another_caption():
    mismatched = made_up()
    found = losses.matching_aware(mismatched, WEIGHTS, torch.tensor([1.0, 0.0, 1.0])).item()
    assert found == pytest.approx(literal(mismatched, +1, rows=(1, 0, 1)), rel=1e-5)
    nobody = losses.matching_aware(mismatched, WEIGHTS, torch.zeros(3))
    assert nobody.item() == 0


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_losses_of_extreme_logits_are_finite(logit):
    predictions = {key: torch.full_like(value, logit) for key, value in made_up().items()}
    total = sum(WEIGHTS.values())
    assert losses.called_fake(predictions, WEIGHTS).item() == pytest.approx(max(logit, 0) * total)
    assert losses.called_real(predictions, WEIGHTS).item() == pytest.approx(max(-logit, 0) * total)


def test_level_weights_are_two_to_one_to_one_and_early_exits_count_less():
    weights = prediction_weights(LossConfig(), *MODES["input+output"], LEVELS, 0.01)
    assert len(weights) == 15
    last = [weights[i, LEVELS] for i in range(LEVELS)]
    assert last == pytest.approx([2 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6])
    assert all(weights[i, j] == pytest.approx(0.01 * last[i]) for i, j in weights if j < LEVELS)
    uneven = prediction_weights(LossConfig(scale_ratio=(3.0, 1.0, 0.5)), *MODES["input"], LEVELS, 0.0)
    assert list(uneven.values()) == pytest.approx([3 / 5.5, 1 / 5.5, *[0.5 / 5.5] * 3])


@pytest.mark.parametrize("early", [0.0, 0.01, 0.05, 1.0])
def test_the_adversarial_weight_is_the_same_in_all_modes(early):
    of = {mode: prediction_weights(LossConfig(), *ranges, LEVELS, early) for mode, ranges in MODES.items()}
    total = sum(of["input+output"].values())
    assert total == pytest.approx(1 + early * sum((4 - i) * (2 if i == 0 else 1) / 6 for i in range(LEVELS)))
    for mode, weights in of.items():
        entries, exits = MODES[mode]
        assert weights.keys() == {(i, j) for i, j in itertools.product(entries, exits) if i < j}
        assert sum(weights.values()) == pytest.approx(total)
        # What is left keeps its proportions.
        full = of["input+output"]
        assert all(w * full[0, LEVELS] == pytest.approx(weights[0, LEVELS] * full[key]) for key, w in weights.items())


def test_contrastive_loss_counts_every_caption_of_the_same_meaning_as_right():
    torch.manual_seed(0)
    images, texts = (nn.functional.normalize(torch.randn(n, 6), dim=1) for n in (2, 4))
    positives = torch.tensor([[True, False, True, False], [False, True, False, False]])
    wanted = 0.0
    for image, right in zip(images, positives, strict=True):
        likeness = [math.exp(float(image @ text) / 0.07) for text in texts]
        wanted -= math.log(sum(e for e, r in zip(likeness, right, strict=True) if r) / sum(likeness)) / len(images)
    found = losses.clip_contrastive(images, texts, positives, 0.07).item()
    assert found == pytest.approx(wanted, rel=1e-5)
    strict = positives.clone()
    strict[0, 2] = False
    assert losses.clip_contrastive(images, texts, strict, 0.07).item() > found


class Smooth(nn.Module):
    """Two inputs, one logit an image, without kinks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 5), nn.Linear(3, 5)
        self.out = nn.Linear(5, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        big, small = (level.flatten(1) for level in pyramid)
        return self.out(torch.tanh(self.first(big) + self.second(small))).squeeze(1)


def squared_slope(f, pyramid: list[Tensor], eps: float) -> Tensor:
    """|d f / d x|^2 of one image, over all its levels together, by central differences."""
    total = torch.zeros((), dtype=torch.float64)
    for level, image in enumerate(pyramid):
        n = image.numel()
        steps = eps * torch.eye(n, dtype=image.dtype).view(n, *image.shape)
        ends = []
        for moved in (image + steps, image - steps):
            copies = [part.expand(n, *part.shape) for part in pyramid]
            ends.append(f([*copies[:level], moved, *copies[level + 1 :]]).double())
        total += ((ends[0] - ends[1]) / (2 * eps)).square().sum()
    return total


def test_r1_is_half_gamma_times_the_squared_slope():
    net = Smooth().double()
    pyramid = [torch.randn(3, 3, side, side, dtype=torch.float64, requires_grad=True) for side in (2, 1)]

    @torch.no_grad()
    def wanted() -> float:
        return 0.7 / 2 * sum(squared_slope(net, [level[b] for level in pyramid], 1e-4).item() for b in range(3)) / 3

    penalty = losses.r1_penalty(net(pyramid), pyramid, 0.7)
    assert penalty.item() == pytest.approx(wanted(), rel=1e-5)

    # Its gradient is a second derivative: compare with a step along one weight.
    penalty.backward()
    weight, ends = net.first.weight, []
    for step in (1e-3, -2e-3):
        with torch.no_grad():
            weight[0, 0] += step
        ends.append(wanted())
    assert weight.grad[0, 0].item() == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3)


def test_the_r1_phase_penalises_the_whole_discriminator_on_real_pictures(tiny, gigagan, first_batch):
    config = tiny("data.resolution=8", "loss.r1_weight=0.3", "loss.r1_interval=5", "train.batch=2")
    model = gigagan(config)
    batch, embeddings = first_batch(config)
    found = model.r1_loss(batch, embeddings)["penalty"]

    slopes = []
    for b in range(2):

        def overall(pyramid: list[Tensor], b: int = b) -> Tensor:
            (predictions,) = model.discriminator(pyramid, [batch.text[b : b + 1]])
            return sum(model.gan_weights[key] * logits.mean((1, 2)) for key, logits in predictions.items())

        with torch.no_grad():
            slopes.append(squared_slope(overall, [level[b] for level in image_pyramid(batch.images, 2)], 1e-2).item())
    assert found.item() == pytest.approx(5 * 0.3 / 2 * sum(slopes) / 2, rel=0.02)
    found.backward()
    gradients = [p.grad for p in model.discriminator.parameters() if p.grad is not None]
    assert sum(g.abs().sum() for g in gradients) > 0
    assert all(torch.isfinite(g).all() for g in gradients)
    assert all(p.grad is None for p in model.generator.parameters())


def mean_softplus(model, pyramid: list[Tensor], text, weights, sign: int) -> float:
    """The loss of pictures with captions, prediction by prediction."""
    (predictions,) = model.discriminator(pyramid, [text])
    return sum(weights[key] * nn.functional.softplus(sign * logits).mean() for key, logits in predictions.items())


def vision_softplus(model, images: Tensor, text, sign: int) -> float:
    """The same of the vision-aided discriminator, head by head, whose weights share ``vision.weight`` evenly."""
    condition = model.discriminator.text(text).total
    maps, _ = model.clips.vision.see(images)
    heads = model.vision.heads
    each = [nn.functional.softplus(sign * head(maps[int(k) - 1], condition)).mean() for k, head in heads.items()]
    return model.config.vision.weight * sum(each) / len(each)


def test_discriminator_terms(tiny, gigagan, first_batch):
    config = tiny("loss.matching_weight=0.5", "vision.weight=0.3")
    model = gigagan(config)
    batch, embeddings = first_batch(config)
    assert batch.has_other.all()
    terms = model.discriminator_loss(batch, embeddings)
    with torch.no_grad():
        z, noise = batch.latents("discriminator", config.generator.z_dim, model.generator.noise_dim)
        fake = model.generator(z, batch.text, noise)
        real = image_pyramid(batch.images, 3)
        wanted = {
            "gan": mean_softplus(model, real, batch.text, model.gan_weights, -1)
            + mean_softplus(model, fake, batch.text, model.gan_weights, +1),
            "matching_real": 0.5 * mean_softplus(model, real, batch.other, model.match_weights, +1),
            "matching_fake": 0.5 * mean_softplus(model, fake, batch.other, model.match_weights, +1),
            "vision": vision_softplus(model, real[0], batch.text, -1) + vision_softplus(model, fake[0], batch.text, +1),
        }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    sum(terms.values()).backward()
    assert all(p.grad is None for p in model.generator.parameters())  # generated pictures are detached
    assert all(p.grad is not None for p in model.critics.parameters())
    assert all(p.grad is None for p in model.clips.vision.parameters())  # frozen


def test_matching_on_real_pictures_alone(tiny, gigagan, first_batch):
    """Table 1's side branch: the same term without the one on generated pictures."""
    both, real = (tiny(f"loss.matching={which}") for which in ("real+fake", "real"))
    wanted = gigagan(both).discriminator_loss(*first_batch(both))
    found = gigagan(real).discriminator_loss(*first_batch(real))
    assert found.keys() == {"gan", "matching_real", "vision"}
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def test_generator_terms(tiny, gigagan, first_batch, clip):
    config = tiny("loss.generator_matching_weight=0.5", "loss.clip_weight=0.25", "vision.weight=0.3")
    model = gigagan(config)
    batch, embeddings = first_batch(config)
    terms = model.generator_loss(batch, embeddings)
    z, noise = batch.latents("generator", config.generator.z_dim, model.generator.noise_dim)
    fake = model.generator(z, batch.text, noise)
    likeness = clip.embed_image(fake[0]) @ embeddings.T / config.loss.clip_temperature
    right = (likeness.softmax(1) * batch.positives).sum(1)
    wanted = {
        "gan": mean_softplus(model, fake, batch.text, model.gan_weights, -1),
        # G *minimises* softplus(D(G(c), c^)): its pictures are not to pass for another caption.
        "matching": 0.5 * mean_softplus(model, fake, batch.other, model.match_weights, +1),
        "vision": vision_softplus(model, fake[0], batch.text, -1),
        "clip": -0.25 * right.log().mean(),
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_without_matching_the_generator_has_no_matching_term_either(tiny, gigagan, first_batch):
    config = tiny("loss.matching=none", "loss.generator_matching_weight=0.5")
    model = gigagan(config)
    batch, embeddings = first_batch(config)
    seen = []
    model.discriminator.text.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    terms = model.discriminator_loss(batch, embeddings).keys() | model.generator_loss(batch, embeddings).keys()
    assert terms == {"gan", "vision", "clip"}
    assert len(seen) == 2
    assert all(text is batch.text for text in seen)  # D is never asked about another caption


def test_minimising_the_generator_s_matching_term_lowers_the_logits_for_other_captions(tiny, gigagan, first_batch):
    config = tiny("loss.generator_matching_weight=1")
    model = gigagan(config)
    batch, embeddings = first_batch(config)

    def mean_logit() -> float:
        z, noise = batch.latents("generator", config.generator.z_dim, model.generator.noise_dim)
        with torch.no_grad():
            (predictions,) = model.discriminator(model.generator(z, batch.text, noise), [batch.other])
        return sum(model.match_weights[key] * logits.mean().item() for key, logits in predictions.items())

    before = mean_logit()
    model.generator_loss(batch, embeddings)["matching"].backward()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert mean_logit() < before


def test_bf16_stays_close_to_fp32(tiny, gigagan, first_batch):
    found = {}
    for dtype in ("fp32", "bf16"):
        config = tiny(f"train.dtype={dtype}")
        model = gigagan(config)
        batch, embeddings = first_batch(config)
        terms = model.discriminator_loss(batch, embeddings) | model.r1_loss(batch, embeddings)
        terms |= {f"generator_{name}": term for name, term in model.generator_loss(batch, embeddings).items()}
        assert all(term.dtype == torch.float32 for term in terms.values())
        found[dtype] = {name: term.item() for name, term in terms.items()}
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.1)
    assert found["bf16"]["gan"] != found["fp32"]["gan"]
    assert found["bf16"]["penalty"] == found["fp32"]["penalty"]  # penalties are fp32 either way
