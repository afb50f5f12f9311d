"""The vision-aided discriminator: what it looks at, what it hears, and that nothing frozen moves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gigagan.config import VisionConfig
from gigagan.errors import UserError
from gigagan.networks.vision_aided import VisionAided

CONFIG = VisionConfig(layers=(1, 3), channels=4)


def maps(n: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, 2, 2, generator=generator) for c in (6, 8, 10)]


@torch.no_grad()
def test_a_head_is_a_fixed_projection_a_convolution_and_a_conditioned_predictor(ready):
    d = ready(VisionAided(CONFIG, [6, 8, 10], 5, "modulated"))
    features, condition = maps(2), torch.randn(2, 5)
    found = d(features, condition)
    assert found.keys() == {(0, 1), (0, 3)}
    for (_, k), logits in found.items():
        head, x = d.heads[str(k)], features[k - 1]
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = torch.einsum("oi,bihw->bohw", head.projection[:, :, 0, 0], x)
        y = F.leaky_relu(head.conv(x), 0.2)
        torch.testing.assert_close(logits, head.predictor(y, condition))
        assert logits.shape == (2, 2, 2)


@torch.no_grad()
def test_every_picture_is_heard_with_its_own_condition_in_every_group(ready):
    d = ready(VisionAided(CONFIG, [6, 8, 10], 5, "modulated"))
    real, fake, condition = maps(2), maps(2, seed=1), torch.randn(2, 5)
    both = d([torch.cat(pair) for pair in zip(real, fake, strict=True)], condition)
    for key, logits in d(fake, condition).items():
        torch.testing.assert_close(both[key][2:], logits)
    other = d(real, torch.randn(2, 5))
    assert all((other[key] != both[key][:2]).any() for key in other)


def test_the_projection_is_the_same_in_every_run_and_never_trained(ready):
    one, other = (VisionAided(CONFIG, [6, 8, 10], 5, "modulated") for _ in range(2))
    assert torch.equal(one.heads["1"].projection, other.heads["1"].projection)
    assert not any("projection" in name for name, _ in one.named_parameters())
    assert not any("projection" in name for name in one.state_dict())
    x = torch.randn(4096, 6, 1, 1)
    assert F.conv2d(x, one.heads["1"].projection).std().item() == pytest.approx(1, abs=0.35)


def test_without_a_condition_what_is_seen_alone_counts(ready):
    d = ready(VisionAided(CONFIG, [6, 8, 10], 0, "modulated"))
    found = d(maps(2), torch.empty(2, 0))
    assert all(logits.std() > 0 for logits in found.values())


def test_a_block_that_the_tower_has_not_got_is_refused():
    with pytest.raises(UserError, match=r"vision\.layers=3: the image tower has 2 blocks"):
        VisionAided(CONFIG, [6, 8], 5, "modulated")
