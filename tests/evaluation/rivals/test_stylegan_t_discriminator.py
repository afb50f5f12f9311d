"""StyleGAN-T's discriminator: its heads, the frozen ViT that they look through, augmentation and crops."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from evaluation.rivals.stylegan_t import vit
from evaluation.rivals.stylegan_t.augment import DRAWS, crop, diff_augment, uniform
from evaluation.rivals.stylegan_t.config import Config
from evaluation.rivals.stylegan_t.discriminator import Discriminator, LocalNorm, SpectralConv1d
from gigagan.errors import UserError
from gigagan.networks.parameters import initialise
from gigagan.overrides import parse

CPU = torch.device("cpu")
LEVELS = (0, 3, 6, 9, 12)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def heads() -> Discriminator:
    d = parse(["discriminator.levels=0,1", "discriminator.virtual_batch=2"], Config()).discriminator
    made = Discriminator(d, 6, 5)
    made.begin(0)
    return made


# ------------------------------------------------------------------------------------------------------------- heads


def test_every_level_has_a_head_with_a_logit_for_every_token(heads):
    heads.eval()
    tokens, text = [drawn(4, 6, 9, seed=i) for i in (1, 2)], drawn(4, 5)
    assert heads.heads[0].hidden(tokens[0]).shape == (4, 6, 9)
    logits = heads(tokens, text)
    assert logits.shape == (4, 18)
    apart = [head(x, text) for head, x in zip(heads.heads, tokens, strict=True)]
    torch.testing.assert_close(logits, torch.cat(apart, dim=1))
    assert (apart[0] - heads.heads[1](tokens[0], text)).abs().max() > 1e-3  # each its own weights


def test_a_head_projects_its_features_onto_the_caption(heads):
    head = heads.heads[0].eval()
    x, text = drawn(2, 6, 9), drawn(2, 5)
    features = F.conv1d(head.hidden(x), head.last.normalised(), head.last.bias)
    expected = torch.einsum("bct,bc->bt", features, head.text(text)) / math.sqrt(64)
    torch.testing.assert_close(head(x, text), expected)


def test_captions_go_round_over_pairs_of_pictures(heads):
    heads.eval()
    tokens, text = [drawn(4, 6, 9, seed=i) for i in (1, 2)], drawn(2, 5)
    torch.testing.assert_close(heads(tokens, text), heads(tokens, torch.cat([text, text])))


def test_a_spectral_norm_is_one_and_stays_so_while_the_weight_is_trained():
    conv = SpectralConv1d(6, 7, 3)
    initialise(conv, 0, "test")
    conv.begin(0, "test", steps=50)
    norm = torch.linalg.matrix_norm(conv.normalised().flatten(1), ord=2).item()
    assert norm == pytest.approx(1, abs=1e-3)
    optimizer = torch.optim.Adam(conv.parameters(), lr=0.003)
    before = conv.weight.detach().clone()
    for step in range(60):
        optimizer.zero_grad()
        conv(drawn(2, 6, 9, seed=step)).square().mean().mul(-1).backward()
        optimizer.step()
    assert (conv.weight - before).abs().max() > 0.05
    assert torch.linalg.matrix_norm(conv.normalised().flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)


def test_power_iteration_runs_only_where_the_weight_is_trained_and_its_state_is_kept():
    conv = SpectralConv1d(4, 4, 3)
    initialise(conv, 0, "test")
    conv.begin(0, "test", steps=1)
    assert {"left", "right"} <= conv.state_dict().keys()
    before = conv.left.clone()
    conv.requires_grad_(False)(drawn(1, 4, 5))
    with torch.no_grad():
        conv.requires_grad_(True)(drawn(1, 4, 5))
    conv.eval()(drawn(1, 4, 5))
    assert torch.equal(conv.left, before)
    conv.train()(drawn(1, 4, 5))
    assert not torch.equal(conv.left, before)


def test_the_ends_of_the_tokens_meet():
    conv = SpectralConv1d(2, 2, 3)
    initialise(conv, 0, "test")
    conv.begin(0, "test")
    x = drawn(1, 2, 7)
    torch.testing.assert_close(conv.eval()(x.roll(2, 2)), conv(x).roll(2, 2))


def test_batch_statistics_are_of_each_virtual_batch_alone():
    norm = LocalNorm(3, 2)
    initialise(norm, 0, "test")
    x = 5 + 3 * drawn(4, 3, 6)
    y = norm(x)
    torch.testing.assert_close(y[:2], F.batch_norm(x[:2], None, None, training=True))
    torch.testing.assert_close(norm(torch.cat([x[:2], -x[2:]]))[:2], y[:2])


# --------------------------------------------------------------------------------------------------------------- ViT


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """DINO's architecture with random weights, as timm would hand it over."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(vit.DINO, pretrained=False, num_classes=0).eval()


@pytest.fixture(scope="module", params=["dino.safetensors", "dino.pth"])
def file(request, network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dino") / request.param
    save_file(network.state_dict(), path) if path.suffix == ".safetensors" else torch.save(network.state_dict(), path)
    return path


def test_dino_is_looked_at_after_its_blocks_with_the_class_token_added(network, file, clip):
    backbone = vit.load(str(file), LEVELS, clip, CPU)
    images = drawn(1, 3, 224, 224).clamp(-1, 1)
    found = backbone(images)
    assert [tuple(x.shape) for x in found] == [(1, 384, 196)] * 5
    mean, std = torch.tensor(vit.MEAN).view(3, 1, 1), torch.tensor(vit.STD).view(3, 1, 1)
    options = {"return_prefix_tokens": True, "output_fmt": "NLC", "intermediates_only": True, "norm": False}
    with torch.no_grad():
        theirs = network.forward_intermediates(((images + 1) / 2 - mean) / std, indices=[2, 5, 8, 11], **options)
    for x, (tokens, prefix) in zip(found[1:], theirs, strict=True):
        torch.testing.assert_close(x, (tokens + prefix).transpose(1, 2), rtol=1e-4, atol=1e-4)
    assert backbone.sha


def test_the_cache_of_timm_is_looked_into(network, tmp_path, clip, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    kept = {(vit.REPOSITORY, vit.FILE): str(path)}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: kept.get(names))
    assert vit.load("dino", (1,), clip, CPU).width == 384


def test_a_missing_dino_is_one_line_that_says_where_to_get_it(clip, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match=r"backbone=dino: .* not on this machine: `hf download timm/.*FILE$") as error:
        vit.load("dino", LEVELS, clip, CPU)
    assert "\n" not in error.value.message
    with pytest.raises(UserError, match=r"backbone=.*none\.pth: there is no such file, nor is it dino or clip"):
        vit.load(str(tmp_path / "none.pth"), LEVELS, clip, CPU)


def test_a_file_of_another_network_is_refused(clip, tmp_path):
    save_file({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors: .*blocks\.0"):
        vit.load(str(tmp_path / "other.safetensors"), LEVELS, clip, CPU)


def test_the_image_tower_of_a_clip_gives_what_its_own_pass_gives(clip):
    backbone = vit.load("clip", (0, 1, 2), clip, CPU)
    images = drawn(2, 3, 16, 16).clamp(-1, 1)
    found = backbone(images)
    assert [tuple(x.shape) for x in found] == [(2, 16, 4)] * 3
    options = {"output_extra_tokens": True, "intermediates_only": True, "normalize_intermediates": False}
    theirs = clip.model.visual.forward_intermediates(clip.preprocess(images), output_fmt="NLC", **options)
    pairs = zip(theirs["image_intermediates"], theirs["image_intermediates_prefix"], strict=True)
    for x, (tokens, prefix) in zip(found[1:], pairs, strict=True):
        torch.testing.assert_close(x, (tokens + prefix).transpose(1, 2))
    with pytest.raises(UserError, match=r"discriminator\.levels=0,3: this ViT has 2 blocks"):
        vit.load("clip", (0, 3), clip, CPU)


def test_pictures_are_resized_by_area(clip):
    backbone = vit.load("clip", (1,), clip, CPU)
    images = drawn(1, 3, 32, 32)
    torch.testing.assert_close(backbone.resize(images), F.avg_pool2d(images, 2))


# ------------------------------------------------------------------------------------------------------ augmentation


def test_a_draw_depends_on_its_picture_and_purpose_alone():
    draws = uniform([5, 6, 7], "real", DRAWS)
    assert torch.equal(uniform([6], "real", DRAWS)[0], draws[1])
    assert not torch.equal(uniform([6], "fake", DRAWS)[0], draws[1])
    assert ((draws >= 0) & (draws < 1)).all()


def test_draws_in_the_middle_leave_all_but_a_hole_in_the_middle():
    images = drawn(1, 3, 20, 20)
    augmented = diff_augment(images, torch.full((1, DRAWS), 0.5))
    hole = torch.zeros(20, 20, dtype=torch.bool)
    hole[8:12, 8:12] = True  # a fifth of the side, about pixel 10
    assert (augmented[0][:, hole] == 0).all()
    torch.testing.assert_close(augmented[0][:, ~hole], images[0][:, ~hole])


def test_colours_change_by_brightness_saturation_and_contrast():
    images = drawn(1, 3, 8, 8)
    b, s, c = 0.9, 0.2, 0.7
    x = images + (b - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * 2 * s
    x = x.mean() + (x - x.mean()) * (c + 0.5)
    augmented = diff_augment(images, torch.tensor([[b, s, c, 0.5, 0.5, 0.0, 0.0]]))
    torch.testing.assert_close(augmented[..., 2:, 2:], x[..., 2:, 2:])


def test_a_translation_moves_whole_pixels_and_fills_with_zero():
    images = drawn(1, 3, 16, 16) + 3
    for draw, shift in ((0.0, -2), (0.99, 2)):  # an eighth of the side at most
        moved = diff_augment(images, torch.tensor([[0.5, 0.5, 0.5, draw, 0.5, 0.99, 0.99]]))[0]
        expected = torch.zeros(3, 16, 16)
        if shift > 0:
            expected[:, shift:] = images[0, :, :-shift]
        else:
            expected[:, :shift] = images[0, :, -shift:]
        torch.testing.assert_close(moved[..., :12], expected[..., :12])  # the hole is on the right


def test_augmentation_is_the_same_in_any_batch_and_has_a_gradient():
    images = drawn(3, 3, 16, 16).requires_grad_()
    draws = uniform([1, 2, 3], "real", DRAWS)
    augmented = diff_augment(images, draws)
    torch.testing.assert_close(diff_augment(images[1:2], draws[1:2])[0], augmented[1])
    augmented.square().sum().backward()
    assert (images.grad != 0).float().mean() > 0.5
    small = drawn(1, 3, 8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: diff_augment(x, draws[:1].double()), small)


def test_crops_lie_within_the_picture_and_reach_its_corners():
    images = torch.arange(36.0).view(1, 1, 6, 6).expand(2, 3, 6, 6)
    cut = crop(images, 4, torch.tensor([[0.0, 0.0], [0.999, 0.999]]))
    assert torch.equal(cut[0], images[0, :, :4, :4])
    assert torch.equal(cut[1], images[1, :, 2:, 2:])
