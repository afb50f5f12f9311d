"""Quality against steps of sampling: which runs a line joins, and what is not assumed of it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
from matplotlib.text import Text

from evaluation import plots, steps
from evaluation.looks import Looks
from evaluation.series import runs, series_of
from evaluation.summary import Summary, in_order, read_variants, summarise
from tests.evaluation.conftest import KINDS, RIVALS, STEPS, diffusion

KNOWN = read_variants(str(Path(__file__).parents[2] / "ablations/variants.yaml"))
SERIES = {"Diffusion, guided": "teacher", "Guided-distilled": "distilled", "Consistency-distilled": "consistency"}


def of(rows: list[dict]) -> Summary:
    return summarise(rows, rows[0]["suite"], KNOWN)


def joined(axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line that joins some, by its colour."""
    lines = [line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_marker() not in ("None", "", None)]
    return {line.get_color(): [*zip(*line.get_data(), strict=True)] for line in lines}


# --------------------------------------------------------------------------------------------------------- the series


def test_rivals_that_differ_in_their_steps_alone_are_a_series(make_rivals) -> None:
    found = {series.label: series.lines for series in series_of(of(make_rivals()).lines)}
    assert {label: [line.variant.name for line in lines] for label, lines in found.items()} == {
        label: [diffusion(kind, k) for k in reversed(STEPS)] for label, kind in SERIES.items()
    }
    assert [line.steps for line in found["Diffusion, guided"]] == [1, 2, 4, 8, 16]


def test_variants_of_gigagan_single_rivals_and_runs_that_do_not_say_their_steps_are_in_no_series(make_rivals) -> None:
    rows = [
        row for row in make_rivals() if row["variant"] not in ("diffusion_consistency_1", "diffusion_consistency_4")
    ]
    for row in rows:
        if row["variant"].startswith("diffusion_consistency"):
            row |= {"family": "gigagan"}  # as a variant might be called: laion_64, laion_256
        elif row["variant"].startswith("diffusion_distilled"):
            row |= {"family": row["variant"]}  # each alone in its family
    assert [series.label for series in series_of(of(rows).lines)] == ["Diffusion, guided"]
    for row in rows:
        if row["variant"] != "diffusion_teacher_4":
            row.pop("steps", None)
    assert series_of(of(rows).lines) == []


def test_a_series_stands_together_in_tables_the_most_steps_first() -> None:
    names = [variant.name for variant in in_order(RIVALS, KNOWN)]
    assert names == ["gigagan", "stylegan2", "stylegan_t", *(diffusion(kind, k) for kind in KINDS for k in STEPS)]


def test_a_series_has_a_colour_that_no_other_has_and_a_marker_for_each_number_of_steps() -> None:
    looks = Looks(KNOWN, [*RIVALS, "somebody"])
    others = {looks.color(name) for name in (*KNOWN, "real", "somebody") if not name.startswith("diffusion")}
    colors = [{looks.color(diffusion(kind, k)) for k in STEPS} for kind in KINDS]
    assert [len(one) for one in colors] == [1, 1, 1]
    assert len(set.union(*colors)) == 3
    assert not set.union(*colors) & others
    for k in STEPS[1:]:  # the teacher's own number is not in its name
        assert len({looks.marker(diffusion(kind, k)) for kind in KINDS}) == 1
    assert len({looks.marker(name) for name in RIVALS if name.startswith("diffusion_teacher")}) == 5
    without = Looks({name: variant for name, variant in KNOWN.items() if not variant.family}, ())
    for name in ("gigagan", "no_ms_io", "no_matching_no_clip_loss"):  # rivals move no variant's look
        assert without.point(name) == looks.point(name)


# --------------------------------------------------------------------------------------------------------- the figure


def test_a_line_joins_a_series_in_order_of_steps_whatever_its_quality(make_rivals) -> None:
    rows = make_rivals()
    summary, looks = of(rows), Looks(KNOWN, RIVALS)
    figure = steps.quality_vs_steps(summary, KNOWN)
    columns = [*summary.find("fd"), *summary.find("clip_score")]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [column.protocol for column in columns]
    for axes, column in zip(figure.axes, columns, strict=True):
        value = {line.variant.name: line.cells[column].value.value for line in summary.lines if column in line.cells}
        drawn = joined(axes)
        for kind in KINDS:
            points = [(k, value[diffusion(kind, k)]) for k in reversed(STEPS)]
            assert drawn.pop(looks.color(f"diffusion_{kind}_1")) == points
        assert not drawn  # single models are points
        fds = [value[f"diffusion_distilled_{k}"] for k in STEPS]
        assert column.metric != "fd" or fds != sorted(fds) != fds[::-1]  # the best in the middle is drawn there
        assert axes.get_xscale() == "log"
        assert [*axes.get_xticks()] == [1, 2, 4, 8, 16]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *SERIES,
        "GigaGAN",
        "StyleGAN2",
        "StyleGAN-T",
    ]


def test_what_takes_one_step_is_a_point_with_a_guide_across_the_panel(make_rivals) -> None:
    summary, looks = of(make_rivals()), Looks(KNOWN, RIVALS)
    column = summary.find("fd")[0]
    axes = steps.quality_vs_steps(summary, KNOWN).axes[0]
    guides = {line.get_ydata()[0]: line.get_color() for line in axes.lines if line.get_linestyle() == ":"}
    value = {line.variant.name: line.cells[column].value.value for line in summary.lines if column in line.cells}
    assert guides == {value[name]: looks.color(name) for name in ("gigagan", "stylegan2", "stylegan_t")}


def test_intervals_are_drawn_and_said(make_rivals) -> None:
    rows = make_rivals()
    for row in rows:
        if row["metric"] == "fd":
            row |= {"low": row["value"] - 1, "high": row["value"] + 2}
    summary = of(rows)
    figure = steps.quality_vs_steps(summary, KNOWN)
    bars = [bar.lines[2][0].get_segments()[0][:, 1] for bar in figure.axes[0].containers]
    column = summary.find("fd")[0]
    cells = [line.cells[column] for line in summary.lines if line.variant.name in RIVALS]
    ends = {(round(cell.value.low, 6), round(cell.value.high, 6)) for cell in cells}
    assert {(round(low, 6), round(high, 6)) for low, high in bars} == ends
    assert "95 % over the images of one run, not over seeds" in " ".join(figure.get_supxlabel().split())


def test_ablations_are_left_to_other_figures_and_silent_runs_are_named(make_rivals, make_suite) -> None:
    ablated = [row | {"suite": "rivals", "steps": 1} for row in make_suite() if row["variant"] == "no_ms_io"]
    rows = make_rivals() + ablated
    assert {line.variant.name for line in runs(of(rows))} == {*RIVALS}
    for row in rows:
        if row["variant"] in ("gigagan", "stylegan_t"):
            del row["steps"]
    figure = steps.quality_vs_steps(of(rows), KNOWN)
    assert "do not say how many steps they take: GigaGAN, StyleGAN-T." in " ".join(figure.get_supxlabel().split())
    assert "GigaGAN" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_runs_of_one_number_of_steps_are_no_figure_and_diverged_ones_are_left_out(make_rivals, make_suite) -> None:
    gans = [row | {"steps": 1} for row in make_suite()]
    assert steps.quality_vs_steps(summarise(gans, "demo"), {}) is None
    assert steps.quality_vs_steps(summarise(make_suite(), "demo"), {}) is None
    rows = make_rivals()
    for row in rows:
        if row["variant"] == "diffusion_distilled_4" and row["metric"] == "fd":
            row["value"] = math.nan
    axes = steps.quality_vs_steps(of(rows), KNOWN).axes[0]
    assert [x for x, _ in joined(axes)[Looks(KNOWN, ()).color("diffusion_distilled_4")]] == [1, 2, 8, 16]
    figure = steps.quality_vs_steps(of([row | {"value": math.nan} for row in rows]), KNOWN)
    assert len(figure.axes) == 3  # as many panels as the workflow was promised, with nothing in them
    assert not any(joined(axes) for axes in figure.axes)


# ------------------------------------------------------------------------------------- other figures of so many rivals


def test_a_series_is_one_line_of_the_trade_off_with_its_steps_beside_the_points(make_rivals) -> None:
    figure = plots.quality_vs_latency(of(make_rivals()), KNOWN)
    looks = Looks(KNOWN, RIVALS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*SERIES]
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [
        looks.color(f"diffusion_{kind}_1") for kind in SERIES.values()
    ]
    for axes in figure.axes:
        texts = [text for text in axes.texts if text.get_text()]
        assert sorted(text.get_text() for text in texts) == sorted(
            ["GigaGAN", "StyleGAN2", "StyleGAN-T", *(str(k) for k in STEPS for _ in SERIES)]
        )
        boxes = [text.get_window_extent() for text in texts]
        assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))
        for text in texts:
            color = text.get_color()
            assert color == "black" or color in {looks.color(f"diffusion_{kind}_1") for kind in SERIES.values()}
    assert "Numbers: steps of sampling." in " ".join(figure.get_supxlabel().split())


def test_bars_of_what_is_far_apart_are_points_on_a_logarithmic_axis(make_rivals, make_suite) -> None:
    summary = of(make_rivals())
    fd, *_, clip_score = plots.bars(summary, KNOWN).axes[:3]
    assert (fd.get_xscale(), clip_score.get_xscale()) == ("log", "linear")
    drawn = {round(box.lines[0].get_xdata()[0], 6) for box in fd.containers}
    column = summary.find("fd")[0]
    assert drawn == {round(line.cells[column].value.value, 6) for line in summary.lines if not line.is_reference}
    assert not fd.patches
    assert len(clip_score.patches) == len(RIVALS)
    assert {axes.get_xscale() for axes in plots.bars(summarise(make_suite(), "demo"), {}).axes} == {"linear"}


def test_what_no_row_of_pictures_has_room_for_goes_on_below_with_the_captions_again() -> None:
    names = ["real", *RIVALS]
    images = {name: np.full((2, 16, 16, 3), place, np.uint8) for place, name in enumerate(names)}
    figure = plots.grid(["one", "two"], images, KNOWN, 0)
    assert [text.get_text() for text in figure.texts[:4]] == ["one", "two"] * 2
    where = {int(axes.images[0].get_array()[0, 0, 0]): axes.get_position() for axes in figure.axes[::2]}
    rows = {round(where[names.index(variant.name)].y0, 6) for variant in in_order(names, KNOWN)[:10]}
    below = {round(where[names.index(variant.name)].y0, 6) for variant in in_order(names, KNOWN)[10:]}
    assert len(figure.axes) == 2 * (len(RIVALS) + 1)
    assert len(rows) == len(below) == 1
    assert max(below) < min(rows)
    few = plots.grid(["one", "two"], {name: images[name] for name in names[:12]}, KNOWN, 0)
    assert len({round(axes.get_position().y0, 6) for axes in few.axes}) == 2


def test_no_text_of_eighteen_rivals_overlaps_another(make_rivals, monkeypatch) -> None:
    drawn: list = []
    draw = Text.draw

    def recorded(self: Text, renderer) -> None:
        if self.get_visible() and self.get_text():
            drawn.append((self.get_text(), self.get_window_extent(renderer).padded(-1)))
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", recorded)
    summary = of(make_rivals(3))
    figures = plots.draw(summary, KNOWN, None, None)
    for name in ("bars", "fd_vs_clip", "quality_vs_latency", "quality_vs_steps"):
        drawn.clear()
        figures[name].draw_without_rendering()
        for (text, box), (other, theirs) in itertools.combinations(drawn, 2):
            assert not box.overlaps(theirs), f"{name}: {text!r} over {other!r}"
