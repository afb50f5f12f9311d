"""What can be measured of an image set. A new metric is one file here, one line in ``MEASURES``, and what it declares
in ``evaluation.declared``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation.declared import GROUPS, METRICS, PAIRED, needs
from evaluation.metrics.clip_score import clip_score, clip_score_shuffled
from evaluation.metrics.cmmd import cmmd
from evaluation.metrics.density_coverage import K as K_OF_COVERAGE
from evaluation.metrics.density_coverage import density_coverage
from evaluation.metrics.diversity import lpips_diversity
from evaluation.metrics.fid_infinity import POINTS, SMALLEST, fid_infinity
from evaluation.metrics.frechet import Statistics, frechet
from evaluation.metrics.inception_score import SPLITS, inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.precision_recall import K as K_OF_RECALL
from evaluation.metrics.precision_recall import precision_recall
from evaluation.metrics.score import Score, mean_score
from gigagan.errors import UserError, nearest

__all__ = ["MEASURES", "PAIRED", "Inputs", "Measure", "Score", "measure"]


@dataclass(frozen=True)
class Inputs:
    """An image set and all that its scores are measured on.

    Attributes:
        pictures: gives all of them, uint8 [N, H, W, 3], and their captions, to a metric that asks for the pixels.
        meanings: of its captions.
        features: what was extracted from it, {name: [N, D]}.
        reference: the same of the reference set, or its statistics alone, which are enough for Fréchet distances.
        extractor: which of them the protocol names, to complete what metrics need.
        clip: whose embeddings the protocol names, ``<clip>_image`` and ``<clip>_text``.
        settings: what the protocol sets otherwise than a metric does: ``{"precision_recall": {"k": 5}}``.
    """

    pictures: Callable[[], tuple[np.ndarray, list[str]]]
    meanings: list[str]
    features: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray | Statistics]
    extractor: str
    clip: str = "judge"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A function of the features that its metrics need, then of the reference's where they ask for one, then of the
    fields of Inputs in ``also``; its further parameters, all with defaults, are what a protocol may set."""

    function: Callable[..., Score | dict[str, Score]]
    also: tuple[str, ...] = ()
    by_statistics: bool = False  # the reference's mean and covariance are enough
    least: int = 2  # images that it wants; by settings the metric itself may want others

    @property
    def settings(self) -> list[str]:
        parameters = inspect.signature(self.function).parameters.values()
        return [parameter.name for parameter in parameters if parameter.default is not parameter.empty]


def _attributes(pictures: Callable[[], tuple[np.ndarray, list[str]]]) -> dict[str, Score]:
    from evaluation.metrics.attributes import attribute_accuracy

    return attribute_accuracy(*pictures())


def _mean(column: np.ndarray) -> Score:
    return mean_score(column[:, 0])


def _diversity(column: np.ndarray, meanings: list[str]) -> Score:
    return lpips_diversity(column[:, 0], meanings)


MEASURES: dict[str, Measure] = {
    **{metric: Measure(frechet, by_statistics=True) for metric in ("fd", "fid", "patch_fid", "fd_dinov2")},
    "fid_infinity": Measure(fid_infinity, by_statistics=True, least=SMALLEST + POINTS),
    "kid": Measure(kid),
    "cmmd": Measure(cmmd),
    "inception_score": Measure(inception_score, least=2 * SPLITS),
    "precision_recall": Measure(precision_recall, least=K_OF_RECALL + 1),
    "density_coverage": Measure(density_coverage, least=K_OF_COVERAGE + 1),
    "clip_score": Measure(clip_score),
    "clip_score_shuffled": Measure(clip_score_shuffled, ("meanings",)),
    "attributes": Measure(_attributes, ("pictures",)),
    "lpips_diversity": Measure(_diversity, ("meanings",)),
    **{metric: Measure(_mean) for metric in PAIRED},
}
"""How each of ``evaluation.declared.LISTED`` is measured; those of GROUPS stand for several metrics by their names."""


def measure(name: str, inputs: Inputs) -> dict[str, Score]:
    """The scores that ``name``, one of MEASURES, stands for, by metric.

    Raises UserError for an unknown name or setting, features that are not there, and what the metric itself refuses.
    """
    wanted = needs(name, inputs.extractor, inputs.clip)
    found, settings = MEASURES[name], inputs.settings.get(name, {})
    if unknown := settings.keys() - set(found.settings):
        raise UserError(f"{name} has no setting {min(unknown)!r}{nearest(min(unknown), found.settings)}")
    arguments = _features(name, wanted, "images", inputs.features)
    if METRICS[GROUPS.get(name, (name,))[0]].reference:
        arguments += _features(name, wanted, "reference", inputs.reference)
        if isinstance(arguments[-1], Statistics) and not found.by_statistics:
            raise UserError(
                f"{name} wants the reference's images: statistics hold no more than a mean and a covariance"
            )
    scores = found.function(*arguments, *(getattr(inputs, field) for field in found.also), **settings)
    return scores if isinstance(scores, dict) else {name: scores}


def _features(name: str, wanted: tuple[str, ...], of: str, there: Mapping[str, Any]) -> list[Any]:
    if missing := [need for need in wanted if need not in there]:
        raise UserError(
            f"{name} needs the features {missing[0]!r} of the {of}: extract them again, with evaluation.features"
        )
    return [there[need] for need in wanted]
