"""What a step sees: images, captions and other captions, latents; all a pure function of the seed and the images seen.

Seeds go by axis: the order of the data depends on (seed, "data"), latents and other captions on (seed, "noise"), and
the first weights on (seed, "init"); so variants at one seed see the same pictures, prompts and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gigagan import latents
from gigagan.clip import Clip, Clips
from gigagan.config import Config
from gigagan.data.item import Dataset
from gigagan.data.skipped import Found
from gigagan.errors import UserError
from gigagan.networks.condition import Condition, Labels
from gigagan.networks.parameters import derive
from gigagan.networks.text import TextFeatures
from gigagan.pixels import to_tensor
from gigagan.training import distributed
from gigagan.training.stop import ignore_interrupts


class TrainingOrder(torch.utils.data.Dataset):
    """Position k of a run -> picture [H, W, 3] and caption: reshuffled every epoch, mirrored where that is allowed."""

    def __init__(self, dataset: Dataset, seed: int, flip: bool) -> None:
        self.dataset = dataset
        self.seed = seed
        self.flip = flip
        self._epoch = -1
        self._order: np.ndarray | None = None

    def __getitems__(self, positions: list[int]) -> tuple[list[tuple[np.ndarray, str]], list[Found]]:
        """Many at once, with the samples that had to be skipped meanwhile: a loader process tells of them this way."""
        return [self[k] for k in positions], self.dataset.skipped.news()

    def __getitem__(self, k: int) -> tuple[np.ndarray, str]:
        image, caption = self.dataset[self._index(k)]
        if self.flip and derive(self.seed, "data", "flip", k) & 1 and self.dataset.flippable(caption):
            image = image[:, ::-1]
        return image, caption

    def _index(self, k: int) -> int:
        n = len(self.dataset)
        if n > 1 << 32:  # endless: no epoch will ever end, so a random start is as good as a random order
            return (derive(self.seed, "data", "start") + k) % n
        epoch, position = divmod(k, n)
        if epoch != self._epoch:
            self._order = np.random.default_rng(derive(self.seed, "data", "epoch", epoch)).permutation(n)
            self._epoch = epoch
        return int(self._order[position])


class _Positions:
    """The positions that one process reads: its slice of every global batch, from ``start`` on, for ever."""

    def __init__(self, start: int, batch: int) -> None:
        self.start, self.batch = start, batch

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // distributed.world()
        first = self.start + distributed.rank() * share
        while True:
            yield list(range(first, first + share))
            first += self.batch


def _collate(read: tuple[list[tuple[np.ndarray, str]], list[Found]]) -> tuple[Tensor, list[str], list[Found]]:
    items, skipped = read
    return torch.from_numpy(np.stack([image for image, _ in items])), [caption for _, caption in items], skipped


@dataclass(frozen=True)
class Batch:
    """One process's share (b pictures) of a global batch of N."""

    images: Tensor  # [b, 3, R, R] in [-1, 1]
    text: Condition  # of the captions c: their features, or the classes that they name
    other: Condition  # of other captions c^, drawn from the global batch
    has_other: Tensor  # [b], 0 where the global batch holds no caption of another meaning
    positives: Tensor  # [b, N + n] bool: which captions mean what c means, of the global batch and ``Batches.further``
    seeds: list[int]  # one a picture; phases derive their latents from them
    images_seen: int = 0  # by the run, before this batch

    def split(self, size: int) -> Iterator[Batch]:
        """Micro-batches of at most ``size`` pictures."""
        n, parts = len(self.images), [f.name for f in fields(self) if f.name != "images_seen"]
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            yield replace(self, **{name: getattr(self, name)[rows] for name in parts})

    def latents(self, phase: str, z_dim: int, noise_dim: int) -> tuple[Tensor, Tensor]:
        """z [b, z_dim] and noise [b, noise_dim]: each phase draws its own."""
        z, noise = latents.draw([derive(seed, phase) for seed in self.seeds], z_dim, noise_dim)
        return z.to(self.images.device), noise.to(self.images.device)


def other_captions(meanings: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For every caption another one of the batch, drawn again while it means the same.

    Returns index [N] and found [N] bool; where no caption of the batch means something else, index is the caption's own
    and found is False.
    """
    n = len(meanings)
    generator = np.random.default_rng(seed)
    keys = np.unique(np.array(meanings), return_inverse=True)[1]
    found = np.bincount(keys)[keys] < n
    index = np.arange(n)
    pending = np.flatnonzero(found)
    while len(pending):
        index[pending] = generator.integers(n, size=len(pending))
        pending = pending[keys[index[pending]] == keys[pending]]
    return index, found


def class_names(dataset: Dataset, config: Config) -> list[str]:
    """The classes that a run is conditioned on, in the order of their indices; none where it is not.

    Raises UserError where the data set has no classes, or not as many as ``condition.classes`` says.
    """
    if config.condition.kind != "class":
        return []
    names = dataset.classes()
    if len(names) != config.condition.classes:
        held = f"has {len(names)}" if names else "names none"
        raise UserError(
            f"condition.classes={config.condition.classes}: data set {dataset.name} {held}: set it so, or take "
            "data.name=classes, a folder of one folder a class"
        )
    return names


@dataclass(frozen=True)
class Told:
    """What a model and its losses are told of captions."""

    conditions: Callable[[list[str]], Condition]  # as its networks take them
    clip: Clip | None = None  # the one that reads them, and counts those that it has to cut
    guide: Clip | None = None  # the CLIP loss's; None = there is no such loss
    further: int = 0  # training captions that every batch is contrasted with besides its own


def told(config: Config, clips: Clips, dataset: Dataset, device: torch.device) -> Told:
    """GigaGAN's: text features, or classes. Raises UserError as ``class_names``."""
    clip = clips.text if config.condition.kind == "text" else None
    classes = {name: i for i, name in enumerate(class_names(dataset, config))}

    def conditions(captions: list[str]) -> Condition:
        if clip is not None:
            return TextFeatures(*clip.text_features(clip.tokenize(captions).to(device)))
        return Labels(torch.tensor([classes[caption] if classes else 0 for caption in captions], device=device))

    guided = config.loss.clip_weight > 0
    return Told(conditions, clip, clips.guide if guided else None, config.loss.clip_captions if guided else 0)


class Batches:
    """The endless sequence of batches of one process, from any number of images seen."""

    def __init__(self, dataset: Dataset, told: Told, config: Any, seed: int, device: torch.device) -> None:
        """``config``: any family's, with the sections data and train."""
        self.dataset, self.told, self.seed, self.device = dataset, told, seed, device
        self.batch = config.train.batch
        self.order = TrainingOrder(dataset, seed, config.data.flip)
        self.workers = config.data.workers
        self._cut = 0  # by this process
        self.captions_cut = 0
        """How many captions, of all that were trained on, were too long for the CLIP."""
        self.further = self._further(told.further)
        """Meanings and CLIP embeddings [n, E] of the training captions that every batch is contrasted with."""

    def start(self, images_seen: int) -> Iterator[tuple[Batch, Tensor]]:
        """Yields (this process's share, CLIP text embeddings [N + n, E] of the global batch and ``further``)."""
        loader = DataLoader(
            self.order,
            batch_sampler=_Positions(images_seen, self.batch),
            collate_fn=_collate,
            num_workers=self.workers,
            worker_init_fn=ignore_interrupts,
            pin_memory=self.device.type == "cuda",
        )
        for images, captions, skipped in loader:
            cut = self._cut
            assembled = self._assemble(images, captions, images_seen)
            for found, count in distributed.gather_objects([(skipped, self._cut - cut)]):
                self.dataset.skipped.learn(found)
                self.captions_cut += count
            yield assembled
            images_seen += self.batch

    @torch.no_grad()
    def _further(self, n: int) -> tuple[list[str], Tensor]:
        captions = {self.dataset.meaning(caption): caption for _, caption in (self.order[k] for k in range(n))}
        if not captions:
            return [], torch.empty(0, 0, device=self.device)
        texts = list(captions.values())
        return list(captions), torch.cat([self._embed(texts[i : i + 256]) for i in range(0, len(texts), 256)])

    def _embed(self, captions: list[str]) -> Tensor:
        """What the CLIP loss compares pictures with: [B, E]; nothing where there is no such loss."""
        guide = self.told.guide
        if guide is None:
            return torch.empty(len(captions), 0, device=self.device)
        return guide.embed_text(guide.tokenize(captions).to(self.device))

    def conditions(self, captions: list[str]) -> Condition:
        """What the networks are told of some captions."""
        cut = self.told.clip.n_cut if self.told.clip else 0
        condition = self.told.conditions(captions)
        self._cut += self.told.clip.n_cut - cut if self.told.clip else 0
        return condition

    @torch.no_grad()
    def _assemble(self, images: Tensor, captions: list[str], images_seen: int) -> tuple[Batch, Tensor]:
        text = self.conditions(captions)
        everyone = type(text)(*(distributed.gather_tensor(part) for part in text))
        embeddings = distributed.gather_tensor(self._embed(captions))
        meanings = distributed.gather_objects([self.dataset.meaning(caption) for caption in captions])

        b = len(captions)
        mine = slice(distributed.rank() * b, (distributed.rank() + 1) * b)
        index, found = other_captions(meanings, derive(self.seed, "noise", "captions", images_seen))
        keys, (more, more_embeddings) = np.array(meanings), self.further
        if more:
            embeddings = torch.cat([embeddings, more_embeddings])
        batch = Batch(
            images=to_tensor(images, self.device),
            text=text,
            other=everyone[torch.from_numpy(index[mine]).to(self.device)],
            has_other=torch.from_numpy(found[mine]).to(self.device, torch.float32),
            positives=torch.from_numpy(keys[mine, None] == np.array(meanings + more)[None]).to(self.device),
            seeds=[derive(self.seed, "noise", images_seen + k) for k in range(mine.start, mine.stop)],
            images_seen=images_seen,
        )
        return batch, embeddings
