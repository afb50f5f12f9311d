"""Edits: what their pictures are, which prompts show them, and the sheets they are drawn on."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from made_run import CLASSES, NOTHING, make_run
from PIL import Image

from gigagan import edit, sheet
from gigagan.archive import write_images
from gigagan.errors import UserError
from gigagan.latents import Truncation
from gigagan.sampling import GeneratorSampler, load

CAPTIONS = ["a red circle", "a blue circle", "a red square on white", "a blue square on white"]


@pytest.fixture(scope="module")
def folder(tiny, clip_folder, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", tiny(f"text.clip=local-dir:{clip_folder}"))


@pytest.fixture(scope="module")
def sampler(folder) -> GeneratorSampler:
    return load(folder)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """The same but for the rounding of other batches."""
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


# ------------------------------------------------------------------------------------------------------------- edits


def test_truncated_pictures_converge_to_one_a_prompt(sampler):
    images = edit.truncated(sampler, [CAPTIONS[0]] * 3, [0, 1, 2], [1.0, 0.5, 0.0])
    assert images.shape == (3, 3, 16, 16, 3)
    assert near(images[0, 0], sampler([CAPTIONS[0]], [0])[0])
    assert near(images[0, 2], images[1, 2])
    assert near(images[0, 2], images[2, 2])
    assert not near(images[0, 0], images[1, 0])
    everywhere = edit.truncated(sampler, CAPTIONS[:2], [0, 1], [0.0], "overall")
    style = sampler.style(sampler.draw([0])[0], sampler.text(CAPTIONS[:1]), Truncation(1, 0))
    assert near(everywhere[0, 0], sampler.synthesise(style, sampler.draw([0])[1])[0])


@pytest.mark.parametrize("space", ["z", "w"])
def test_a_path_begins_and_ends_with_its_stops(sampler, space):
    images = edit.along(sampler, [CAPTIONS[0], CAPTIONS[2]], [3, 4], 5, space)
    assert images.shape == (5, 16, 16, 3)
    assert near(images[0], sampler([CAPTIONS[0]], [3])[0])
    style = sampler.style(sampler.draw([4])[0], sampler.text([CAPTIONS[2]]))
    assert near(images[-1], sampler.synthesise(style, sampler.draw([3])[1])[0])  # the first one's noise throughout
    steps = np.abs(np.diff(images.astype(int), axis=0)).mean((1, 2, 3))
    assert steps.max() < np.abs(images[0].astype(int) - images[-1]).mean()  # nowhere a jump
    assert not np.array_equal(edit.along(sampler, CAPTIONS[:2], [3, 4], 5, space, Truncation(0.2)), images)


def test_the_corners_of_a_grid_are_its_prompts(sampler):
    images = edit.between_corners(sampler, CAPTIONS, 3, 5, 9)
    assert images.shape == (3, 5, 16, 16, 3)
    for caption, corner in zip(CAPTIONS, (images[0, 0], images[0, -1], images[-1, 0], images[-1, -1]), strict=True):
        assert near(corner, sampler([caption], [9])[0])
    with pytest.raises(UserError, match="needs 4 prompts, not 3"):
        edit.between_corners(sampler, CAPTIONS[:3], 3, 5, 9)


def test_a_mix_shows_its_sources_and_every_pair(sampler):
    coarse, fine = [(CAPTIONS[0], 1), (CAPTIONS[0], 2)], [(CAPTIONS[1], 3), (CAPTIONS[2], 1), (CAPTIONS[0], 2)]
    images = edit.mixed(sampler, coarse, fine, 1)
    assert images.shape == (3, 4, 16, 16, 3)
    assert (images[0, 0] == 255).all()
    for row, (caption, seed) in enumerate(coarse, 1):
        assert near(images[row, 0], sampler([caption], [seed])[0])
    for column, (caption, seed) in enumerate(fine, 1):
        assert near(images[0, column], sampler([caption], [seed])[0])
    assert near(images[2, 3], images[2, 0])  # mixed with itself
    assert not near(images[1, 1], images[1, 0])
    assert not near(images[1, 1], images[0, 1])
    with pytest.raises(UserError, match="layer 3: must be from 1 to 2"):
        edit.mixed(sampler, coarse, fine, 3)


def test_a_sum_of_styles_begins_at_a_and_can_reach_c(sampler):
    images = edit.calculated(sampler, (CAPTIONS[0], CAPTIONS[0], CAPTIONS[1]), [0.0, 1.0], [4, 5])
    assert images.shape == (2, 2, 16, 16, 3)
    assert near(images[0], sampler([CAPTIONS[0]] * 2, [4, 5]))
    (z, noise), (a, c) = sampler.draw([4, 5]), (sampler.text([caption] * 2) for caption in CAPTIONS[:2])
    expected = sampler.style(z, a)._replace(w=sampler.style(z, c).w)  # A - A + C, with the words of A
    assert near(images[1], sampler.synthesise(expected, noise))


# ----------------------------------------------------------------------------------------------------------- prompts


def test_prompts_are_suggested_that_differ_in_one_word():
    captions = [
        "two dogs in the snow near a very big old tree",
        "a red ball on wood",
        "a blue ball on wood",
        "a green ball on wood",
        "a red box on wood",
        "a  red hat on wood ",
        "a cat",
    ]
    found = edit.suggest(captions)
    assert found.plain == "a cat"
    first, right, below, across = (caption.split() for caption in found.corners)
    changed = [i for i in range(5) if first[i] != right[i]]
    assert len(changed) == 1
    assert [i for i in range(5) if below[i] != across[i]] == changed
    assert first[changed[0]] == below[changed[0]]
    assert len(set(map(tuple, (first, right, below, across)))) == 4
    assert {"a blue ball on wood", "a green ball on wood"} <= {*found.fine, *found.coarse}


@pytest.mark.parametrize(
    "captions", [["a dog"], ["a dog", "two cats at home"], [f"thing {k} {k} of it" for k in range(20)]]
)
def test_prompts_are_suggested_for_any_captions(captions):
    found = edit.suggest(captions)
    assert len(found.corners) == 4
    assert found.plain in captions
    assert {*found.corners, *found.coarse, *found.fine} <= {*captions}
    assert found.coarse
    assert found.fine


# ---------------------------------------------------------------------------------------------------------- commands


def command(monkeypatch, *words) -> None:
    monkeypatch.setattr("sys.argv", ["edit", *map(str, words)])
    edit.main()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "real.zip"
    captions = [*CAPTIONS, "a $x^2$ & <b> \\frac 中 " + "very " * 60 + "long" * 40, "a green circle"]
    write_images(path, np.zeros((6, 16, 16, 3), np.uint8), captions, range(6))
    return path


def test_all_figures_are_drawn_twice_the_same(folder, archive, tmp_path, monkeypatch):
    names = ["truncation", "interpolate", "prompts", "styles", "mix", "arithmetic", "truncation_overall"]
    for out in ("one", "two"):
        command(monkeypatch, "all", "--run", folder, "--prompts", archive, "--out", tmp_path / out)
        assert sorted(p.name for p in (tmp_path / out).iterdir()) == sorted(
            f"{n}.{s}" for n in names for s in ("png", "svg")
        )
    for name in names:
        with Image.open(tmp_path / "one" / f"{name}.png") as image:
            assert min(image.size) > 300
        for suffix in ("png", "svg"):
            one, two = ((tmp_path / out / f"{name}.{suffix}").read_bytes() for out in ("one", "two"))
            assert one == two


@pytest.mark.parametrize(
    "words",
    [
        ["truncation", "--caption", "a $dog", "a cat", "--seeds", "0,2", "--psi", "1,0.5", "--towards", "overall"],
        ["interpolate", "--caption", "a dog", "--seeds", "0-2", "--steps", "3", "--space", "w"],
        ["prompts", "--caption", *CAPTIONS, "--rows", "2", "--columns", "2", "--truncation", "0.5"],
        ["styles", "--caption", "a dog", "--coarse", "0", "--fine", "1-2", "--layer", "2"],
        ["mix", "--coarse", "a dog", "--fine", "word " * 90, "a cat", "--layer", "1", "--global-truncation", "0.5"],
        ["arithmetic", "--caption", "a dog", "--minus", "a cat", "--plus", "a cow", "--strengths=-1,0,1"],
    ],
    ids=lambda words: words[0],
)
def test_every_edit_takes_its_prompts_from_the_command_line(folder, tmp_path, monkeypatch, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command(monkeypatch, *words, "--run", folder, "--out", tmp_path / "new" / "figure.png")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["figure.png", "figure.svg"]


def test_edits_of_classes_and_of_nothing(tiny, tmp_path, monkeypatch):
    classes = make_run(tmp_path / "classes", tiny(*CLASSES), ["cat", "dog", "cow"])
    command(monkeypatch, "mix", "--coarse", "cat", "--fine", "2", "dog", "--run", classes, "--out", tmp_path / "m.png")
    command(monkeypatch, "all", "--run", make_run(tmp_path / "none", tiny(*NOTHING)), "--out", tmp_path / "all")
    names = {path.stem for path in (tmp_path / "all").iterdir()}
    assert names == {"truncation", "interpolate", "styles"}


@pytest.mark.parametrize("names", [["grey fox", "red fox", "red wolf"], []])
def test_classes_stand_in_for_prompts_that_are_not_given(tiny, tmp_path, monkeypatch, names):
    folder = make_run(tmp_path / "classes", tiny(*CLASSES), names)
    command(monkeypatch, "all", "--run", folder, "--out", tmp_path / "all")
    assert {path.stem for path in (tmp_path / "all").iterdir()} == {
        *("truncation", "truncation_overall", "interpolate", "prompts", "styles", "mix", "arithmetic")
    }
    known = edit.Makers(load(folder), None).known
    assert known.corners == [*(names or ["0", "1", "2"]), (names or ["0"])[0]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["styles", "--caption", "a", "--layer", "3"], "layer 3: must be from 1 to 2: levels below it are coarse"),
        (["styles", "--caption", "a", "--layer", "0"], "layer 0: must be from 1 to 2"),
        (["mix", "--coarse", "a", "--fine", "b", "--layer", "-1"], "layer -1: must be from 1 to 2"),
        (["styles", "--caption", "a", "b"], "--caption: one prompt, not 2"),
        (["styles"], "say --caption TEXT, or --prompts with an image archive"),
        (["mix", "--coarse", "a"], "say --fine TEXT"),
        (["mix", "--coarse", "a", "--fine", ""], "prompt: is empty"),
        (["prompts", "--caption", "a", "b", "c"], "a grid between corners needs 4 prompts, not 3"),
        (["prompts", "--caption", "a", "b", "c", "x" * 10_000], "prompt 4 of 4: has 10,000 characters"),
        (["truncation", "--caption", "a", "--psi", "1,1.5"], "truncation 1.5: must be a number from 0"),
        (["interpolate", "--caption", "a", "--truncation", "2"], "truncation 2.0: must be a number"),
        (["interpolate", "--caption", "a", "--seeds", "1"], "an interpolation needs two ends"),
        (["all"], "all figures: say --prompts with an image archive"),
        (["all", "--prompts", "nowhere.zip"], "no image set at nowhere.zip"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch, words, said):
    out = tmp_path / "new" / ("all" if words[0] == "all" else "figure.png")
    with pytest.raises(UserError) as error:
        command(monkeypatch, *words, "--run", folder, "--out", out)
    assert error.value.message.startswith(said)
    assert not out.parent.exists()


def test_a_figure_is_a_png(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"must end in \.png"):
        command(monkeypatch, "styles", "--caption", "a", "--run", folder, "--out", tmp_path / "x.jpg")


@pytest.mark.parametrize(("text", "found"), [("3", [3]), ("0-2,7", [0, 1, 2, 7]), ("5, 4", [5, 4])])
def test_seeds_are_lists_and_ranges(text, found):
    assert edit.numbers(text) == found


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--seeds", "3-1", "write numbers from 0 up"),
        ("--seeds", "-1", "write numbers from 0 up"),
        ("--seeds", "a", "write numbers from 0 up"),
        ("--seeds", "0-99999", "write numbers from 0 up"),
        ("--psi", "half", "write numbers, as in"),
        ("--psi", "nan", "must be finite"),
    ],
)
def test_what_is_no_number_names_its_option(tmp_path, monkeypatch, capsys, option, value, said):
    with pytest.raises(SystemExit):
        command(monkeypatch, "truncation", "--run", "x", "--out", "x.png", option, value)
    assert f"argument {option}: " in (line := capsys.readouterr().err.splitlines()[-1])
    assert said in line


# ------------------------------------------------------------------------------------------------------------ sheets


def test_lines_are_no_wider_than_they_may_be():
    text = "a photograph of " + "W" * 60 + " and " + "i" * 30 + " beside $x_1$ " + "word " * 100
    lines = sheet.wrapped(text, 1.5, 9, 6).split("\n")
    assert len(lines) == 6
    assert lines[-1].endswith("…")
    assert all(sheet._inches(line, 9) <= 1.5 for line in lines)
    assert sheet.wrapped("  a\ndog\t", 1.5, 9, 6) == "a dog"
    assert sheet.wrapped("", 1.5, 9, 6) == ""
    whole = sheet.wrapped(text, 1.5, 9, 99)
    assert "".join(whole.split()) == "".join(text.split())


def test_nothing_on_a_sheet_overlaps_or_is_cut():
    long = "a very long caption that goes on and on about a dog, " * 9
    figure = sheet.draw(sheet.Sheet(np.zeros((2, 3, 8, 8, 3), np.uint8), [long, "b"], [long, "", "c"], long))
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes += [image.get_window_extent() for image in figure.axes[0].images]
    assert len(boxes) == 11
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :]), i
        assert box.y0 >= -1
        assert box.y1 <= figure.bbox.height + 1
