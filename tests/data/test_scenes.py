"""The built-in data set: truth, layout, wordings, and that every item is a function of its index alone."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from gigagan.data.scenes import (
    COLORS,
    MARGIN,
    RELATIONS,
    ROW,
    TRIANGLE_HEIGHT,
    WIDTHS,
    Object,
    Scene,
    Scenes,
    Statement,
    coverage,
    flippable,
    meaning,
    parse,
    render,
)
from gigagan.errors import UserError

MIXED = (0.4, 0.3, 0.3)


def scenes(n: int = 400, resolution: int = 16, split: str = "test") -> list[Scene]:
    data = Scenes(resolution, MIXED, split)
    return [data.scene(i) for i in range(n)]


def test_an_item_depends_on_its_index_alone():
    data, again = Scenes(16, MIXED), Scenes(16, MIXED)
    backwards = {i: again[i] for i in reversed(range(20))}
    for i in range(20):
        assert data[i].caption == backwards[i].caption
        np.testing.assert_array_equal(data[i].image, backwards[i].image)
    assert data[2**40 - 1].image.shape == (16, 16, 3)
    assert len(data) == 2**40


def test_the_stream_is_pinned():
    """Records compare over months: a change of the drawing or the wording must be made on purpose."""
    data = Scenes(16, (0.6, 0.4, 0.0))
    assert [data[i].caption for i in range(3)] == [
        "on a green background there is a small purple square",
        "a big white square at the top on green",
        "on a purple background there is a white triangle above a blue square",
    ]
    assert [int(data[i].image.sum()) for i in range(3)] == pytest.approx([60454, 86631, 108359], abs=20)


@pytest.mark.parametrize("index", [-1, 2**40])
def test_an_index_outside_is_an_index_error(index: int):
    with pytest.raises(IndexError, match=str(index)):
        Scenes(16)[index]


def test_splits_and_seeds_are_separate_streams():
    streams = [Scenes(16), Scenes(16, split="test"), Scenes(16, seed=1)]
    boxes = [{data.scene(i).boxes for i in range(300)} for data in streams]
    for a, b in combinations(boxes, 2):
        assert not a & b


def test_objects_lie_inside_and_apart():
    for scene in scenes():
        drawn = [coverage(thing.shape, box, 128) for thing, box in zip(scene.objects, scene.boxes, strict=True)]
        assert sum(drawn).max() <= 1, "two objects overlap"
        for thing, box in zip(scene.objects, scene.boxes, strict=True):
            height = box.width * (TRIANGLE_HEIGHT if thing.shape == "triangle" else 1)
            assert min(box.x, 1 - box.x) - box.width / 2 >= MARGIN / 2
            assert min(box.y, 1 - box.y) - height / 2 >= MARGIN / 2


def test_colours_differ_within_a_scene_and_between_names():
    for scene in scenes():
        assert len({scene.background, *(thing.color for thing in scene.objects)}) == 1 + len(scene.objects)
    for a, b in combinations(COLORS.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) >= 135


def test_relations_and_positions_hold():
    for scene in scenes(1000):
        if scene.relation == ROW:
            assert [box.x for box in scene.boxes] == sorted(box.x for box in scene.boxes)
        elif scene.relation:
            a, b = scene.boxes
            margin = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}
            assert margin[scene.relation] > 0.2
        elif scene.objects[0].position:
            dx, dy = scene.boxes[0].x - 0.5, scene.boxes[0].y - 0.5
            offset = {"left": -dx, "right": dx, "top": -dy, "bottom": dy, "centre": 0.12 - max(abs(dx), abs(dy))}
            assert offset[scene.objects[0].position] > 0.05


def test_every_kind_of_scene_occurs_about_as_often_as_asked():
    kinds = scenes(2000)
    for count, share in enumerate(MIXED, start=1):
        assert np.mean([len(scene.objects) == count for scene in kinds]) == pytest.approx(share, abs=0.04)
    things = [thing for scene in kinds for thing in scene.objects]
    assert {thing.color for thing in things} == set(COLORS)
    assert {thing.shape for thing in things} == set(WIDTHS)
    assert {scene.relation for scene in kinds} == {None, ROW, *RELATIONS}


def test_a_scene_looks_the_same_at_every_resolution():
    for scene in scenes(40):
        fine = render(scene, 64).reshape(16, 4, 16, 4, 3).mean((1, 3))
        assert np.abs(fine - render(scene, 16)).mean() < 2


@pytest.mark.parametrize("shape", WIDTHS)
def test_coverage_adds_up_to_the_area(shape: str):
    box = Scenes(16).scene(0).boxes[0]
    box = replace(box, x=0.51, y=0.48, width=0.5)
    area = {"circle": np.pi / 4, "square": 1.0, "triangle": TRIANGLE_HEIGHT / 2}[shape] * box.width**2
    assert coverage(shape, box, 256).mean() == pytest.approx(area, rel=0.01)
    assert coverage(shape, box, 16).mean() == pytest.approx(area, rel=0.05)


def test_parse_is_the_inverse_of_the_wordings():
    for scene in scenes(1000):
        said = parse(scene.caption)
        assert said.background == scene.background
        assert said.relation in (scene.relation, None)
        assert [(thing.color, thing.shape) for thing in said.objects] == [
            (thing.color, thing.shape) for thing in scene.objects
        ]
        for stated, true in zip(said.objects, scene.objects, strict=True):
            assert stated.size in (true.size, None)
            assert stated.position == true.position


def test_parse_reads_each_part():
    blue, red = Object("square", "blue", "small"), Object("circle", "red", "big")
    assert parse("a small blue square left of a big red circle on white") == Statement("white", (blue, red), "left of")
    top = Object("circle", "red", position="top")
    assert parse("On a green background  there is a red circle at the top") == Statement("green", (top,))


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a photo of a dog",
        "a red circle",
        "a pink circle on green",
        "a red circle beside a blue square on white",
        "a red circle at the top left of a blue square on white",
        "a red circle, a blue square and a white circle on green",
    ],
)
def test_a_foreign_caption_is_a_user_error_that_names_it(caption: str):
    with pytest.raises(UserError, match=re.escape(repr(caption))):
        parse(caption)


@pytest.mark.parametrize(
    ("caption", "other", "same"),
    [
        (
            "a blue square right of a red circle on white",
            "white background with a red circle left of a blue square",
            True,
        ),
        ("a blue square below a red circle on white", "a red circle above a blue square on white", True),
        ("a blue square and a red circle on white", "a red circle and a blue square on a white background", True),
        ("a blue square right of a red circle on white", "a blue square left of a red circle on white", False),
        ("a blue square and a red circle on white", "a blue square left of a red circle on white", False),
        ("a big blue square on white", "a blue square on white", False),
        ("a blue square at the top on white", "a blue square on white", False),
        ("a blue square on white", "a blue square on black", False),
    ],
)
def test_meaning(caption: str, other: str, same: bool):
    assert (meaning(caption) == meaning(other)) is same
    assert meaning(meaning(caption)) == meaning(caption)


def test_a_single_object_is_placed_as_often_as_asked():
    def stated(placed: float) -> float:
        scenes = Scenes(16, (1, 0, 0), placed=placed)
        return sum(parse(scenes.scene(i).caption).objects[0].position is not None for i in range(400)) / 400

    assert stated(0) == 0
    assert stated(1) == 1
    assert abs(stated(0.6) - 0.6) < 0.1


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red circle on green", True),
        ("a red circle at the top on green", True),
        ("a red circle above a blue square on green", True),
        ("a red circle and a blue square on green", True),
        ("a red circle at the left on green", False),
        ("a red circle right of a blue square on green", False),
        ("a red circle, a blue square and a white circle from left to right on green", False),
    ],
)
def test_flippable(caption: str, expected: bool):
    assert flippable(caption) is expected


@pytest.mark.parametrize(("objects", "most"), [((1, 0, 0), 20), ((0, 1, 0), 20), ((0, 0, 1), 28)])
def test_captions_are_short(objects: tuple[float, float, float], most: int):
    """In CLIP's tokens: one for each word and comma (two for "cyan"), and one for either end."""
    data = Scenes(16, objects)
    words = [re.findall(r"\w+|,", data.scene(i).caption) for i in range(1000)]
    assert max(len(said) + said.count("cyan") + 2 for said in words) <= most


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"split": "tset"}, "test"),
        ({"objects": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"resolution": 4}, "resolution 4"),
        ({"placed": 1.5}, "placed=1.5"),
    ],
)
def test_wrong_settings_are_user_errors(settings: dict, word: str):
    with pytest.raises(UserError, match=word):
        Scenes(**{"resolution": 16, **settings})
