"""The Python API: pictures as the commands draw them, a folder that loads back bit for bit, one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_run import CLASSES, NOTHING, make_run
from PIL import Image

import gigagan
from gigagan import GigaGAN, edit
from gigagan.errors import UserError
from gigagan.latents import Truncation
from gigagan.sampling import load

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
    assert np.array_equal(np.asarray(g.mix(RED, BLUE)), np.asarray(g.mix(RED, BLUE, layer=1, seed=0)))
    styles = np.asarray(g.mix(RED, RED, layer=1, seed=(3, 4)))
    assert np.array_equal(styles, edit.mixed(g.sampler, [(RED, 3)], [(RED, 4)], 1)[1, 1])
    assert g.layers == [4, 8, 16]


def test_what_is_drawn_here_can_be_enlarged(g, upsampler):
    small = g([RED, BLUE], seed=1)
    large = g.upsample(small, upsampler=upsampler, seed=5)
    assert [image.size for image in large] == [(32, 32)] * 2
    asked = g.upsample([Image.fromarray(np.asarray(image)) for image in small], [RED, BLUE], upsampler, seed=5)
    assert np.array_equal(arrays(large), arrays(asked))

    from gigagan import upsample

    loaded = upsample.load(upsampler)
    assert np.array_equal(arrays(g.upsample(small[0], upsampler=loaded, seed=5)), loaded(arrays(small[:1]), [RED], [5]))


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
    with pytest.raises(UserError, match=r"mine: holds config\.json already: give another folder"):
        g.save_pretrained(tmp_path / "mine")


def test_a_snapshot_is_saved_without_the_mean_of_other_weights(folder, tmp_path):
    GigaGAN.from_pretrained(folder, snapshot=0).save_pretrained(tmp_path / "untrained")
    assert not (tmp_path / "untrained" / "style_mean.safetensors").exists()
    images = arrays(GigaGAN.from_pretrained(tmp_path / "untrained")(RED))
    assert np.array_equal(images, load(folder, snapshot=0)([RED], [0]))


def test_classes_and_nothing(tiny, tmp_path):
    g = GigaGAN.from_pretrained(make_run(tmp_path / "classes", tiny(*CLASSES), ["cat", "dog", "cow"]))
    assert np.array_equal(arrays(g([1, "dog", "1"], seed=[2, 2, 2]))[0], arrays(g("dog", seed=2))[0])
    assert np.array_equal(np.asarray(g.mix("cat", 2)), np.asarray(g.mix(0, "cow")))
    for prompts in (3, [0, -1], "3"):
        with pytest.raises(UserError, match=r"out of range: this run's classes are numbered 0 to 2"):
            g(prompts)
    with pytest.raises(UserError, match="True is a bool"):
        g(True)
    nothing = GigaGAN.from_pretrained(make_run(tmp_path / "none", tiny(*NOTHING)))
    assert len(nothing("", seed=range(3))) == 3
    assert repr(nothing) == "<GigaGAN: unconditional, 16 px, on cpu>"


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda g: g(""), "prompt: is empty"),
        (lambda g: g([]), "no prompts were given"),
        (lambda g: g("x" * 10_000), "prompt: has 10,000 characters: at most 5,000"),
        (lambda g: g([RED, 5]), "prompt 2 of 2: 5 is an int: a prompt is a string"),
        (lambda g: g(None), "prompt: None is a NoneType"),
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
        (lambda g: g.upsample([]), "upsample: give PIL images"),
        (lambda g: g.upsample([np.zeros((16, 16, 3))]), "upsample: give PIL images"),
        (lambda g: g.upsample(Image.new("RGB", (16, 16))), "upsample: picture 1 does not say what it shows"),
        (lambda g: g.upsample(g(RED), [RED, BLUE]), "upsample: 1 pictures but 2 prompts"),
        (
            lambda g: g.upsample([Image.new("RGB", (16, 16)), Image.new("RGB", (8, 8))], RED),
            "upsample: pictures of mixed",
        ),
    ],
)
def test_a_mistake_is_one_line(g, draw, said):
    with pytest.raises(UserError) as error:
        draw(g)
    assert error.value.message.startswith(said)


def test_folders_that_hold_no_run_are_named(g, folder, upsampler, tmp_path):
    for where, said in (
        (tmp_path / "nowhere", r"nowhere: no run folder \(it has no config\.json\)"),
        (upsampler, "is an upsampler's run"),
    ):
        with pytest.raises(UserError, match=said):
            GigaGAN.from_pretrained(where)
    with pytest.raises(UserError, match="is no upsampler's run but a generator's"):
        g.upsample(g(RED), upsampler=folder)
    with pytest.raises(UserError, match="--device gpu: no such device"):
        GigaGAN.from_pretrained(folder, device="gpu")
    g.save_pretrained(tmp_path / "other")
    about = json.loads((tmp_path / "other" / "config.json").read_text())
    about["config"]["generator"]["w_dim"] = 8
    (tmp_path / "other" / "config.json").write_text(json.dumps(about))
    with pytest.raises(
        UserError, match=r"made with another config: levels\.0\..* \(wanted \(\d+, 8\), found \(\d+, 16"
    ):
        GigaGAN.from_pretrained(tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights\.safetensors there"):
        GigaGAN.from_pretrained(tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        g.save_pretrained(tmp_path / "file")
