"""Quality against latency: what no other model beats, and what may share a panel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from evaluation import tradeoffs
from evaluation.summary import summarise
from evaluation.tradeoffs import Panel, Spot, pareto


@pytest.mark.parametrize(
    ("points", "higher", "best"),
    [
        ([], False, []),
        ([(1, 5)], False, [0]),
        ([(1, 5), (2, 4), (3, 6)], False, [0, 1]),  # more steps may be worse
        ([(1, 5), (2, 4), (3, 6)], True, [0, 2]),
        ([(2, 4), (1, 5), (2, 3)], False, [1, 2]),  # as quick, but worse: beaten
        ([(1, 5), (2, 5)], False, [0]),  # as good, but slower: beaten
        ([(1, 5), (1, 5), (2, 5)], True, [0, 1]),  # alike in both: neither beats the other
        ([(3, 1), (2, 2), (1, 3)], False, [2, 1, 0]),
    ],
)
def test_the_pareto_set_is_what_no_other_point_beats(points, higher, best) -> None:
    assert pareto(points, higher) == best


@pytest.mark.parametrize("higher", [False, True])
def test_the_pareto_set_agrees_with_its_definition(higher) -> None:
    rng = np.random.default_rng(0)
    sign = -1 if higher else 1
    for _ in range(50):
        points = [(float(x), float(y)) for x, y in rng.integers(0, 6, (12, 2))]
        best = set(pareto(points, higher))
        for i, (x, y) in enumerate(points):
            beaten = any((a < x and sign * b <= sign * y) or (a <= x and sign * b < sign * y) for a, b in points)
            assert (i in best) is not beaten


def test_the_line_goes_in_steps_to_the_slowest_model() -> None:
    spots = [Spot(at, "", {}) for at in ((1.0, 9.0), (2.0, 4.0), (3.0, 6.0))]
    assert Panel("", "", "", False, spots).line() == [(1, 9), (2, 9), (2, 4), (3, 4)]
    assert Panel("", "", "", True, spots).line() == [(1, 9), (3, 9)]
    assert Panel("", "", "", True, []).line() == []


def spread(rows: list[dict], device: str = "Some CPU", faster: float = 1.0) -> list[dict]:
    """With another latency for each variant."""
    names = sorted({row["variant"] for row in rows})
    speeds = [row for row in rows if row["metric"] == "latency_ms"]
    return [
        row | {"value": (2 + names.index(row["variant"])) / faster, "device": device}
        for row in speeds
    ]  # fmt: skip


def of_device(figure, device: str) -> list[set[float]]:
    """Latencies that each panel of a device's row shows."""
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes if device in axes.get_title(loc="left")}
    panels = [axes for axes in figure.axes if round(axes.get_position().y0, 3) in rows]
    return [{round(box.lines[0].get_xdata()[0], 6) for box in axes.containers} for axes in panels]


def test_times_of_two_devices_never_share_a_panel(make_suite) -> None:
    rows = make_suite()
    others = [row for row in rows if row["metric"] != "latency_ms"]
    here, there = spread(rows), spread(rows, "Some GPU", 10)
    figure = tradeoffs.quality_vs_latency(summarise([*others, *here, *there], "demo"), {})
    assert of_device(figure, "Some CPU") == [{row["value"] for row in here}] * 3  # two FDs and the CLIP score
    assert of_device(figure, "Some GPU") == [{row["value"] for row in there}] * 3
    assert len(figure.axes) == 6


def test_a_latency_stands_beside_scores_of_the_pictures_that_it_buys(make_suite) -> None:
    def sized(rows: list[dict], side: int) -> list[dict]:
        return [row | {"resolution": side} for row in rows]

    rows = make_suite()
    scores = [row for row in rows if row["metric"] != "latency_ms"]
    small = [row for row in scores if row["protocol"] != "scenes-blind@1"]
    large = [row for row in scores if row["protocol"] == "scenes-blind@1"]  # as if of enlarged pictures
    both = [*sized(spread(rows), 16), *sized(spread(rows, faster=0.5), 32)]
    figure = tradeoffs.quality_vs_latency(summarise([*sized(small, 16), *sized(large, 32), *both], "demo"), {})
    panels = [axes for axes in figure.axes if axes.get_ylabel()]
    assert len(panels) == 3  # FD and CLIP score of the small ones, FD of the large ones; not six
    mixed = [*sized(small, 16), *sized(spread(rows), 32)]
    assert tradeoffs.quality_vs_latency(summarise(mixed, "demo"), {}) is None


def test_long_names_of_protocols_stay_in_their_panels(make_suite) -> None:
    long = "fixture-random-weights-enlarged@1"
    rows = [row | {"protocol": long} if row["protocol"] == "scenes@2" else row for row in make_suite()]
    figure = tradeoffs.quality_vs_latency(summarise(rows, "demo"), {})
    panels = [axes for axes in figure.axes if long in axes.get_ylabel()]
    assert panels
    figure.draw_without_rendering()
    for axes in panels:
        box, panel = axes.yaxis.label.get_window_extent(), axes.bbox
        assert panel.y0 - 1 <= box.y0
        assert box.y1 <= panel.y1 + 1


def test_one_variant_alone_is_no_trade_off_and_diverged_ones_are_left_out(make_suite) -> None:
    rows = [row for row in make_suite() if row["variant"] in ("gigagan", "no_ms_io", "real")]
    alone = [row for row in rows if row["variant"] != "no_ms_io"]
    assert tradeoffs.quality_vs_latency(summarise(alone, "demo"), {}) is None
    for diverged in (("no_ms_io",), ("no_ms_io", "gigagan")):
        of = [
            row | {"value": math.nan} if row["variant"] in diverged and row["metric"] == "fd" else row for row in rows
        ]
        figure = tradeoffs.quality_vs_latency(summarise(of, "demo"), {})
        assert [len(axes.containers) for axes in figure.axes] == [2 - len(diverged)] * 2 + [2]


def test_labels_do_not_overlap_however_near_the_points(make_suite) -> None:
    figure = tradeoffs.quality_vs_latency(summarise(make_suite(), "demo"), {})  # all of one latency
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) == 5
        assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


@pytest.mark.parametrize(("seeds", "said"), [(1, "cannot be told from chance"), (3, "n=3 seeds each")])
def test_the_number_of_seeds_is_said(make_suite, seeds, said) -> None:
    figure = tradeoffs.quality_vs_latency(summarise(make_suite(seeds), "demo"), {})
    assert said in " ".join(figure.get_supxlabel().split())
