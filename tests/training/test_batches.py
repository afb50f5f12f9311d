"""What a step sees: order and mirroring of the data, other captions, latents, and seeds by axis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gigagan import latents
from gigagan.data import Item, open_dataset
from gigagan.data.skipped import Skipped
from gigagan.training.batches import Batches, TrainingOrder, other_captions, told

CPU = torch.device("cpu")


class Numbered:
    """Ten pictures with their number in the left half; captions of even ones allow mirroring, 0 to 3 mean the same."""

    name = "numbered"
    skipped = Skipped()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Item:
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, :8] = index + 1
        return Item(image, f"picture {index} {'left' if index % 2 else 'even'}")

    def describe(self) -> str:
        return "numbered"

    def meaning(self, caption: str) -> str:
        return "few" if int(caption.split()[1]) < 4 else caption

    def flippable(self, caption: str) -> bool:
        return "left" not in caption


def numbers(order: TrainingOrder, positions: range) -> list[int]:
    return [int(order[k][1].split()[1]) for k in positions]


def test_every_epoch_is_a_new_permutation_of_all_pictures():
    order = TrainingOrder(Numbered(), seed=0, flip=False)
    epochs = [numbers(order, range(start, start + 10)) for start in (0, 10, 20, 30)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert numbers(TrainingOrder(Numbered(), seed=0, flip=True), range(25, 5, -1)) == numbers(order, range(25, 5, -1))
    assert numbers(TrainingOrder(Numbered(), seed=1, flip=False), range(10)) != epochs[0]


def test_an_endless_set_is_read_in_order_from_a_start_that_the_seed_chooses(tiny):
    scenes = open_dataset(tiny().data, "train")
    order = TrainingOrder(scenes, seed=0, flip=False)
    first = order._index(0)
    assert [order._index(k) for k in (1, 2, 10)] == [first + 1, first + 2, first + 10]
    assert TrainingOrder(scenes, seed=1, flip=False)._index(0) != first
    assert np.array_equal(order[3][0], scenes[first + 3].image)


def test_pictures_are_mirrored_half_of_the_time_and_only_where_the_caption_allows_it():
    mirrored: dict[bool, list[bool]] = {True: [], False: []}
    dataset = Numbered()
    order = TrainingOrder(dataset, seed=0, flip=True)
    for k in range(400):
        image, caption = order[k]
        mirrored[dataset.flippable(caption)].append(bool(image[0, -1, 0]))
    assert not any(mirrored[False])
    assert 0.4 < np.mean(mirrored[True]) < 0.6
    assert not any(TrainingOrder(dataset, seed=0, flip=False)[k][0][0, -1, 0] for k in range(20))


@pytest.mark.parametrize("seed", range(20))
def test_other_captions_mean_something_else(seed):
    meanings = ["a"] * 12 + ["b", "c", "c"]
    index, found = other_captions(meanings, seed)
    assert found.all()
    assert all(meanings[other] != meanings[k] for k, other in enumerate(index))
    assert np.array_equal(other_captions(meanings, seed)[0], index)


def test_other_captions_are_drawn_from_the_whole_batch_and_by_seed():
    meanings = [str(k) for k in range(6)]
    drawn = np.array([other_captions(meanings, seed)[0] for seed in range(200)])
    for k in range(6):
        assert set(drawn[:, k]) == set(range(6)) - {k}
    assert len({tuple(row) for row in drawn}) > 150


def test_a_batch_of_one_meaning_has_no_other_captions():
    index, found = other_captions(["a", "a", "a"], 0)
    assert index.tolist() == [0, 1, 2]
    assert not found.any()


@pytest.fixture
def batches(clips, tiny):
    def made(*overrides: str, seed: int = 0) -> Batches:
        config, dataset = tiny(*overrides), Numbered()
        return Batches(dataset, told(config, clips, dataset, CPU), config, seed, CPU)

    return made


def test_a_batch_holds_pictures_captions_and_other_captions(batches, clip):
    made = batches("data.flip=false")
    order = TrainingOrder(Numbered(), 0, False)
    seen = 0
    for batch, embeddings in itertools.islice(made.start(0), 10):
        items = [order[k] for k in range(seen, seen + 4)]
        captions = [caption for _, caption in items]
        meanings = [Numbered().meaning(caption) for caption in captions]
        assert batch.images.shape == (4, 3, 16, 16)
        pixels = torch.tensor([float(image[0, 0, 0]) for image, _ in items])
        torch.testing.assert_close(batch.images[:, 0, 0, 0], pixels / 127.5 - 1)
        assert batch.images[:, :, :, 8:].eq(-1).all()

        tokens = clip.tokenize(captions)
        features, end = clip.text_features(tokens)
        assert torch.equal(batch.text.tokens, features)
        assert torch.equal(batch.text.end, end)
        torch.testing.assert_close(embeddings, clip.embed_text(tokens))
        wanted = [[a == b for b in meanings] for a in meanings]
        assert batch.positives.tolist() == wanted
        for k, other in enumerate(batch.other.tokens):
            source = next(i for i in range(4) if torch.equal(features[i], other))
            assert batch.has_other[k] == any(m != meanings[k] for m in meanings)
            assert (meanings[source] != meanings[k]) == bool(batch.has_other[k])
        seen += 4


def test_further_captions_are_told_apart_from_every_picture(batches, clip):
    """c_n of Eq. 9: training captions, one for each meaning, behind those of the batch, the same in every batch."""
    made, alone = batches("loss.clip_captions=9"), batches()
    caption_of = [made.order[k][1] for k in range(20)]
    further = {Numbered().meaning(caption): caption for caption in caption_of[:9]}
    assert 1 < len(further) < 9
    features = clip.embed_text(clip.tokenize(list(further.values())))
    for step in range(5):
        (batch, embeddings), (bare, own) = next(made.start(4 * step)), next(alone.start(4 * step))
        torch.testing.assert_close(embeddings, torch.cat([own, features]))
        assert torch.equal(batch.images, bare.images)
        assert torch.equal(batch.positives[:, :4], bare.positives)
        meanings = [Numbered().meaning(caption) for caption in caption_of[4 * step : 4 * step + 4]]
        assert batch.positives[:, 4:].tolist() == [[mine == other for other in further] for mine in meanings]


def test_a_batch_is_a_function_of_seed_and_images_seen(batches):
    all_at_once = list(itertools.islice(batches().start(0), 5))
    later, _ = next(batches().start(16))
    batch = all_at_once[4][0]
    assert torch.equal(later.images, batch.images)
    assert torch.equal(later.other.tokens, batch.other.tokens)
    assert later.seeds == batch.seeds
    assert len({seed for made, _ in all_at_once for seed in made.seeds}) == 20
    assert next(batches(seed=1).start(16))[0].seeds != batch.seeds


def test_variants_at_one_seed_see_the_same_pictures_captions_and_noise(batches):
    """What a variant changes in the networks moves none of the other axes' seeds."""
    one = next(batches().start(8))[0]
    for override in ("generator.kernels=1", "attention.kinds=none", "loss.matching=none"):
        other = next(batches(override).start(8))[0]
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.other.tokens, other.other.tokens)
        z, noise = one.latents("generator", 8, 20)
        assert all(torch.equal(a, b) for a, b in zip((z, noise), other.latents("generator", 8, 20), strict=True))


def test_workers_change_nothing(batches):
    alone, shared = (next(batches(f"data.workers={n}").start(4))[0] for n in (0, 1))
    assert torch.equal(alone.images, shared.images)
    assert alone.seeds == shared.seeds


def test_micro_batches_are_the_batch_cut_up(batches):
    batch = next(batches().start(0))[0]
    parts = list(batch.split(3))
    assert [len(part.images) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.other.tokens for part in parts]), batch.other.tokens)
    assert torch.equal(torch.cat([part.positives for part in parts]), batch.positives)
    assert [seed for part in parts for seed in part.seeds] == batch.seeds
    z, _ = batch.latents("generator", 8, 20)
    assert torch.equal(torch.cat([part.latents("generator", 8, 20)[0] for part in parts]), z)


def test_each_phase_and_picture_has_latents_of_its_own(batches):
    batch = next(batches().start(0))[0]
    (z, noise), (z2, _) = batch.latents("generator", 8, 20), batch.latents("discriminator", 8, 20)
    assert z.shape == (4, 8)
    assert noise.shape == (4, 20)
    assert len({round(v, 6) for v in torch.cat([z.flatten(), z2.flatten(), noise.flatten()]).tolist()}) == 4 * 36


def test_latents_are_normal_and_a_function_of_the_seed_alone():
    z, noise = latents.draw(list(range(200)), 16, 32)
    for x in (z, noise):
        assert x.mean().item() == pytest.approx(0, abs=0.05)
        assert x.std().item() == pytest.approx(1, abs=0.05)
    again = latents.draw([7, 150], 16, 32)
    assert torch.equal(again[0], z[[7, 150]])
    assert torch.equal(again[1], noise[[7, 150]])
