"""The paper's ladder and its quality against inference time."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation import paper_figures, published
from evaluation.looks import Looks
from evaluation.paper_figures import ladder, rungs

ROOT = Path(__file__).parents[2]


def values(metric: str) -> list[float]:
    return [entry.numbers[metric].value for entry in published.table("table1").rows]


def test_side_branches_are_no_steps() -> None:
    table = published.table("table1")
    steps, branches = rungs(table)
    names = [entry.method for entry in table.rows]
    assert [(names[step], names[branch]) for step, branch in branches] == [
        ("StyleGAN2", "+ Larger (5.7×)"),
        ("+ Attention", "+ Matching-aware D"),
    ]
    assert sorted([*steps, *(branch for _, branch in branches)]) == [*range(12)]


@pytest.mark.parametrize(("panel", "metric"), [(0, "fid"), (1, "clip_score")])
def test_every_published_value_is_drawn_hollow_and_branches_leave_the_line(panel, metric) -> None:
    figure = ladder([], {})
    main, *branches = figure.axes[panel].lines
    value = values(metric)
    steps, off = rungs(published.table("table1"))
    assert [*main.get_xdata()] == [value[place] for place in steps]
    assert [*main.get_ydata()] == steps
    assert [(*line.get_xdata(), *line.get_ydata()) for line in branches] == [
        (value[step], value[branch], step, branch) for step, branch in off
    ]
    assert {line.get_markerfacecolor() for line in (main, *branches)} == {"white"}
    assert main.get_linestyle() != branches[0].get_linestyle()
    printed = {text.get_text() for text in figure.axes[panel].texts} - {""}
    assert printed == {entry.numbers[metric].printed for entry in published.table("table1").rows}


def test_the_figure_says_what_is_published_and_that_there_are_none_of_ours() -> None:
    figure = ladder([], {})
    words = " ".join(figure.get_supxlabel().split())
    assert "Hollow: as published in Table 1 of GigaGAN (arXiv 2303.05511)" in words
    assert "no row of records is of protocol gigagan-64@1" in words
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["published", "published, side branch"]


def test_rows_of_ours_stand_beside_in_the_colours_of_their_variants(make_row) -> None:
    ours = {"suite": "mine", "protocol": "gigagan-64@1"}
    rows = [
        make_row(variant=variant, metric=metric, value=value, **ours)
        for variant, fid in (("stylegan2", 31.0), ("stylegan2_larger", 35.0), ("tuned", 29.0))
        for metric, value in (("fid", fid), ("clip_score", 0.2))
    ]
    rows.append(make_row(variant="stylegan2", metric="fid", value=99.0, suite="demo"))  # under another protocol
    figure = ladder(rows, {})
    looks, axes = Looks({}, []), figure.axes[0]
    drawn = {box.lines[0].get_xdata()[0]: box.lines[0] for box in axes.containers}
    assert drawn.keys() == {31.0, 35.0, 29.0}
    assert drawn[29.0].get_color() == looks.color("tuned")
    assert drawn[29.0].get_markerfacecolor() != "white"
    assert any([*line.get_xdata()] == [31.0, 29.0] for line in axes.lines)  # a side branch is no step of ours either
    assert "ours, mine" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_published_times_are_said_to_be_published_and_stand_by_table() -> None:
    figure = paper_figures.quality_vs_latency({})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "published, Table 2: FID-30k on COCO 2014",
        "published, Table 3: FID-5k on COCO 2017",
        "published, Table 3: CLIP score on COCO 2017",
    ]
    for axes, name in zip(figure.axes, ("table2", "table3", "table3"), strict=True):
        with_time = [entry.label for entry in published.table(name).rows if entry.numbers["inference_s"]]
        assert sorted(text.get_text() for text in axes.texts if text.get_text()) == sorted(with_time)
        assert {box.lines[0].get_markerfacecolor() for box in axes.containers} == {"white"}
    words = " ".join(figure.get_supxlabel().split())
    assert "none is ours" in words
    assert "machine, batch and what is timed are not known" in words


def tracks(axes) -> dict[tuple[float, ...], list[float]]:
    """Steps and values of every line or point but the guides."""
    lines = [line for line in axes.lines if line.get_linestyle() != ":" and line.get_marker() not in ("None", "", "_")]
    return {(*line.get_xdata(),): [*line.get_ydata()] for line in lines}


def test_published_scores_stand_over_steps_as_they_are_up_and_down() -> None:
    figure = paper_figures.quality_vs_steps([], {})
    fid, clip = figure.axes
    assert tracks(fid) == {(2, 4, 8, 16): [37.3, 26.0, 26.9, 28.8], (1,): [21.1]}
    assert tracks(clip) == {(2, 4, 8, 16): [0.27, 0.3, 0.3, 0.3], (1,): [0.32]}
    assert [line.get_ydata()[0] for line in fid.lines if line.get_linestyle() == ":"] == [21.1]
    assert {line.get_markerfacecolor() for line in fid.lines if line.get_xdata()[0] == 2} == {"white"}
    words = " ".join(figure.get_supxlabel().split())
    assert "no row of records is of protocol gigagan-coco5k@1" in words
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "SD-distilled, published", "GigaGAN, published",
    ]  # fmt: skip


def test_ours_over_steps_share_a_panel_with_published_ones_under_their_protocol_alone(make_row, make_rivals) -> None:
    more = {"suite": "mine", "family": "pipeline", "metric": "fid", "protocol": "gigagan-coco5k@1"}
    rows = [make_row(variant=f"lcm_{k}", steps=k, value=v, **more) for k, v in ((1, 70.0), (2, 24.0), (4, 23.0))]
    rows.append(make_row(variant="sd_turbo", steps=1, value=25.0, **more))
    rivals = make_rivals()
    figure = paper_figures.quality_vs_steps([*rows, *rivals], {})
    fid, _, fd, clip_score = (axes for axes in figure.axes if axes.axison)
    assert tracks(fid)[1, 2, 4] == [70.0, 24.0, 23.0]
    assert {*tracks(fid)} == {(2, 4, 8, 16), (1,), (1, 2, 4)}
    values = {row["variant"]: row["value"] for row in rivals if (row["metric"], row["protocol"]) == ("fd", "scenes@2")}
    teacher = [*(values[f"diffusion_teacher_{k}"] for k in (1, 2, 4, 8)), values["diffusion_teacher"]]
    assert ([1, 2, 4, 8, 16], teacher) in [([*line.get_xdata()], [*line.get_ydata()]) for line in fd.lines]
    assert fd.get_title(loc="left") == clip_score.get_title(loc="left") == "ours, rivals (scenes@2)"
    assert "FID" not in fd.get_ylabel()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"lcm, ours, mine", "sd turbo, ours, mine"} < {*labels}
    assert "lcm 4, ours, mine" not in labels
    assert "Below, suite rivals: small models" in " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("name", paper_figures.FIGURES)
def test_the_command_writes_the_committed_figure(name, tmp_path, monkeypatch) -> None:
    rows = [str(path) for path in sorted((ROOT / "results/records").glob("*.jsonl"))]
    variants = ["--variants", str(ROOT / "ablations/variants.yaml")]
    monkeypatch.setattr("sys.argv", ["paper_figures", name, "--records", *rows, *variants, "--out", str(tmp_path)])
    paper_figures.main()
    made = (tmp_path / f"{name}.png").read_bytes()
    assert made == (ROOT / f"results/gallery/paper_{name}.png").read_bytes()
    assert (tmp_path / f"{name}.svg").is_file()
