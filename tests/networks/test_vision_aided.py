"""The vision-aided discriminator: what it looks at, what it hears, and that nothing frozen moves."""

from __future__ import annotations

import math

import literal
import pytest
import torch

from gigagan.config import VisionConfig
from gigagan.errors import UserError
from gigagan.networks.parameters import initialise
from gigagan.networks.vision_aided import VisionAided

CONFIG = VisionConfig(layers=(1, 3), channels=4)


def maps(n: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, 2, 2, generator=generator) for c in (6, 8, 10)]


@pytest.mark.parametrize(
    ("width", "kind", "predictor"),
    [(5, "modulated", "layers.0.bank"), (5, "projection", "projection.weight"), (0, "modulated", "unconditional.bias")],
)
def test_a_head_is_a_fixed_projection_a_convolution_and_a_conditioned_predictor(ready, width, kind, predictor):
    """Logits and all gradients, those of the features included, which is how the generator hears of it. Without a
    condition, what is seen counts alone."""
    d = ready(VisionAided(CONFIG, [6, 8, 10], width, kind)).double()
    features = [x.double().requires_grad_() for x in maps(2)]
    condition = torch.randn(2, width, dtype=torch.float64)
    found = d(features, condition)
    assert found.keys() == {(0, 1), (0, 3)}
    for (_, k), logits in found.items():
        p, x = literal.part(literal.of(d), f"heads.{k}"), features[k - 1]
        x = literal.normalise(x.movedim(1, 3)) @ d.heads[str(k)].projection[:, :, 0, 0].T
        y = literal.leaky(literal.conv(literal.part(p, "conv"), x.movedim(3, 1), math.sqrt(2)))
        wanted = literal.predictor(literal.part(p, "predictor"), y, condition)
        assert f"predictor.{predictor}" in p
        assert wanted.shape == (2, 2, 2)
        literal.agree(logits.double(), wanted, [features[k - 1], *p.values()], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_every_picture_is_heard_with_its_own_condition_in_every_group(ready):
    d = ready(VisionAided(CONFIG, [6, 8, 10], 5, "modulated"))
    real, fake, condition = maps(2), maps(2, seed=1), torch.randn(2, 5)
    both = d([torch.cat(pair) for pair in zip(real, fake, strict=True)], condition)
    for key, logits in d(fake, condition).items():
        torch.testing.assert_close(both[key][2:], logits)
    other = d(real, torch.randn(2, 5))
    assert all((other[key] != both[key][:2]).any() for key in other)


def test_the_projection_is_normal_and_keeps_the_variance_of_unit_features():
    n_in, n = 300, 200
    projection = VisionAided(VisionConfig(layers=(1,), channels=n), [n_in], 5, "modulated").heads["1"].projection
    assert projection.shape == (n, n_in, 1, 1)
    x = projection.flatten().double() * math.sqrt(n_in)  # 60,000 numbers: bounds are four standard errors
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert x.pow(power).mean().item() == pytest.approx(moment, abs=4 * math.sqrt(variance / len(x)))
    rows = projection[:, :, 0, 0]
    assert (rows @ rows.T - torch.eye(n)).abs().max() < 6 * math.sqrt(2 / n_in)  # no two channels are alike


def test_the_projection_is_the_same_in_every_run_and_never_trained():
    torch.manual_seed(0)
    one = VisionAided(CONFIG, [6, 6, 6], 5, "modulated")
    state = torch.manual_seed(1).get_state()
    other = VisionAided(CONFIG, [6, 6, 6], 5, "modulated")
    assert torch.equal(torch.get_rng_state(), state)
    for seed, d in enumerate((one, other)):
        initialise(d, seed, "vision_aided")
    fixed = {k: head.projection.clone() for k, head in one.heads.items()}
    assert not torch.equal(fixed["1"], fixed["3"])

    assert not any(name.endswith(".projection") for name, _ in one.named_parameters())
    assert not any("projection" in name for name in one.state_dict())
    optimizer = torch.optim.AdamW(one.parameters(), lr=0.1, weight_decay=0.5)
    before = [p.detach().clone() for p in one.parameters()]
    for _ in range(2):
        sum(
            logits.square().mean() for logits in one([x[:, :6] for x in maps(2)], torch.randn(2, 5)).values()
        ).backward()
        optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))
    for k, projection in fixed.items():
        assert torch.equal(one.heads[k].projection, projection)
        assert torch.equal(other.heads[k].projection, projection)


def test_a_block_that_the_tower_has_not_got_is_refused():
    with pytest.raises(UserError, match=r"vision\.layers=3: the image tower has 2 blocks"):
        VisionAided(CONFIG, [6, 8], 5, "modulated")
