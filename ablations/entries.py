"""What an entry of variants.yaml, models.yaml, rivals.yaml and suites.yaml holds, and how it is read: every field is
checked against its declared type."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from gigagan import entries

T = TypeVar("T")
Device = Literal["auto", "cpu", "cuda"]
LEAST = {
    "generator_m": 0,
    "discriminator_m": 0,
    "seeds": 0,
    "samples": 1,
    "reference": 1,
    "snapshots": 1,
    "pretrain": 1,
    "steps": 1,
}
MAY_BE_EMPTY = ("variants", "overrides", "pretrain", "expect")
NOBODY = "(?!)"  # a pattern that fits nothing
EACH = "each"
"""Stands in ``Suite.steps`` for every run that is not named there."""


@dataclass(frozen=True)
class Variant:
    """An entry of variants.yaml."""

    name: str
    label: str
    overrides: tuple[str, ...]
    parent: str | None = None
    expect: str = ""  # what the paper leads one to expect
    match: bool = False  # widened until G and D have as many parameters as its eldest ancestor's


@dataclass(frozen=True)
class Model:
    """An entry of models.yaml: one of the paper's, at its size."""

    name: str
    label: str
    source: str
    overrides: tuple[str, ...]
    parent: str | None = None
    generator_m: float | None = None  # millions of parameters that the paper prints
    discriminator_m: float | None = None
    per_gpu: int = 0  # images a GPU holds at once, for the count of memory; 0 = not counted
    note: str = ""


@dataclass(frozen=True)
class Rival:
    """An entry of rivals.yaml: what GigaGAN is compared with, trained by the same trainer."""

    name: str
    label: str
    family: str
    overrides: tuple[str, ...]
    start: str | None = None  # the rival whose weights it begins with
    curve: bool = True  # whether its snapshots are scored, too
    expect: str = ""

    @property
    def parent(self) -> str | None:
        return self.start


@dataclass(frozen=True)
class Suite:
    """An entry of suites.yaml: runs x seeds x data set x protocols x budget. A run is a variant, one of the paper's
    models as it is, a rival, or a pretrained model that is only drawn with."""

    name: str
    about: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    protocols: tuple[str, ...]
    judge: str = ""
    samples: int = 0
    reference: int = 0
    snapshots: int = 5
    device: Device = "auto"
    gate: bool = False
    pretrain: dict[Literal["conditioner", "judge"], int] = field(default_factory=dict)  # images to train CLIPs on first
    data: str = ""  # what is learned from and scored on, where a reader could take it for something else
    model: str = ""  # the entry of models.yaml that the variants are variants of
    models: tuple[str, ...] = ()  # entries of models.yaml that are runs, too
    upsampler: str = ""  # the entry of models.yaml that enlarges every run's samples, trained once
    steps: dict[str, int] = field(default_factory=dict)  # updates of a run, or of ``EACH``; times its batch: train.kimg
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)  # overrides of single runs
    rivals: tuple[str, ...] = ()  # entries of rivals.yaml that are runs, too
    on_gpu: dict[str, tuple[str, ...]] = field(default_factory=dict)  # further ones of runs, or of ``EACH``, on a GPU
    pretrained: tuple[str, ...] = ()  # entries of pretrained.yaml that are runs, too, at seed 0 alone

    @property
    def trained(self) -> tuple[str, ...]:
        """The runs that are trained here: the variants, the models and the rivals."""
        return self.variants + self.models + self.rivals

    @property
    def runs(self) -> tuple[str, ...]:
        """What is compared."""
        return self.trained + self.pretrained


def read(path: Path, kind: type[T]) -> dict[str, T]:
    """Every entry by name. Raises UserError as gigagan.entries."""
    return entries.read(path, kind, MAY_BE_EMPTY, LEAST)
