"""What every metric declares, and what all of them promise: to repeat, whatever the order, and to refuse clearly."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from evaluation.declared import GROUPS, LISTED, METRICS, needs
from evaluation.metrics import MEASURES, PAIRED, Inputs, measure
from gigagan.errors import UserError

N, M, WIDTH = 120, 150, 6
SETTINGS = {"kid": {"size": 40, "subsets": 10}, "fid_infinity": {"smallest": 30, "points": 5}}
MEASURED = [name for name in LISTED if name != "attributes"]  # which reads pictures, and has its own tests
COMPARED = [name for name in MEASURED if METRICS[GROUPS.get(name, (name,))[0]].reference]


@pytest.fixture
def inputs() -> Inputs:
    """Features of every name that a metric needs; ``lpips_diversity`` sees two pictures of each meaning."""
    rng = np.random.default_rng(0)

    def draw(n: int, shift: float) -> dict[str, np.ndarray]:
        found = {}
        for name in MEASURED:
            for need in needs(name, "judge", "judge"):
                width = 1 if need in (*PAIRED, "lpips_diversity") else WIDTH
                found[need] = rng.normal(shift, 1, size=(n, width)).astype(np.float32)
        for name in ("judge_image", "judge_text"):
            found[name] /= np.linalg.norm(found[name], axis=1, keepdims=True)
        return found

    meanings = [f"meaning {i // 2}" for i in range(N)]
    return Inputs(None, meanings, draw(N, 0.3), draw(M, 0.0), "judge", settings=SETTINGS)


def test_every_score_declares_all_and_is_measured() -> None:
    assert set(LISTED) == MEASURES.keys()
    assert {metric for name in LISTED for metric in GROUPS.get(name, (name,))} == {
        name for name, metric in METRICS.items() if metric.kind in ("quality", "control")
    }
    for name, metric in METRICS.items():
        scored = metric.kind in ("quality", "control")
        assert bool(metric.bias) == bool(metric.interval) == scored, name
        assert scored or not (metric.needs or metric.reference), name
    for group in GROUPS.values():
        assert len({(METRICS[name].needs, METRICS[name].reference) for name in group}) == 1


def test_the_issue_s_metrics_are_there() -> None:
    assert METRICS.keys() >= {
        "fd", "fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage", "inception_score",
        "clip_score", "cmmd", "fd_dinov2", "lpips", "lpips_diversity", "psnr", "ssim", "patch_fid",
        "background_color_accuracy", "object_color_accuracy", "shape_accuracy", "size_accuracy", "position_accuracy",
    }  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_every_score_has_its_metrics_an_interval_and_repeats(inputs: Inputs, name: str) -> None:
    scores = measure(name, inputs)
    assert tuple(scores) == GROUPS.get(name, (name,))
    assert measure(name, inputs) == scores
    for score in scores.values():
        assert score.low < score.value < score.high
        assert score.n in (N, M, N // 2)  # images, the reference's, or captions


@pytest.mark.parametrize("name", MEASURED)
def test_no_score_depends_on_the_order_of_files(inputs: Inputs, name: str) -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(N // 2)[:, None] * 2 + rng.permuted([[0, 1]] * (N // 2), axis=1)  # captions stay together
    there = rng.permutation(M)
    moved = dataclasses.replace(
        inputs,
        features={key: value[order.ravel()] for key, value in inputs.features.items()},
        reference={key: value[there] for key, value in inputs.reference.items()},
        meanings=[inputs.meanings[i] for i in order.ravel()],
    )
    for metric, score in measure(name, inputs).items():
        np.testing.assert_allclose(measure(name, moved)[metric], score, rtol=1e-6)


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("of", ["images", "reference"])
def test_features_that_are_not_finite_name_their_row(inputs: Inputs, name: str, of: str) -> None:
    (need,) = needs(name, "judge", "judge")
    (inputs.features if of == "images" else inputs.reference)[need][17, 3] = np.nan
    with pytest.raises(UserError, match=f"row 17 of the features of the {of} holds NaN"):
        measure(name, inputs)


@pytest.mark.parametrize("name", COMPARED)
def test_features_of_another_width_and_single_images_are_refused(inputs: Inputs, name: str) -> None:
    (need,) = needs(name, "judge", "judge")
    other = {need: inputs.reference[need][:, :4]}
    with pytest.raises(UserError, match=rf"got \[{N}, {WIDTH}\] and \[{M}, 4\]"):
        measure(name, dataclasses.replace(inputs, reference=other))
    one = {need: inputs.features[need][:1]}
    with pytest.raises(UserError, match=r"at least \d images on either side: the images are 1"):
        measure(name, dataclasses.replace(inputs, features=one))


@pytest.mark.parametrize("name", MEASURED)
def test_missing_features_are_one_clear_line(inputs: Inputs, name: str) -> None:
    first = needs(name, "judge", "judge")[0]
    with pytest.raises(UserError, match=f"{name} needs the features '{first}' of the images: extract them"):
        measure(name, dataclasses.replace(inputs, features={}))
    if name in COMPARED:
        with pytest.raises(UserError, match=f"{name} needs the features '{first}' of the reference"):
            measure(name, dataclasses.replace(inputs, reference={}))


def test_a_protocol_s_extractor_and_clip_complete_the_names() -> None:
    assert needs("fd", "pyramid", None) == needs("precision_recall", "pyramid", None) == ("pyramid",)
    assert needs("clip_score", None, "vit_b_32") == ("vit_b_32_image", "vit_b_32_text")
    assert needs("fid", "inception_pytorch", "judge") == ("inception_pytorch",)
    assert needs("attributes", "judge", "judge") == ()


def test_settings_reach_the_metric_and_unknown_ones_are_refused(inputs: Inputs) -> None:
    five = dataclasses.replace(inputs, settings={"precision_recall": {"k": 5}})
    assert measure("precision_recall", five)["precision"].value > measure("precision_recall", inputs)["precision"].value
    assert MEASURES["kid"].settings == ["subsets", "size", "seed"]
    assert MEASURES["clip_score"].settings == []
    with pytest.raises(UserError, match=r"kid has no setting 'subset' \(did you mean 'subsets'\?\)"):
        measure("kid", dataclasses.replace(inputs, settings={"kid": {"subset": 3}}))


def test_an_unknown_score_suggests_the_nearest(inputs: Inputs) -> None:
    with pytest.raises(UserError, match=r"no score of images is called 'kidd' \(did you mean 'kid'\?\)"):
        measure("kidd", inputs)
    with pytest.raises(UserError, match="called 'latency_ms'"):
        measure("latency_ms", inputs)


def test_records_know_every_metric_without_anything_heavy() -> None:
    code = "import sys, evaluation.records; print(*{'numpy', 'scipy', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
