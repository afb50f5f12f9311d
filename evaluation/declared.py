"""What every metric is: its name in tables, which way is better, what it is measured on, what the number of images does
to it, and how its interval comes about. The one place for all of this; it imports nothing heavy.

``evaluation.metrics.MEASURES`` says how the scores of images are measured, evaluation.speed measures speeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gigagan.errors import UserError, nearest

EXTRACTOR, CLIP_IMAGE, CLIP_TEXT = "{extractor}", "{clip}_image", "{clip}_text"
"""Features whose names the protocol completes with its extractor and its CLIP."""


EXTRACTORS: dict[str, str] = {
    "none": "none",
    "judge": "bicubic, antialiased",
    "judge_crop": "none, one crop of the judge's size from each picture",
    "pyramid": "none",
    "inception": "clean-fid's clean (bicubic, antialiased, float)",
    "inception_tensorflow": "bilinear, not antialiased, inside the network (TensorFlow's)",
    "inception_pytorch": "bilinear, not antialiased, before the network (pytorch-fid's)",
    "dinov2": "bicubic, antialiased, to bytes (Pillow's)",
}
"""What a Fréchet distance may rest on, and how each brings pictures to its own size."""

CLIP_RESIZES: dict[str, str] = {
    "pillow": "CLIP's own: bicubic, antialiased, to bytes, then the middle",
    "pillow, after a tensor": "the same of what GigaGAN's evaluation hands over: bytes that were a tensor in between",
    "tensor": "bicubic, not antialiased, of floats (StyleGAN-T's)",
}
"""How pictures come to a CLIP that has a name of gigagan.pretrained; the judge brings them to its own size itself."""


@dataclass(frozen=True)
class Metric:
    """What a metric declares.

    Attributes:
        label: its heading in tables.
        higher_is_better: None: neither direction is better.
        kind: what it is a figure of.
        unit: as shown; "%" is stored as a fraction.
        needs: names of the features of the images that it is measured on; none: the pictures themselves.
        reference: whether it wants the same features of the reference.
        bias: what the number of images does to it.
        interval: how its 95 % interval within one run is made; the spread over training seeds is another.
        over: what that interval is over.
    """

    label: str
    higher_is_better: bool | None
    kind: Literal["quality", "control", "speed", "size"] = "quality"
    unit: str = ""
    needs: tuple[str, ...] = ()
    reference: bool = False
    bias: str = ""
    interval: str = ""
    over: Literal["captions", "images", "repetitions"] = "captions"


_TOO_LARGE = "too large by about 1/N; compares at equal numbers of images only"
_NO_BIAS = "none"
_SMALLER_BALLS = "balls shrink with more images; compares at equal numbers on both sides only"
_JACKKNIFE = "delete-a-block jackknife over images, the reference as it is"
_WILSON = "Wilson's for a share"
_NORMAL = "normal, of a mean"


def _frechet(label: str, features: str) -> Metric:
    return Metric(label, False, "quality", "", (features,), True, _TOO_LARGE, _JACKKNIFE, "images")


def _accuracy(label: str) -> Metric:
    return Metric(label, True, unit="%", bias=_NO_BIAS, interval=_WILSON)


def _paired(label: str, higher_is_better: bool, feature: str, unit: str = "") -> Metric:
    """Measured of each enlarged picture with its own ground truth, where the features are extracted."""
    return Metric(label, higher_is_better, unit=unit, needs=(feature,), bias=_NO_BIAS, interval=_NORMAL)


METRICS: dict[str, Metric] = {
    "fd": _frechet("FD", EXTRACTOR),
    "fid": _frechet("FID", EXTRACTOR),
    "fid_infinity": Metric(
        "FID∞",
        False,
        needs=(EXTRACTOR,),
        reference=True,
        bias="that of the images is extrapolated away, that of the reference stays",
        interval="Student's t for the intercept of the line through FID over 1/N, given the images",
        over="images",
    ),
    "patch_fid": _frechet("patch FID", "inception_patch"),
    "fd_dinov2": _frechet("FD-DINOv2", "dinov2"),
    "kid": Metric(
        "KID",
        False,
        needs=(EXTRACTOR,),
        reference=True,
        bias=_NO_BIAS,
        interval="normal, from the variance between random subsets and their overlap",
        over="images",
    ),
    "cmmd": Metric(
        "CMMD",
        False,
        needs=(CLIP_IMAGE,),
        reference=True,
        bias="too large by about 1/N, which thousands of images make small",
        interval="normal, from the first-order variance of MMD over the images of both sides",
        over="images",
    ),
    "inception_score": Metric(
        "IS",
        True,
        needs=("inception_logits",),
        bias="too small, the more so the fewer images a split has",
        interval="Student's t over splits",
        over="images",
    ),
    "precision": Metric(
        "precision",
        True,
        needs=(EXTRACTOR,),
        reference=True,
        bias=_SMALLER_BALLS,
        interval=f"{_WILSON}, over images, given the reference",
        over="images",
    ),
    "recall": Metric(
        "recall",
        True,
        needs=(EXTRACTOR,),
        reference=True,
        bias=_SMALLER_BALLS,
        interval=f"{_WILSON}, over the reference, given the images",
        over="images",
    ),
    "density": Metric(
        "density",
        True,
        needs=(EXTRACTOR,),
        reference=True,
        bias="none by the images; compares at equal numbers of the reference only",
        interval=f"{_NORMAL} over images, given the reference",
        over="images",
    ),
    "coverage": Metric(
        "coverage",
        True,
        needs=(EXTRACTOR,),
        reference=True,
        bias="rises with the number of images; compares at equal numbers on both sides only",
        interval=f"{_WILSON}, over the reference, given the images",
        over="images",
    ),
    "clip_score": Metric("CLIP score", True, needs=(CLIP_IMAGE, CLIP_TEXT), bias=_NO_BIAS, interval=_NORMAL),
    "clip_score_shuffled": Metric(
        "CLIP score, shuffled", None, "control", needs=(CLIP_IMAGE, CLIP_TEXT), bias=_NO_BIAS, interval=_NORMAL
    ),
    "background_color_accuracy": _accuracy("background colour"),
    "object_color_accuracy": _accuracy("object colour"),
    "shape_accuracy": _accuracy("shape"),
    "size_accuracy": _accuracy("size"),
    "position_accuracy": _accuracy("position"),
    "relation_accuracy": _accuracy("relation"),  # of two objects to each other
    "lpips_diversity": Metric(
        "LPIPS diversity", True, needs=("lpips_diversity",), bias=_NO_BIAS, interval=f"{_NORMAL} over captions"
    ),
    "lpips": _paired("LPIPS", False, "lpips"),
    "judge_distance": _paired("distance to the truth, judge", False, "judge_distance"),
    "psnr": _paired("PSNR", True, "psnr", "dB"),
    "ssim": _paired("SSIM", True, "ssim"),
    "latency_ms": Metric("latency", False, "speed", "ms", over="repetitions"),
    "latency_text_ms": Metric("latency of the text encoder", False, "speed", "ms", over="repetitions"),
    "latency_end_to_end_ms": Metric("latency with text", False, "speed", "ms", over="repetitions"),
    "throughput_images_per_s": Metric("throughput", True, "speed", "images/s", over="repetitions"),
    "peak_memory_gb": Metric("peak memory", False, "speed", "GB", over="repetitions"),
    "params_m": Metric("parameters", None, "size", "M"),
}
"""Every metric, in the order of the tables' columns."""

GROUPS: dict[str, tuple[str, ...]] = {
    "precision_recall": ("precision", "recall"),
    "density_coverage": ("density", "coverage"),
    "attributes": tuple(name for name in METRICS if name.endswith("_accuracy")),
}
"""Metrics that come out of one measurement, under the name that a protocol lists."""

LISTED = (
    *GROUPS,
    *(
        name
        for name, metric in METRICS.items()
        if metric.kind in ("quality", "control") and not any(name in group for group in GROUPS.values())
    ),
)
"""What a protocol may list under ``metrics``."""

PAIRED = ("psnr", "ssim", "lpips", "judge_distance")
"""Measured of each enlarged picture with its own ground truth where the features are extracted."""


OF_INCEPTION = ("fid", "fid_infinity", "kid")
"""Names that are earned by Inception's features alone."""


def check_metrics(names: Iterable[str], extractor: str, clip: str | None) -> None:
    """Raises UserError where metrics, as a protocol lists them, are unknown, want a CLIP where there is none, or would
    be called by a name that their features do not earn."""
    inception = extractor.startswith("inception")
    for name in names:
        wanted = needs(name, extractor, clip)
        if "none" in wanted:
            raise UserError(f"metrics: {name} wants an extractor")
        if clip is None and any("{clip}" in need for need in METRICS[GROUPS.get(name, (name,))[0]].needs):
            raise UserError(f"metrics: {name} wants a CLIP")
        if name in OF_INCEPTION and not inception:
            raise UserError(f"metrics: {name} is a name for Inception's features alone, here are those of {extractor}")
        if name == "fd" and inception:
            raise UserError("metrics: fd of Inception's features is called fid")
        if name == "fd_dinov2" and extractor != "dinov2":
            raise UserError(f"metrics: fd_dinov2 is of DINOv2's features, here are those of {extractor}")
        if "inception_patch" in wanted and extractor != "inception":
            raise UserError("metrics: patch_fid wants the extractor inception")


def needs(name: str, extractor: str | None, clip: str | None) -> tuple[str, ...]:
    """The features of the images that ``name``, as a protocol lists it, is measured on; the protocol's extractor and
    CLIP complete their names. Raises UserError for a name that is none of LISTED."""
    if name not in LISTED:
        raise UserError(f"no score of images is called {name!r}{nearest(name, LISTED)}")
    metric = METRICS[GROUPS.get(name, (name,))[0]]
    return tuple(need.format(extractor=extractor, clip=clip) for need in metric.needs)
