"""The Python API: pictures as the commands draw them, a folder that loads back bit for bit, one line for a mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_run import CLASSES, NOTHING, make_run
from PIL import Image

import gigagan
from gigagan import GigaGAN, GigaGANError, edit, upsample
from gigagan.latents import Truncation
from gigagan.sampling import load
from gigagan.upsample import main as upsample_command

RED, BLUE = "a red circle", "a small blue square on black"


@pytest.fixture(scope="module")
def folder(tiny, clip_folder, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", tiny(f"text.clip=local-dir:{clip_folder}"))


@pytest.fixture(scope="module")
def g(folder) -> GigaGAN:
    return GigaGAN.from_pretrained(folder)


@pytest.fixture(scope="module")
def upsampler(tiny, clip_folder, tmp_path_factory) -> Path:
    config = tiny(
        "data.resolution=32", "upsampler.input=16", "upsampler.lowest=8", f"text.clip=local-dir:{clip_folder}"
    )
    return make_run(tmp_path_factory.mktemp("runs") / "up", config)


def arrays(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def test_the_package_gives_the_class_without_importing_it_before():
    code = (
        "import sys, gigagan; print('torch' in sys.modules); print(gigagan.GigaGAN.__module__, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "gigagan.api", "True"]
    assert issubclass(GigaGANError, ValueError)  # unlike the commands' SystemExit, `except Exception` catches it
    with pytest.raises(AttributeError, match="has no attribute 'GigaGaN'"):
        _ = gigagan.GigaGaN


def test_pictures_are_those_of_the_sampler(g, folder):
    sampler = load(folder)
    images = g([RED, BLUE], seed=1)
    assert all(isinstance(image, Image.Image) and image.size == (16, 16) for image in images)
    assert np.array_equal(arrays(images), sampler([RED, BLUE], [1, 2]))
    assert np.array_equal(arrays(g(RED, seed=[4, 5, 6])), sampler([RED] * 3, [4, 5, 6]))
    assert np.array_equal(arrays(g([RED, BLUE], seed=[7, 7])), sampler([RED, BLUE], [7, 7]))
    assert np.array_equal(arrays(g(RED, np.int64(3))), sampler([RED], [3]))
    assert np.array_equal(arrays(g(RED, 3, 0.5, 0.5)), sampler([RED], [3], Truncation(0.5, 0.5)))
    assert np.array_equal(arrays(g(RED, np.arange(4, 7))), sampler([RED] * 3, [4, 5, 6]))
    assert np.array_equal(arrays(g(RED, 3, np.float32(0.5), np.int64(1))), sampler([RED], [3], Truncation(0.5)))
    assert [image.info["seed"] for image in images] == [1, 2]
    assert repr(g) == "<GigaGAN: text to image, 16 px, on cpu>"


def test_more_pictures_than_a_batch(g):
    images = arrays(g(RED, seed=range(70)))
    assert len(images) == 70
    assert np.abs(images[66].astype(int) - np.asarray(g(RED, seed=66)[0])).max() <= 1


def test_interpolation_goes_from_prompt_to_prompt(g):
    images = arrays(g.interpolate(RED, BLUE, steps=5, seed=3))
    assert len(images) == 5
    assert np.abs(images[[0, -1]].astype(int) - arrays(g([RED, BLUE], seed=[3, 3]))).max() <= 1
    both = arrays(g.interpolate(RED, BLUE, steps=5, seed=(3, 4), truncation=0.9))
    assert np.array_equal(both, edit.along(g.sampler, [RED, BLUE], [3, 4], 5, truncation=Truncation(0.9)))


def test_mixing_gives_each_part_its_prompt(g):
    mixed = np.asarray(g.mix(RED, BLUE, layer=2, seed=3))
    assert np.array_equal(mixed, edit.mixed(g.sampler, [(RED, 3)], [(BLUE, 3)], 2)[1, 1])
    assert np.array_equal(np.asarray(g.mix(RED, BLUE)), np.asarray(g.mix(RED, BLUE, layer=np.int64(1), seed=0)))
    styles = np.asarray(g.mix(RED, RED, layer=1, seed=(3, 4)))
    assert np.array_equal(styles, edit.mixed(g.sampler, [(RED, 3)], [(RED, 4)], 1)[1, 1])
    assert g.layers == [4, 8, 16]


def test_what_is_drawn_here_can_be_enlarged(g, upsampler):
    small = g([RED, BLUE], seed=1)
    large = g.upsample(small, upsampler=upsampler, seed=5)
    assert [image.size for image in large] == [(32, 32)] * 2
    asked = g.upsample([Image.fromarray(np.asarray(image)) for image in small], [RED, BLUE], upsampler, seed=5)
    assert np.array_equal(arrays(large), arrays(asked))

    loaded = upsample.load(upsampler)
    assert np.array_equal(arrays(g.upsample(small[0], upsampler=loaded, seed=5)), loaded(arrays(small[:1]), [RED], [5]))


@pytest.fixture
def pictures() -> dict[str, Image.Image]:
    """Of modes that Pillow's own conversion to RGB makes something else of."""
    rgb = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    alpha = np.where(np.arange(24) < 12, 0, 200).astype(np.uint8) * np.ones((16, 1), np.uint8)
    turned = Image.fromarray(rgb)
    turned.getexif()[0x0112] = 6
    return {
        "deep": Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        "glass": Image.fromarray(np.dstack([rgb, alpha])),
        "palette": Image.fromarray(rgb).quantize(16),
        "turned": turned,
    }


def test_pictures_of_any_mode_are_enlarged_as_the_command_does(g, upsampler, pictures, tmp_path, monkeypatch):
    for name, picture in pictures.items():
        file, out = tmp_path / f"{name}.png", tmp_path / f"{name}-large.png"
        picture.save(file, exif=picture.getexif())
        words = ["--run", upsampler, file, "--caption", RED, "--out", out]
        monkeypatch.setattr(sys, "argv", ["upsample", *map(str, words)])
        upsample_command()
        before = picture.tobytes()
        with Image.open(file) as opened:
            large = [g.upsample(image, RED, upsampler)[0] for image in (picture, opened)]
        assert picture.tobytes() == before
        for made in large:
            assert np.array_equal(np.asarray(made), np.asarray(Image.open(out))), name
        assert made.size == ((32, 48) if name == "turned" else (48, 32))


def test_pictures_that_the_command_refuses_are_refused(g, upsampler, tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.effect_noise((64, 64), 50).save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:2000])
    for name, said in (("moving.gif", "animated"), ("half.png", "broken image")):
        with Image.open(tmp_path / name) as image, pytest.raises(GigaGANError, match=f"picture 2: {said}"):
            g.upsample([frames[0], image], RED, upsampler)
    with pytest.raises(GigaGANError, match=r"7x20 px, and this run enlarges 16x16 px .*: resize them to 16 px or more"):
        g.upsample(Image.new("RGB", (7, 20)), RED, upsampler)


def test_prompts_of_pictures_are_the_upsamplers(g, upsampler, tiny, tmp_path):
    to_32 = ("data.resolution=32", "upsampler.input=16", "upsampler.lowest=8")
    classes = make_run(tmp_path / "classes", tiny(*CLASSES, *to_32), ["cat", "dog", "cow"])
    nothing = make_run(tmp_path / "none", tiny(*NOTHING, *to_32))
    small = g(RED)
    by_class = upsample.load(classes)
    assert np.array_equal(arrays(g.upsample(small, 1, classes)), by_class(arrays(small), ["dog"], [0]))
    with pytest.raises(GigaGANError, match="class 'a red circle': this run has no such class"):
        g.upsample(small, upsampler=by_class)
    plain = Image.fromarray(np.asarray(small[0]))
    (large,) = g.upsample(plain, upsampler=nothing)
    assert "prompt" not in large.info
    (large,) = g.upsample(small, upsampler=nothing)
    assert large.info["prompt"] == RED
    drawn_by_class = GigaGAN.from_pretrained(make_run(tmp_path / "g", tiny(*CLASSES), ["cat", "dog", "cow"]))
    assert np.array_equal(
        arrays(drawn_by_class.upsample(small, "a blue square", upsampler)),
        arrays(g.upsample(small, "a blue square", upsampler)),
    )
    for prompts, said in ((None, "picture 1 does not say what it shows"), ([RED, BLUE], "1 pictures but 2 prompts")):
        with pytest.raises(GigaGANError, match=said):
            g.upsample(plain, prompts, upsampler)


def test_saved_and_loaded_it_is_the_same_bit_for_bit(g, tmp_path):
    g.save_pretrained(tmp_path / "mine")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [
        "config.json",
        "style_mean.safetensors",
        "weights.safetensors",
    ]
    again = GigaGAN.from_pretrained(tmp_path / "mine")
    assert again.about == g.about
    one, two = (x.sampler.generator.state_dict() for x in (g, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(again.sampler.style_mean, g.sampler.style_mean)
    assert np.array_equal(arrays(again([RED, BLUE], 1, 0.7, 0.7)), arrays(g([RED, BLUE], 1, 0.7, 0.7)))

    again.save_pretrained(tmp_path / "copy")
    for path in (tmp_path / "mine").iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(GigaGANError, match=r"mine: holds config\.json already: give another folder"):
        g.save_pretrained(tmp_path / "mine")


def test_a_snapshot_is_saved_without_the_mean_of_other_weights(folder, tmp_path):
    GigaGAN.from_pretrained(folder, snapshot=0).save_pretrained(tmp_path / "untrained")
    assert not (tmp_path / "untrained" / "style_mean.safetensors").exists()
    images = arrays(GigaGAN.from_pretrained(tmp_path / "untrained")(RED))
    assert np.array_equal(images, load(folder, snapshot=0)([RED], [0]))


def test_a_snapshot_is_saved_as_it_is_drawn(tiny, clip_folder, tmp_path):
    config = tiny(f"text.clip=local-dir:{clip_folder}", "sampling.truncation=0.5", "sampling.global_truncation=0.7")
    folder = make_run(tmp_path / "run", config)
    for snapshot in (0, None):
        g = GigaGAN.from_pretrained(folder, snapshot=snapshot)
        g.save_pretrained(tmp_path / f"{snapshot}")
        again = GigaGAN.from_pretrained(tmp_path / f"{snapshot}")
        assert (
            again.sampler.truncation
            == g.sampler.truncation
            == (Truncation() if snapshot == 0 else Truncation(0.5, 0.7))
        )
        assert np.array_equal(arrays(again([RED, BLUE])), arrays(g([RED, BLUE])))


def test_prompts_that_are_too_long_are_cut_counted_and_said(folder, capsys):
    g = GigaGAN.from_pretrained(folder)
    long = [" ".join([word] * 260) for word in ("red", "blue", "red")]
    images = g([RED, *long], seed=1)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "warning: cut to the 24 tokens that this run's CLIP reads: 3 of 4 prompts, the first 'red red "
    )
    assert g.n_cut == 3
    assert np.array_equal(
        arrays(images), g.sampler([RED, *(" ".join(text.split()[:22]) for text in long)], [1, 2, 3, 4])
    )
    g(long[0], seed=range(3))
    assert "1 of 1 prompts" in capsys.readouterr().err
    assert g.n_cut == 4
    g(RED)
    assert capsys.readouterr().err == ""


def test_classes_and_nothing(tiny, tmp_path):
    g = GigaGAN.from_pretrained(make_run(tmp_path / "classes", tiny(*CLASSES), ["cat", "dog", "cow"]))
    assert np.array_equal(arrays(g([1, "dog", "1"], seed=[2, 2, 2]))[0], arrays(g("dog", seed=2))[0])
    assert np.array_equal(np.asarray(g.mix("cat", 2)), np.asarray(g.mix(0, "cow")))
    for prompts in (3, [0, -1], "3"):
        with pytest.raises(GigaGANError, match=r"out of range: this run's classes are numbered 0 to 2"):
            g(prompts)
    for prompts, said in (
        (True, "True is a bool"),
        (b"\x01", r"prompt: b'\\x01' is a bytes"),
        ("1" * 500, "class '1{59} [.]{3}: this run has no such class"),
        ("+1", "class '[+]1': this run has no such class"),
    ):
        with pytest.raises(GigaGANError, match=said):
            g(prompts)
    assert np.array_equal(arrays(g(np.array([2, 0]))), arrays(g(["cow", "cat"])))
    nothing = GigaGAN.from_pretrained(make_run(tmp_path / "none", tiny(*NOTHING)))
    assert len(nothing("", seed=range(3))) == len(nothing([None, "", ""])) == 3
    assert np.array_equal(arrays(nothing(None)), arrays(nothing("")))
    assert len(nothing.interpolate("", None, steps=3, seed=(1, 2))) == 3
    with pytest.raises(GigaGANError, match="no prompts were given"):
        nothing([])
    for prompts, said in (
        (3, "prompt 3"),
        (b"x", "prompt b'x'"),
        (["", "x"], "prompt 'x'"),
        ("a dog", "prompt 'a dog'"),
    ):
        with pytest.raises(GigaGANError, match=f'{said}: an unconditional run takes none: give None or ""'):
            nothing(prompts)
    assert repr(nothing) == "<GigaGAN: unconditional, 16 px, on cpu>"


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda g: g(""), "prompt: is empty"),
        (lambda g: g([]), "no prompts were given"),
        (lambda g: g("x" * 10_000), "prompt: has 10,000 characters: at most 5,000"),
        (lambda g: g([RED, 5]), "prompt 2 of 2: 5 is an int: a prompt is a string"),
        (lambda g: g(None), "prompt: None is a NoneType"),
        (lambda g: g(b"a red circle"), "prompt: b'a red circle' is a bytes: a prompt is a string"),
        (lambda g: g(RED, seed=b"ab"), "seed b'ab': must be a whole number"),
        (lambda g: g(RED, seed=np.zeros(2)), "seed array([0., 0.]): must be a whole number"),
        (lambda g: g(RED, seed=np.zeros((1, 2), int)), "seed array([[0, 0]]): must be a whole number"),
        (lambda g: g.mix(RED, BLUE, layer="1"), "layer '1': must be from 1 to 2"),
        (lambda g: g.save_pretrained(None), "save_pretrained: None is no folder: give its path"),
        (lambda g: g(RED, truncation=1.01), "truncation 1.01: must be a number from 0"),
        (lambda g: g(RED, truncation=float("nan")), "truncation nan: must be"),
        (lambda g: g(RED, global_truncation=-1), "global truncation -1: must be"),
        (lambda g: g([RED, BLUE], seed=[1, 2, 3]), "2 prompts but 3 seeds"),
        (lambda g: g(RED, seed=-1), "seed -1: must be a whole number from 0 up"),
        (lambda g: g(RED, seed="1"), "seed '1': must be a whole number"),
        (lambda g: g(RED, seed=[]), "seed []: must be a whole number"),
        (lambda g: g(RED, seed=1.5), "seed 1.5: must be"),
        (lambda g: g(RED, seed=2**63), "seed 9223372036854775808: must be"),
        (lambda g: g.mix(RED, BLUE, layer=3), "layer 3: must be from 1 to 2: levels below it are coarse, from it on"),
        (lambda g: g.mix(RED, BLUE, layer=0), "layer 0: must be from 1 to 2"),
        (lambda g: g.mix(RED, ""), "prompt 2 of 2: is empty"),
        (lambda g: g.mix(RED, BLUE, seed=(1, 2, 3)), "seed: mixing takes one seed, or one for each prompt, not 3"),
        (lambda g: g.interpolate(RED, BLUE, steps=1), "an interpolation needs two ends and two steps or more"),
        (lambda g: g.interpolate(RED, BLUE, steps="8"), "steps '8': must be a whole number"),
        (lambda g: g.interpolate(RED, BLUE, seed=(1,)), "seed: an interpolation takes one seed"),
        (lambda g: g.upsample(g(RED)), "upsample: give upsampler="),
        (
            lambda g: g.upsample(g(RED), upsampler=5),
            "upsample: give upsampler=, the folder of an upsampler's run, not 5",
        ),
        (lambda g: g.upsample(None), "upsample: give PIL images"),
        (lambda g: g.upsample(5), "upsample: give PIL images"),
        (lambda g: g.upsample(Image.new("F", (16, 16))), "upsample: picture 1: 32-bit pixels"),
        (lambda g: g.upsample([]), "upsample: give PIL images"),
        (lambda g: g.upsample([np.zeros((16, 16, 3))]), "upsample: give PIL images"),
        (
            lambda g: g.upsample([Image.new("RGB", (16, 16)), Image.new("RGB", (8, 8))], RED),
            "upsample: pictures of mixed",
        ),
    ],
)
def test_a_mistake_is_one_line(g, draw, said):
    with pytest.raises(GigaGANError) as error:
        draw(g)
    assert str(error.value).startswith(said)
    assert len(str(error.value)) < 250
    assert not re.search("--|python -m", str(error.value))  # there is no command line


def test_folders_that_hold_no_run_are_named(g, folder, upsampler, tmp_path):
    for where, said in (
        (tmp_path / "nowhere", r"nowhere: no run folder \(it has no config\.json\)"),
        (upsampler, r"is an upsampler's run: give it to upsample\(images, upsampler=\.\.\.\)$"),
        (None, "from_pretrained: None is no folder: give its path"),
        (5, "from_pretrained: 5 is no folder: give its path"),
    ):
        with pytest.raises(GigaGANError, match=said):
            GigaGAN.from_pretrained(where)
    with pytest.raises(GigaGANError, match="is no upsampler's run but a generator's: from_pretrained loads it"):
        g.upsample(g(RED), upsampler=folder)
    for device in ("gpu", None, 0):
        with pytest.raises(GigaGANError, match=f"^device={device}: no such device; say cpu, cuda"):
            GigaGAN.from_pretrained(folder, device=device)
    for snapshot in ("x", 1.5, True):
        with pytest.raises(GigaGANError, match=f"^snapshot {snapshot!r}: must be a whole number of images"):
            GigaGAN.from_pretrained(folder, snapshot=snapshot)
    g.save_pretrained(tmp_path / "other")
    about = json.loads((tmp_path / "other" / "config.json").read_text())
    about["config"]["generator"]["w_dim"] = 8
    (tmp_path / "other" / "config.json").write_text(json.dumps(about))
    with pytest.raises(
        GigaGANError, match=r"made with another config: levels\.0\..* \(wanted \(\d+, 8\), found \(\d+, 16"
    ):
        GigaGAN.from_pretrained(tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").unlink()
    with pytest.raises(GigaGANError, match=r"no weights\.safetensors there"):
        GigaGAN.from_pretrained(tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(GigaGANError, match="cannot be written to"):
        g.save_pretrained(tmp_path / "file")
