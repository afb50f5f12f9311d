"""FD against CLIP score over truncation: what is scored, and the curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_run import make_run
from PIL import Image

from evaluation import feature_file, truncation
from evaluation.extractors import Judge, extract
from evaluation.metrics.clip_score import clip_score
from evaluation.metrics.frechet import frechet_distance
from evaluation.tradeoffs import truncation_curve
from gigagan.archive import write_images
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.latents import Truncation
from gigagan.sampling import load

pytestmark = pytest.mark.filterwarnings("ignore:Fréchet distance of:UserWarning")

CAPTIONS = [f"a {size} {colour} circle" for size in ("small", "big") for colour in ("red", "green", "blue", "white")]


@pytest.fixture(scope="module")
def options(tiny, clip_folder, tmp_path_factory) -> dict[str, str]:
    """A run, captions and features of pictures to compare with."""
    folder = tmp_path_factory.mktemp("truncation")
    run = make_run(folder / "run", tiny(f"text.clip=local-dir:{clip_folder}"))
    write_images(folder / "real.zip", np.zeros((8, 16, 16, 3), np.uint8), CAPTIONS, range(8))
    judge = Clip.load(str(clip_folder))
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    features = extract([(pictures, CAPTIONS * 5)], [Judge(judge)])
    feature_file.write(folder / "reference.safetensors", features, {"weights": {"judge": judge.sha}})
    reference = str(folder / "reference.safetensors")
    real = str(folder / "real.zip")
    return {"--run": str(run), "--real": real, "--reference-features": reference, "--judge": str(clip_folder)}


def command(monkeypatch, options: dict[str, str], *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["truncation", *sum(options.items(), ()), *map(str, words)])
    truncation.main()


def test_every_psi_is_scored_as_the_sampler_draws_it(options, tmp_path, monkeypatch):
    out = tmp_path / "curve.jsonl"
    command(monkeypatch, options, "--psi", "1,0.5", "--batch", 3, "--out", out, "--figure", tmp_path / "curve.png")
    points = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(p["towards"], p["psi"], p["n_images"]) for p in points] == [
        ("prompt", 1.0, 8),
        ("prompt", 0.5, 8),
        ("overall", 0.5, 8),
    ]
    reference, _ = feature_file.read(Path(options["--reference-features"]))
    sampler, judge = load(options["--run"]), Clip.load(options["--judge"])
    for point, how in zip(points, (Truncation(), Truncation(0.5), Truncation(1, 0.5)), strict=True):
        features = extract([(sampler(CAPTIONS, list(range(8)), how), CAPTIONS)], [Judge(judge)])
        assert point["fd"] == pytest.approx(frechet_distance(features["judge"], reference["judge"]), rel=1e-2)
        expected = clip_score(features["judge_image"], features["judge_text"]).value
        assert point["clip_score"] == pytest.approx(expected, abs=1e-3)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.width > 1000
    assert (tmp_path / "curve.svg").is_file()


def test_a_run_without_a_mean_style_is_scored_towards_its_prompts_alone(options, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "weights.safetensors"):
        (run / name).symlink_to(Path(options["--run"]) / name)
    out = tmp_path / "curve.jsonl"
    command(monkeypatch, {**options, "--run": str(run)}, "--psi", "1,0", "--n", 4, "--out", out)
    points = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(p["towards"], p["psi"], p["n_images"]) for p in points] == [("prompt", 1.0, 4), ("prompt", 0.0, 4)]
    with pytest.raises(UserError, match="global truncation"):
        command(monkeypatch, {**options, "--run": str(run)}, "--towards", "overall", "--out", tmp_path / "no.jsonl")
    assert not (tmp_path / "no.jsonl").exists()


def test_no_truncation_is_the_same_towards_every_mean():
    chosen = truncation.settings([1.0, 0.5, 0.5], ["prompt", "overall"])
    assert chosen == [("prompt", Truncation()), ("prompt", Truncation(0.5)), ("overall", Truncation(1, 0.5))]
    assert truncation.settings([1.0], ["overall"]) == [("overall", Truncation())]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--psi", "1,2"], "truncation 2.0: must be a number from 0"),
        (["--figure", "curve.pdf"], "--figure curve.pdf: must end in .png"),
        (["--real", "nowhere.zip"], "no image set at nowhere.zip"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(options, tmp_path, monkeypatch, words, said):
    out = tmp_path / "new" / "curve.jsonl"
    with pytest.raises(UserError) as error:
        command(monkeypatch, options, "--out", out, *words)
    assert error.value.message.startswith(said)
    assert not out.parent.exists()


def test_another_judge_is_refused(options, tmp_path, monkeypatch):
    features = tmp_path / "reference.safetensors"
    feature_file.write(features, {"judge": np.zeros((4, 2), np.float32)}, {"weights": {"judge": "other"}})
    with pytest.raises(UserError, match="was made with another judge"):
        command(monkeypatch, {**options, "--reference-features": str(features)}, "--out", tmp_path / "x.jsonl")


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1.0])
def test_labels_do_not_overlap_however_near_the_points(spread):
    points = [
        {"towards": towards, "psi": psi, "fd": 20 + spread * k, "clip_score": 0.9 - spread * k / 50, "n_images": 100}
        for towards in ("prompt", "overall")
        for k, psi in enumerate((1.0, 0.9, 0.7, 0.5, 0.3))
    ]
    figure = truncation_curve(points)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) == 5
        assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])
