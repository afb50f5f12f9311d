"""The reader: right on real scenes, also noisy, soft or off in colour; and not taken in by what is no scene."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from evaluation.metrics.attributes import Reading, Seen, attribute_accuracy, judge, read
from gigagan.data.scenes import COLORS, ROW, Box, Scenes, coverage, parse
from gigagan.errors import UserError

OF_ONE_OBJECT = {f"{name}_accuracy" for name in ("background_color", "object_color", "shape", "size", "position")}
N = 400


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image + rng.normal(0, 4, image.shape)


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image + rng.choice([-25.0, 25.0], 3)


def soft(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(image.astype(float), (0.5, 0.5, 0))


def unlike(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return noise(shift(ndimage.gaussian_filter(image.astype(float), (0.6, 0.6, 0)), rng), rng)


def changed(images: list[np.ndarray], change: Callable[..., np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([change(image, rng).round().clip(0, 255).astype(np.uint8) for image in images])


@pytest.mark.parametrize("resolution", [16, 32])
@pytest.mark.parametrize(
    ("change", "least"), [(None, 0.99), (noise, 0.98), (shift, 0.98), (soft, 0.98), (unlike, 0.95)]
)
def test_real_scenes_are_read_right(resolution: int, change: Callable[..., np.ndarray] | None, least: float):
    data = Scenes(resolution, (0.6, 0.4, 0.0), split="test")
    items = [data[i] for i in range(N)]
    images = [item.image for item in items]
    scores = attribute_accuracy(
        changed(images, change) if change else np.stack(images), [item.caption for item in items]
    )
    assert set(scores) == OF_ONE_OBJECT | {"relation_accuracy"}
    of_two = {"relation_accuracy": least - 0.03}  # two objects have to be read, and smaller ones
    assert {metric: score.value for metric, score in scores.items() if score.value < of_two.get(metric, least)} == {}


def test_three_objects_are_read_too():
    data = Scenes(32, (0.0, 0.0, 1.0), split="test")
    for i in range(50):
        scene, reading = data.scene(i), read(data[i].image)
        assert {(seen.color, seen.shape) for seen in reading.objects} == {(o.color, o.shape) for o in scene.objects}
        assert judge(reading, parse(scene.caption)) == {
            "background_color_accuracy": True,
            "relation_accuracy": True,
        }


def test_the_centre_is_that_of_the_box():
    data = Scenes(16, (1.0, 0.0, 0.0), split="test")
    for i in range(100):
        box, seen = data.scene(i).boxes[0], read(data[i].image).objects[0]
        assert (seen.x, seen.y) == pytest.approx((box.x, box.y), abs=0.02)


def drawn(mask: np.ndarray, color: tuple[int, int, int] = COLORS["red"], ground: str = "white") -> np.ndarray:
    ground_rgb = np.array(COLORS[ground], float)
    return (ground_rgb + mask[..., None] * (np.array(color) - ground_rgb)).round().astype(np.uint8)


@pytest.mark.parametrize("resolution", [16, 32])
class TestNotTakenIn:
    def test_by_noise(self, resolution: int):
        rng = np.random.default_rng(0)
        for _ in range(50):
            assert read(rng.integers(0, 256, (resolution, resolution, 3), np.uint8)) == Reading(None)

    def test_by_blends_of_two_scenes(self, resolution: int):
        data = Scenes(resolution, (1.0, 0.0, 0.0), split="test")
        verdicts = []
        for i in range(100):
            blend = (data[i].image.astype(float) + data[i + 1].image) / 2
            verdicts.append(judge(read(blend.astype(np.uint8)), parse(data[i].caption)))
        assert np.mean([verdict["background_color_accuracy"] for verdict in verdicts]) < 0.3
        assert np.mean([verdict["shape_accuracy"] for verdict in verdicts]) < 0.05

    def test_by_a_grey_square(self, resolution: int):
        image = drawn(coverage("square", Box(0.5, 0.5, 0.5), resolution), (128, 128, 128))
        assert read(image) == Reading("white")

    def test_by_an_empty_picture(self, resolution: int):
        assert read(drawn(np.zeros((resolution, resolution)))) == Reading("white")

    def test_by_a_speckled_background(self, resolution: int):
        data, rng = Scenes(resolution, (1.0, 0.0, 0.0), split="test"), np.random.default_rng(0)
        for i in range(50):
            image = data[i].image.copy()
            specks = rng.random((resolution, resolution)) < 0.15
            image[specks] = rng.integers(0, 256, (specks.sum(), 3))
            assert read(image).objects == ()

    @pytest.mark.parametrize("area", [0.1, 0.24])
    def test_by_a_shape_that_is_none_of_the_three(self, resolution: int, area: float):
        fine = 4 * resolution
        y, x = (np.mgrid[:fine, :fine] + 0.5) / fine - 0.5
        for angle in np.linspace(0, np.pi, 8, endpoint=False):
            u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            others = {
                "ellipse": (u / 1.25) ** 2 + (v * 1.25) ** 2,
                "bar": np.maximum(np.abs(u) / 1.6, np.abs(v) * 1.6),
                "corner": np.where((u > 0) & (v > 0), 1.0, np.maximum(np.abs(u), np.abs(v))),
            }
            for name, field in others.items():
                mask = (field < np.quantile(field, area)).reshape(resolution, 4, resolution, 4).mean((1, 3))
                assert {seen.shape for seen in read(drawn(mask)).objects} <= {None}, name

    def test_by_a_triangle_on_its_head(self, resolution: int):
        mask = coverage("triangle", Box(0.5, 0.5, 0.5), resolution)
        assert read(drawn(mask)).objects[0].shape == "triangle"
        assert read(drawn(mask[::-1])).objects[0].shape is None

    def test_by_an_object_in_two_colours(self, resolution: int):
        image = drawn(coverage("circle", Box(0.5, 0.5, 0.56), resolution))
        half = drawn(coverage("circle", Box(0.5, 0.5, 0.56), resolution), COLORS["blue"])
        image[: resolution // 2] = half[: resolution // 2]
        verdict = judge(read(image), parse("a big red circle in the centre on white"))
        assert verdict == {metric: metric == "background_color_accuracy" for metric in OF_ONE_OBJECT}


ROUND_RED = Seen("red", "circle", "big", 0.3, 0.5)
SQUARE_BLUE = Seen("blue", "square", "small", 0.75, 0.55)


@pytest.mark.parametrize(
    ("objects", "caption", "expected"),
    [
        ((ROUND_RED,), "a red circle on white", {"object_color": True, "shape": True}),
        ((ROUND_RED,), "a big blue square on white", {"object_color": False, "shape": False, "size": True}),
        ((ROUND_RED,), "a red circle at the left on white", {"object_color": True, "shape": True, "position": True}),
        ((ROUND_RED,), "a red circle in the centre on white", {"object_color": True, "shape": True, "position": False}),
        ((), "a big red circle on white", {"object_color": False, "shape": False, "size": False}),
        ((ROUND_RED, SQUARE_BLUE), "a red circle on white", {"object_color": False, "shape": False}),
        ((ROUND_RED, SQUARE_BLUE), "a red circle left of a blue square on white", {"relation": True}),
        ((SQUARE_BLUE, ROUND_RED), "a blue square right of a red circle on white", {"relation": True}),
        ((ROUND_RED, SQUARE_BLUE), "a red circle right of a blue square on white", {"relation": False}),
        ((ROUND_RED, SQUARE_BLUE), "a red circle above a blue square on white", {"relation": False}),
        ((ROUND_RED, SQUARE_BLUE), "a green circle left of a blue square on white", {"relation": False}),
        ((ROUND_RED,), "a red circle left of a blue square on white", {"relation": False}),
        ((ROUND_RED, SQUARE_BLUE), "a red circle and a blue square on white", {}),
        (
            (ROUND_RED, SQUARE_BLUE),
            f"a red circle, a blue square and a black circle {ROW} on white",
            {"relation": False},
        ),
    ],
)
def test_judge(objects: tuple[Seen, ...], caption: str, expected: dict[str, bool]):
    verdict = judge(Reading("white", objects), parse(caption))
    assert verdict == {"background_color_accuracy": True} | {f"{name}_accuracy": v for name, v in expected.items()}


def test_judge_the_background():
    assert judge(Reading("green"), parse("a red circle on white"))["background_color_accuracy"] is False
    assert judge(Reading(None), parse("a red circle on white"))["background_color_accuracy"] is False


def test_accuracies_are_counts_with_wilson_intervals():
    image = drawn(coverage("circle", Box(0.5, 0.5, 0.56), 16))
    captions = ["a red circle on white"] * 6 + ["a blue circle on white"] * 3 + ["a red circle on black"]
    scores = attribute_accuracy(np.stack([image] * 10), captions)
    assert set(scores) == {"background_color_accuracy", "object_color_accuracy", "shape_accuracy"}
    # Wilson (1927) for 7 of 10: the textbook interval.
    assert scores["object_color_accuracy"] == pytest.approx((0.7, 10, 0.3968, 0.8922), abs=1e-4)
    assert scores["shape_accuracy"] == pytest.approx((1.0, 10, 0.7225, 1.0), abs=1e-4)


def test_a_foreign_caption_is_a_user_error():
    with pytest.raises(UserError, match="a photo of a dog"):
        attribute_accuracy(np.zeros((1, 16, 16, 3), np.uint8), ["a photo of a dog"])
