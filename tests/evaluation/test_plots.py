from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from evaluation import plots, plotted
from evaluation.looks import Looks, save
from evaluation.summary import read_variants, summarise
from gigagan import files
from gigagan.archive import write_images
from gigagan.errors import UserError


@pytest.fixture
def command(tmp_path: Path, make_suite, made_up_runs, variants_file) -> list[str]:
    """The command line for a small suite, --out excepted."""
    kept = ("fd", "clip_score", "shape_accuracy", "latency_ms")
    rows = [row for row in make_suite() if row["metric"] in kept]
    few = [
        row | {"variant": "student", "family": "diffusion", "steps": 4} for row in rows if row["variant"] == "gigagan"
    ]
    files.write_jsonl(tmp_path / "metrics.jsonl", [row | {"steps": 1} for row in rows] + few)
    runs = made_up_runs(captions=["$x^$ and $\\frac{$", "<script>alert(1)</script> & a \\"])
    shutil.copytree(runs / "gigagan", runs / "student")
    arguments = ["--suite", "demo", "--records", str(tmp_path / "metrics.jsonl"), "--runs", str(runs)]
    return [*arguments, "--variants", variants_file]


def test_figures_are_on_white_escaped_and_the_same_bytes_in_every_process(command, tmp_path: Path, monkeypatch) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    monkeypatch.setattr("sys.argv", ["plots", *command, "--out", str(once)])
    plots.main()
    module = [sys.executable, "-m", "evaluation.plots", *command, "--out", str(again)]
    subprocess.run(module, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    names = {f"{n}.{s}" for n in plots.NAMES for s in ("png", "svg")}
    assert {p.name for p in once.iterdir()} == names
    for name in names:
        assert (once / name).read_bytes() == (again / name).read_bytes(), name
    for png in once.glob("*.png"):
        image = np.asarray(Image.open(png).convert("RGBA"))
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (border == 255).all(), f"{png.name}: something reaches the edge, or the background is not white"
    assert "<script" not in (once / "grid.svg").read_text()


ODD = [
    "a \x1b[31mred\0 dog\x07 \ufffe",
    "\U0001f436 \U0001f468\u200d\U0001f469\u200d\U0001f466 \U0001fae8",
    "שלום עולם",
    "<b>&amp; ]]> --> <!-- \"x\" 'y'</b> --",
    "x" * 500,
    "W" * 500,
    "犬の写真" * 40,
    "%s {0} \\frac $x$",
    "-",
]


@pytest.mark.filterwarnings("ignore:Glyph .* missing")
def test_odd_captions_give_a_grid_that_is_xml_and_stay_beside_the_pictures(tmp_path: Path) -> None:
    figure = plots.grid(ODD, {"real": np.zeros((len(ODD), 16, 16, 3), np.uint8)}, {}, 0)
    save(figure, tmp_path, "grid")
    written = ElementTree.parse(
        tmp_path / "grid.svg", ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    )
    assert "%s {0} \\frac $x$" in "".join(written.getroot().itertext())
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for text in figure.texts[: len(ODD)]:
        assert not any(text.get_window_extent().overlaps(picture) for picture in pictures), text.get_text()


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_text_overlaps_another(make_suite, made_up_runs, variants_file, monkeypatch, seeds: int) -> None:
    drawn: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def recorded(self: Text, renderer) -> None:
        if self.get_visible() and self.get_text():
            drawn.append((self.get_text(), self.get_window_extent(renderer).padded(-1)))
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", recorded)
    known, rows, runs = (
        read_variants(variants_file),
        make_suite(seeds),
        made_up_runs(seeds, ["a long caption " * 20] * 3),
    )
    summary = summarise(rows, "demo", known)
    captions, images, seed = plotted.read_grid(runs, rows, 8)
    for figure in (
        plots.bars(summary, known),
        plots.fd_vs_clip(summary, known),
        plots.leave_one_out(summary, known),
        plots.quality_vs_latency(summary, known),
        plots.training_curves(plotted.read_progress(runs, rows), known),
        plots.grid(captions, images, known, seed),
    ):
        assert figure is not None
        drawn.clear()
        figure.draw_without_rendering()
        for (text, box), (other, theirs) in itertools.combinations(drawn, 2):
            assert not box.overlaps(theirs), f"{text!r} over {other!r}"


def test_a_variant_keeps_its_colour_whatever_else_is_drawn(variants_file) -> None:
    known = read_variants(variants_file)
    few, many = Looks(known, ["no_ms_io"]), Looks(known, [*known, "diffusion_teacher", "real"])
    assert few.color("no_ms_io") == many.color("no_ms_io")
    assert len({many.color(name) for name in (*known, "diffusion_teacher", "real")}) == 7


def test_variants_of_one_colour_have_other_markers_and_published_ones_keep_theirs(variants_file) -> None:
    known = read_variants(variants_file)
    names = [f"variant_{i:02}" for i in range(30)]
    looks = Looks(known, names)
    assert len({(looks.color(name), looks.marker(name)) for name in [*known, *names]}) == 35
    assert Looks(known, []).point("tuned") == looks.point("tuned")


def test_training_curves_show_both_scores_of_every_snapshot(made_up_runs, make_suite, variants_file) -> None:
    progress = plotted.read_progress(made_up_runs(), make_suite())
    figure = plots.training_curves(progress, read_variants(variants_file))
    for axes, metric in zip(figure.axes, ("fd", "clip_score"), strict=True):
        drawn = {line.get_label(): [*zip(*line.get_data(), strict=True)] for line in axes.lines}
        assert len(drawn) == 5
        assert drawn["no MS-I/O"] == [(point["kimg"], point[metric]) for point in progress["no_ms_io"][0]]


def bars_of(figure) -> list[float]:
    return [bar.get_width() for bar in figure.axes[0].patches]


def test_one_seed_gives_hollow_differences_and_says_why(make_suite, variants_file) -> None:
    summary = summarise(make_suite(1), "demo", read_variants(variants_file))
    figure = plots.leave_one_out(summary, {})
    column = summary.find("fd")[0]
    hollow = {line.get_xdata()[0] for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"}
    assert hollow == {line.cells[column].difference.value for line in summary.compared}
    assert not bars_of(figure)
    assert "n=1, which cannot be told from chance" in " ".join(figure.get_supxlabel().split())


def test_more_seeds_give_bars_with_paired_intervals_and_mark_what_is_significant(make_suite, variants_file) -> None:
    summary = summarise(make_suite(8), "demo", read_variants(variants_file))
    figure = plots.leave_one_out(summary, {})
    axes, column = figure.axes[0], summary.find("fd")[0]
    differences = [line.cells[column].difference for line in summary.compared]
    assert bars_of(figure) == [difference.value for difference in differences]
    ends = [bar.errorbar.lines[2][0].get_segments()[0][:, 0] for bar in axes.containers if hasattr(bar, "patches")]
    for (low, high), difference in zip(ends, differences, strict=True):
        assert (low, high) == pytest.approx((difference.low, difference.high))
    significant = [line for line in summary.compared if line.cells[column].significant]
    assert 0 < len(significant) == len([text for text in axes.texts if text.get_text() == "*"])
    words = " ".join(figure.get_supxlabel().split())
    assert "means over n=8 seeds" in words
    assert "chance" not in words


def test_without_the_full_model_or_others_nothing_is_compared(make_suite) -> None:
    rows = make_suite()
    for variants in (("gigagan",), ("no_ms_io", "no_attention")):
        kept = [row for row in rows if row["variant"] in (*variants, "real")]
        assert plots.leave_one_out(summarise(kept, "demo"), {}) is None


def test_grid_shows_the_pixels_enlarged_and_unsmoothed(made_up_runs, make_suite) -> None:
    captions, images, seed = plotted.read_grid(made_up_runs(), make_suite(), 2)
    assert captions == ["a red circle on a dark ground", "a blue circle on a dark ground"]
    assert seed == 0
    figure = plots.grid(captions, images, {}, seed)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 2 * 6
    assert shown[0].shape == (160, 160, 3)
    assert (shown[0][::10, ::10] == images["real"][0]).all()


def test_grid_refuses_sets_that_do_not_belong_together(made_up_runs, make_suite) -> None:
    runs, rows = made_up_runs(), make_suite()
    path = runs / "no_ms_io" / "seed0" / "samples.zip"
    words = ["a red circle on a dark ground", "a blue circle on a dark ground", "a green circle on a dark ground"]
    images = np.zeros((3, 16, 16, 3), np.uint8)
    write_images(path, images, words, [7, 8, 9])
    with pytest.raises(UserError, match="other seeds"):
        plotted.read_grid(runs, rows, 3)
    write_images(path, images, ["another", *words[1:]], [0, 1, 2])
    with pytest.raises(UserError, match=r"no_ms_io/seed0/samples\.zip has other captions"):
        plotted.read_grid(runs, rows, 3)
    path.unlink()
    with pytest.raises(UserError, match=r"no_ms_io/seed0/samples\.zip"):
        plotted.read_grid(runs, rows, 3)


def test_figures_show_only_runs_that_have_rows(made_up_runs, make_suite) -> None:
    runs = made_up_runs(seeds=2)
    rows = [row for row in make_suite(2) if row["seed"] == 1 and row["variant"] in ("gigagan", "no_ms_io")]
    _, images, seed = plotted.read_grid(runs, rows, 2)
    assert (set(images), seed) == ({"real", "gigagan", "no_ms_io"}, 1)
    assert {name: set(found) for name, found in plotted.read_progress(runs, rows).items()} == {
        "gigagan": {1},
        "no_ms_io": {1},
    }


def test_progress_tolerates_a_missing_run_but_not_all(made_up_runs, make_suite) -> None:
    runs, rows = made_up_runs(seeds=2), make_suite(2)
    (runs / "no_ms_io" / "seed1" / "progress.jsonl").unlink()
    assert set(plotted.read_progress(runs, rows)["no_ms_io"]) == {0}
    broken = runs / "gigagan" / "seed0" / "progress.jsonl"
    broken.write_text('{"kimg": 10, "clip_score": 0.1}\n')
    with pytest.raises(UserError, match=r"gigagan/seed0/progress\.jsonl: a line is broken"):
        plotted.read_progress(runs, rows)
    for path in runs.glob("*/*/progress.jsonl"):
        path.unlink()
    with pytest.raises(UserError, match="no scored snapshots"):
        plotted.read_progress(runs, rows)


def test_what_hardly_differs_does_not_fill_a_panel(make_row) -> None:
    rows = [
        make_row(variant=variant, metric=metric, value=value * more)
        for variant, more in (("gigagan", 1.0), ("no_ms_io", 1.0001))
        for metric, value in (("fd", 40.0), ("clip_score", 0.9))
    ]
    axes = plots.fd_vs_clip(summarise(rows, "demo"), {}).axes[0]
    low, high = axes.get_xlim()
    assert low < 40 < 40.004 < high
    assert high - low >= 0.25 * low * 0.99
    assert np.ptp(axes.get_ylim()) >= 0.0099


def test_rows_without_fd_or_with_diverged_runs_still_give_figures(make_suite, make_row) -> None:
    assert plots.fd_vs_clip(summarise([make_row(metric="clip_score", value=0.5)], "demo"), {}) is None
    rows = [row | {"value": float("nan")} if row["variant"] == "no_attention" else row for row in make_suite(2)]
    summary = summarise(rows, "demo")
    for draw in (plots.bars, plots.fd_vs_clip, plots.leave_one_out, plots.quality_vs_latency):
        figure = draw(summary, {})
        assert figure is not None
        figure.draw_without_rendering()
