"""Pictures enlarged by one run or several: as an object, from files to files; and which are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from upsamplers import CAPTION, CPU, NO_ATTENTION, NO_WORDS, TO_32, network, picture, save, sides

from gigagan import latents, sampling, upsample
from gigagan.archive import read_images, read_prompts, write_images
from gigagan.clip import Clip
from gigagan.errors import UserError
from gigagan.pixels import shrink, to_tensor, to_uint8
from gigagan.png import write_png
from gigagan.upsample import Chain, Upsampling, load


@pytest.fixture
def make_run(tiny, clip_folder, tmp_path) -> Callable[..., Path]:
    """The folder of an upsampler's run from 8 to 32 px with random weights; ``overrides`` may change it."""

    def make(*overrides: str, name: str = "run") -> Path:
        config = tiny(f"text.clip=local-dir:{clip_folder}", *TO_32, *overrides)
        sha = Clip.load(config.text.clip).sha
        return save(config, tmp_path / name, sha)

    return make


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gigagan.upsample", *map(str, arguments)], capture_output=True, text=True, check=False
    )


# As an object ---------------------------------------------------------------------------------------------------------


def test_a_picture_is_the_network_s_answer_to_it_whatever_comes_with_it(make_run):
    run = make_run()
    up = load(run, batch=2)
    assert (up.input, up.resolution, up.factor) == (8, 32, 4)
    images = np.stack([picture(8, 8, k) for k in range(3)])
    captions, seeds = [CAPTION, "a small blue square on black", CAPTION], [5, 6, 7]
    out = up(images, captions, seeds)
    assert (out.shape, out.dtype) == ((3, 32, 32, 3), np.uint8)

    z, noise = latents.draw(seeds, up.network.z_dim, up.network.noise_dim)
    with torch.inference_mode():
        wanted = up.network(z, up.encode(captions), noise, to_tensor(images))[0]
    assert np.abs(out.astype(int) - to_uint8(wanted)).max() <= 1
    half = up(images, captions, seeds, scale=2)
    assert np.abs(half.astype(int) - to_uint8(shrink(wanted, 16))).max() <= 1

    for k in range(3):
        alone = up(images[k : k + 1], captions[k : k + 1], seeds[k : k + 1])
        assert np.abs(alone[0].astype(int) - out[k]).max() <= 1
        by_rows = np.concatenate(list(up.rows(images[k], captions[k], seeds[k])))  # one tile is the same picture
        assert np.abs(by_rows.astype(int) - out[k]).max() <= 1
    for changed in (
        up(images, ["green", CAPTION, "green"], seeds),
        up(images, captions, [8, 9, 10]),
        up(np.roll(images, 1, axis=0), captions, seeds),
    ):
        assert np.abs(changed.astype(int) - out).max((1, 2, 3)).min() > 1


def test_larger_pictures_are_enlarged_by_as_much(make_run):
    up = load(make_run())
    images = np.stack([picture(13, 19), picture(13, 19, 1)])  # no multiple of anything
    whole = up(images, [CAPTION] * 2, [0, 1])
    assert whole.shape == (2, 52, 76, 3)
    half = up(images, [CAPTION] * 2, [0, 1], scale=2)
    assert half.shape == (2, 26, 38, 3)
    same = up(images, [CAPTION] * 2, [0, 1], scale=1)
    assert same.shape == images.shape
    means = to_uint8(torch.nn.functional.avg_pool2d(to_tensor(whole), 2)).astype(int)
    assert np.median(np.abs(means - half)) <= 1  # but for where the windows differ, and for what was clipped
    assert np.array_equal(up(images, [CAPTION] * 2, [0, 1]), whole)
    assert up(images[:0], [], []).shape == (0, 52, 76, 3)
    assert up(images, [CAPTION] * 2, [0, 1], overlap=7).shape == whole.shape  # as much as whole pixels leave
    one_at_a_time = load(make_run(), batch=1)(images, [CAPTION] * 2, [0, 1])
    assert np.abs(one_at_a_time.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("kind", ["class", "none"])
def test_runs_without_captions(tiny, kind):
    asked = ("condition.kind=class", "condition.classes=3") if kind == "class" else NO_WORDS
    config = tiny(*asked, "attention.kinds=self", "loss.clip_weight=0", *TO_32)
    up = Upsampling(network(config), None, CPU, ["ant", "bee", "cat"] if kind == "class" else ())
    image = np.stack([picture(8, 8)])
    if kind == "none":
        assert np.array_equal(up(image, [""], [0]), up(image, ["anything"], [0]))
        return
    assert np.array_equal(up(image, ["bee"], [0]), up(image, ["1"], [0]))
    assert not np.array_equal(up(image, ["bee"], [0]), up(image, ["cat"], [0]))
    with pytest.raises(UserError, match="class 'dog'"):
        up(image, ["dog"], [0])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 8, 8, 3)), r"uint8 \[B, H, W, 3\] is wanted, not float64 \[1, 8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.uint8), r"not uint8 \[8, 8, 3\]"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"not uint8 \[1, 8, 8, 4\]"),
        ([[1]], "not list"),
        (
            np.zeros((1, 8, 7, 3), np.uint8),
            "7x8 px, and this run enlarges 8x8 px or, tile by tile, more: resize them to 8 px or more first",
        ),
        (np.zeros((2, 8, 8, 3), np.uint8), "2 pictures with 1 captions"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(make_run, images, words):
    with pytest.raises(UserError, match=words):
        load(make_run())(images, [CAPTION], [0])


@pytest.mark.parametrize("scale", [3, 8, -1, 1.5, "2", None, True])
@pytest.mark.parametrize("side", [8, 13])
def test_a_scale_that_it_does_not_lead_to_is_refused(make_run, scale, side):
    with pytest.raises(UserError) as error:
        load(make_run())(np.stack([picture(side, side)]), [CAPTION], [0], scale)
    assert error.value.message == f"scale {scale!r}: this run enlarges a picture 4 or 2 or 1 times"


@pytest.mark.parametrize("caption", ["", "  ", "word " * 2000, 7])
def test_captions_that_are_none_are_refused(make_run, caption):
    with pytest.raises(UserError, match="prompt: "):
        load(make_run())(np.stack([picture(8, 8)]), [caption], [0])


def test_several_stages_enlarge_by_the_product_of_what_they_do(make_run):
    up = load(make_run())
    image = np.stack([picture(8, 8)])
    (rows,) = Chain([up, up]).enlarge(image, [CAPTION], [3], lambda n: None)
    first = up(image, [CAPTION], [3])
    assert np.array_equal(np.concatenate(list(rows)), up(first, [CAPTION], [3])[0])
    chain = Chain([up, up], 8)
    assert chain.n_tiles(8, 8) == chain.n_tiles(8, 8)
    (rows,) = chain.enlarge(image, [CAPTION], [3], lambda n: None)
    assert np.array_equal(np.concatenate(list(rows)), up(first, [CAPTION], [3], scale=2)[0])
    for scale in (32, 12, 2, 5):
        with pytest.raises(UserError, match=rf"--scale {scale}: these runs enlarge a picture 16 or 8 or 4 times"):
            Chain([up, up], scale)
    with pytest.raises(UserError, match="--overlap 8: must be less than a tile, which is 8 px"):
        Chain([up], 0, 8)


def test_a_stage_that_wants_more_than_the_one_before_makes_is_refused(tiny, make_run):
    large = Upsampling(
        network(tiny(*NO_ATTENTION, "data.resolution=128", "upsampler.input=64", "generator.channel_base=128")),
        None,
        CPU,
    )
    with pytest.raises(UserError, match="--then: what comes before it makes 32 px of the smallest picture: 32x32 px"):
        Chain([load(make_run()), large])


# Files in, files out --------------------------------------------------------------------------------------------------


@pytest.fixture
def up(monkeypatch) -> Callable[..., None]:
    """The command, in this process."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["upsample", *map(str, arguments)])
        upsample.main()

    return run


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_a_picture_with_its_caption_beside_it(make_run, tmp_path, up, capsys):
    run = make_run()
    Image.fromarray(picture(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(CAPTION + "\n")
    up("--run", run, tmp_path / "a.png", "--out", tmp_path / "own.png", "--seed", 4)
    out = read(tmp_path / "own.png")
    assert np.array_equal(out, load(run)(np.stack([picture(8, 8)]), [CAPTION], [4])[0])
    up("--run", run, tmp_path / "a.png", "--out", tmp_path / "said.png", "--seed", 4, "--caption", CAPTION)
    assert np.array_equal(read(tmp_path / "said.png"), out)
    up("--run", run, tmp_path / "a.png", "--out", tmp_path / "other.png", "--seed", 4, "--caption", "green")
    assert not np.array_equal(read(tmp_path / "other.png"), out)
    up("--run", run, tmp_path / "a.png", "--out", tmp_path / "twice.png", "--then", run, "--scale", 8)
    assert read(tmp_path / "twice.png").shape == (64, 64, 3)
    assert "tiles" in capsys.readouterr().err  # progress
    long = ("--caption", "circle " * 100, "--then", run)
    up("--run", run, tmp_path / "a.png", "--out", tmp_path / "long.png", *long)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "cut to the 24 tokens that this run's CLIP reads: 1 of 1 prompts, the first 'circle circle" in said


def test_a_folder_of_pictures_of_any_mode(make_run, tmp_path, up):
    run, folder = make_run(), tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    rgb = picture(8, 12)
    Image.fromarray(rgb).save(folder / "a.png")
    Image.fromarray(rgb).quantize(256).save(folder / "palette.png")
    Image.fromarray(np.dstack([rgb, np.zeros((8, 12), np.uint8)])).save(folder / "below" / "glass.png")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(folder / "grey.png")
    for name in ("a", "palette", "below/glass", "grey"):
        (folder / f"{name}.txt").write_text(CAPTION)
    (folder / ".hidden.png").write_bytes(b"")
    up("--run", run, folder, "--out", tmp_path / "large")
    made = sorted(str(p.relative_to(tmp_path / "large")) for p in (tmp_path / "large").rglob("*.png"))
    assert made == ["a.png", "below/glass.png", "grey.png", "palette.png"]
    one = load(run)
    wanted = {
        "a": (rgb, 0),
        "below/glass": (np.full((8, 12, 3), 255, np.uint8), 1),
        "grey": (np.repeat(rgb[..., :1], 3, 2), 2),
    }
    for name, (image, seed) in wanted.items():
        assert np.array_equal(read(tmp_path / "large" / f"{name}.png"), one(np.stack([image]), [CAPTION], [seed])[0]), (
            name
        )
        assert (tmp_path / "large" / f"{name}.txt").read_text() == CAPTION + "\n"
    up("--run", run, folder, "--out", tmp_path / "square.zip", "--resize")
    images, captions = read_images(tmp_path / "square.zip")
    assert images.shape == (4, 32, 32, 3)
    assert captions == [CAPTION] * 4


def test_an_archive_is_a_previous_stage(make_run, tmp_path, up):
    run = make_run()
    images = np.stack([picture(8, 8, k) for k in range(5)])
    captions = [CAPTION, "a", "b", "c", "d"]
    write_images(tmp_path / "small.zip", images, captions, [90, 91, 92, 93, 94])
    up("--run", run, tmp_path / "small.zip", "--out", tmp_path / "large.zip", "--batch", 2, "--seed", 1)
    out, own = read_images(tmp_path / "large.zip")
    assert own == captions
    assert [prompt["seed"] for prompt in read_prompts(tmp_path / "large.zip")] == [1, 2, 3, 4, 5]
    assert np.array_equal(out, load(run, batch=2)(images, captions, [1, 2, 3, 4, 5]))
    up("--run", run, tmp_path / "large.zip", "--out", tmp_path / "larger", "--scale", 2)
    assert read(tmp_path / "larger" / "000004.png").shape == (64, 64, 3)
    assert (tmp_path / "larger" / "000004.txt").read_text() == "d\n"


def refused(up, capsys, words: str, out: Path, *arguments: object) -> None:
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(UserError, match=words) as error:
        up(*arguments, "--out", out)
    assert "\n" not in error.value.message
    assert sorted(out.parent.rglob("*")) == before  # nothing half-written


def test_what_cannot_be_enlarged_is_refused_in_one_line(make_run, tmp_path, up, capsys):
    run, file, out = make_run(), tmp_path / "a.png", tmp_path / "out.png"

    def refuse(words: str, *arguments: object, to: Path = out, given: Path = file) -> None:
        refused(up, capsys, words, to, "--run", run, given, *arguments)

    refuse(r"a\.png: no such file or folder", "--caption", "a")
    Image.fromarray(picture(7, 20)).save(file)
    refuse(r"a\.png: has no caption: write one into a\.txt beside it, or give --caption")
    refuse(r"a\.png: 20x7 px, and this run enlarges 8x8 px .*with --resize", "--caption", "a")
    up("--run", run, file, "--caption", "a", "--resize", "--out", tmp_path / "resized.png")
    assert read(tmp_path / "resized.png").shape == (32, 32, 3)
    (tmp_path / "a.txt").write_text("")
    refuse(r"a\.txt: empty caption")
    (tmp_path / "a.txt").write_text("word " * 2000)
    Image.fromarray(picture(8, 8)).save(file)
    refuse(r"a\.png: prompt: has 9,999 characters")
    refuse("prompt: is empty", "--caption", "")
    refuse("pictures are written as .png", "--caption", "a", to=tmp_path / "out.jpg")
    refuse("is the input, which would be overwritten", "--caption", "a", to=file)
    refuse("of several pictures: give a folder", "--caption", "a", given=tmp_path)
    refuse("--scale 3: these runs enlarge a picture 4 or 2 or 1 times", "--caption", "a", "--scale", 3)

    file.write_bytes(b"no picture")
    refuse(r"a\.png: not an image", "--caption", "a")
    Image.fromarray(picture(8, 8).astype(np.int32)[..., 0]).save(tmp_path / "wide.tif")
    refuse(r"wide\.tif: 32-bit pixels", "--caption", "a", given=tmp_path / "wide.tif")
    frames = [Image.fromarray(picture(8, 8, k)) for k in range(2)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    refuse(r"moving\.gif: animated", "--caption", "a", given=tmp_path / "moving.gif")
    (tmp_path / "not.zip").write_bytes(b"PK")
    refuse("is not a whole zip file", "--caption", "a", given=tmp_path / "not.zip", to=tmp_path / "out.zip")
    (tmp_path / "empty").mkdir()
    refuse("holds no pictures", given=tmp_path / "empty", to=tmp_path / "out")


def test_folders_that_cannot_become_what_is_asked_for_are_refused(make_run, tmp_path, up, capsys):
    run, folder = make_run(), tmp_path / "in"
    folder.mkdir()
    Image.fromarray(picture(8, 8)).save(folder / "a.png")
    Image.fromarray(picture(8, 12)).save(folder / "b.png")
    command = ("--run", run, folder, "--caption", "a")
    refused(up, capsys, "an archive's pictures have one size, these are of 8x8, 12x8", tmp_path / "o.zip", *command)
    Image.fromarray(picture(4, 4)).save(folder / "c.png")
    refused(up, capsys, r"c\.png: 4x4 px", tmp_path / "o", *command)  # none is drawn before all are checked
    Image.fromarray(picture(8, 8)).save(folder / "a.jpg")
    refused(up, capsys, "two pictures are called a: rename one", tmp_path / "o", *command)


def test_runs_that_are_no_upsampler_s_are_refused(make_run, tmp_path, up, capsys):
    Image.fromarray(picture(8, 8)).save(tmp_path / "a.png")
    command = (tmp_path / "a.png", "--caption", "a")
    run = make_run("upsampler.input=0", name="generator")
    words = "generator: is no upsampler's run but a generator's: python -m gigagan.sample draws with it"
    refused(up, capsys, words, tmp_path / "o.png", *command, "--run", run)
    refused(up, capsys, words, tmp_path / "o.png", *command, "--run", make_run(), "--then", run)
    refused(up, capsys, "no run folder", tmp_path / "o.png", *command, "--run", tmp_path)
    bare = make_run(name="bare")
    (bare / "weights.safetensors").unlink()
    refused(up, capsys, r"no weights\.safetensors there", tmp_path / "o.png", *command, "--run", bare)
    with pytest.raises(UserError, match="is an upsampler's run"):
        sampling.load(make_run())


def test_from_the_shell_a_mistake_is_one_line_and_a_status(make_run, tmp_path):
    done = run_command("--run", make_run(), tmp_path / "a.png", "--caption", "a", "--out", tmp_path / "o.png")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


# A picture row by row -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 4, 9]])
def test_a_png_is_written_row_by_row(tmp_path, cuts):
    image = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", (9, 5), (image[a:b] for a, b in pairwise(cuts)))
    assert np.array_equal(read(tmp_path / "a.png"), image)
    write_png(tmp_path / "one.png", (9, 1), [image[:, :1]])
    assert np.array_equal(read(tmp_path / "one.png"), image[:, :1])


def test_rows_that_do_not_make_up_the_picture_leave_no_file(tmp_path):
    for rows in ([np.zeros((3, 5, 3), np.uint8)], [np.zeros((4, 6, 3), np.uint8)], [np.zeros((4, 5, 3))]):
        with pytest.raises(ValueError, match="rows"):
            write_png(tmp_path / "a.png", (4, 5), rows)
    assert not list(tmp_path.iterdir())


def test_the_way_to_4096_px(tiny, tmp_path, up):
    """A strip of a picture of 1024 px, by an 8x upsampler of 128 px, averaged by half."""
    run = save(tiny(*NO_ATTENTION, *sides(128, 1024)), tmp_path / "run")
    Image.fromarray(picture(128, 1024)).save(tmp_path / "in.png")
    up("--run", run, tmp_path / "in.png", "--scale", 4, "--out", tmp_path / "out.png")
    assert read(tmp_path / "out.png").shape == (512, 4096, 3)
