"""What can be measured of an image set. A new metric is one file here and one line in ``MEASURES``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.metrics.clip_score import Score, clip_score, clip_score_shuffled, mean_score
from evaluation.metrics.frechet import frechet_distance
from gigagan.archive import read_images


@dataclass(frozen=True)
class Inputs:
    """An image set (``images``, its zip), the meanings of its captions, and what was extracted from it (``features``)
    and from the reference set ({extractor: [N, D]})."""

    images: Path
    meanings: list[str]
    features: dict[str, np.ndarray]
    reference: dict[str, np.ndarray]
    extractor: str


def _frechet(inputs: Inputs) -> Score:
    features = inputs.features[inputs.extractor]
    return Score(frechet_distance(features, inputs.reference[inputs.extractor]), len(features))


def _clip_score(inputs: Inputs) -> Score:
    return clip_score(inputs.features["judge_image"], inputs.features["judge_text"])


def _clip_score_shuffled(inputs: Inputs) -> Score:
    return clip_score_shuffled(inputs.features["judge_image"], inputs.features["judge_text"], inputs.meanings)


def _attributes(inputs: Inputs) -> dict[str, Score]:
    from evaluation.metrics.attributes import attribute_accuracy

    images, captions = read_images(inputs.images)
    return {metric: Score(*score) for metric, score in attribute_accuracy(images, captions).items()}


def _paired(metric: str) -> Callable[[Inputs], Score]:
    return lambda inputs: mean_score(inputs.features[metric][:, 0])


PAIRED = ("psnr", "ssim", "lpips", "judge_distance")
"""Measured of each enlarged picture with its own ground truth where the features are extracted."""

MEASURES: dict[str, Callable[[Inputs], Score | dict[str, Score]]] = {
    "fd": _frechet,
    "fid": _frechet,
    "clip_score": _clip_score,
    "clip_score_shuffled": _clip_score_shuffled,
    "attributes": _attributes,
    **{metric: _paired(metric) for metric in PAIRED},
}
"""What a protocol may list under ``metrics``; ``attributes`` stands for several metrics, each with its own name."""


def measure(name: str, inputs: Inputs) -> dict[str, Score]:
    """The scores that ``name``, one of MEASURES, stands for, by metric."""
    scores = MEASURES[name](inputs)
    return scores if isinstance(scores, dict) else {name: scores}
