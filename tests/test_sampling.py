"""A trained run as a sampler: what a picture depends on, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_run import CLASSES, NOTHING, make_run

from gigagan import sample, sampling
from gigagan.archive import read_images, write_images
from gigagan.config import YOUNGER
from gigagan.errors import UserError
from gigagan.latents import Truncation
from gigagan.networks.upsampler import Upsampler
from gigagan.pixels import to_uint8
from gigagan.png import write_grid
from gigagan.sampling import check_prompts, load, load_network
from gigagan.training.checkpoint import load_tensors, save_tensors

CAPTIONS = ["a red circle on white", "a small blue square on black", "a big green triangle at the left on yellow"]


@pytest.fixture
def run(tiny, clip_folder, tmp_path) -> Path:
    """The folder of a run, with random weights, and others as its snapshot at 0 images."""
    return make_run(tmp_path / "run", tiny(f"text.clip=local-dir:{clip_folder}"))


def test_another_clip_than_the_one_it_was_trained_with_is_refused(run):
    about = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**about, "clip_sha": "0" * 64}))
    with pytest.raises(UserError, match="trained with another CLIP"):
        load(run)


def test_a_picture_depends_on_its_caption_and_seed_alone(run):
    sampler = load(run)
    captions, seeds = [*CAPTIONS, CAPTIONS[0], CAPTIONS[0]], [5, 6, 7, 6, 5]
    together = sampler.generate(sampler.encode(captions), seeds)
    assert together.shape == (5, 3, 16, 16)
    for k in range(5):
        alone = sampler.generate(sampler.encode(captions[k : k + 1]), seeds[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-5)
    backwards = sampler.generate(sampler.encode(captions[::-1]), seeds[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(together[4], together[0], rtol=0, atol=1e-5)
    assert (together[3] - together[0]).abs().max() > 1e-3  # another seed
    assert (together[3] - together[1]).abs().max() > 1e-3  # another caption

    images = sampler(captions, seeds)
    assert images.dtype == np.uint8
    assert images.shape == (5, 16, 16, 3)
    assert np.array_equal(images, to_uint8(together))
    assert np.array_equal(load(run)(captions, seeds), images)
    assert not np.array_equal(load(run, snapshot=0)(captions, seeds), images)


def test_values_are_rounded_and_clipped():
    images = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(images)[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_missing_parts_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no run folder \(it has no config\.json\)"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no snapshot after 99 images \(there are: 0\)"):
        load(run, snapshot=99)
    (run / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights\.safetensors there; train this run to its end first"):
        load(run)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": 3}', '{"config": {"data": 1}}'])
def test_a_config_that_is_none_is_named(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not a run's config"):
        load(run)


def test_a_config_with_an_unknown_setting_suggests_the_nearest(run):
    about = json.loads((run / "config.json").read_text())
    about["config"]["generator"]["kernel"] = [1]
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"did you mean 'generator\.kernels'"):
        load(run)


def test_weights_of_another_config_name_the_first_tensors(run):
    about = json.loads((run / "config.json").read_text())
    about["config"]["attention"]["kinds"] = "none"
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError) as error:
        load(run)
    words = error.value.message
    assert "weights.safetensors: made with another config" in words
    assert "levels.1.attention.0.cross_block.attention.key.bias (wanted nothing, found (16,))" in words
    assert "more" in words
    assert words.count("wanted") == 3


def test_weights_that_are_no_weights(run):
    (run / "weights.safetensors").write_bytes(b"\x80\x04never read")
    with pytest.raises(UserError, match="holds a pickle"):
        load(run)


def test_a_run_that_is_older_than_a_setting_was_trained_as_if_it_were_off(run):
    about = json.loads((run / "config.json").read_text())
    for path in YOUNGER:
        section, name = path.split(".")
        del about["config"][section][name]
    (run / "config.json").write_text(json.dumps(about))
    config = sampling.read_about(run)["config"]
    for path, value in YOUNGER.items():
        section, name = path.split(".")
        assert getattr(getattr(config, section), name) == value
    load(run)


def test_a_clip_that_a_run_names_by_a_relative_path_is_found_from_anywhere(tiny, tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", tiny("text.clip=local-dir:gigagan/weights/scenes-conditioner"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(folder).resolution == 16


# ---------------------------------------------------------------------------------------------------------- prompts


def test_prompts_are_one_or_several_strings():
    assert check_prompts("a dog") == ["a dog"]
    assert check_prompts(("a dog", "x" * 5000)) == ["a dog", "x" * 5000]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "no prompts were given"),
        ("", "prompt: is empty: say what is to be seen"),
        (["a dog", " \n\t"], "prompt 2 of 2: is empty"),
        ("x" * 10_000, "prompt: has 10,000 characters: at most 5,000 ('xxx"),
        (3, "prompt: 3 is an int: a prompt is a string"),
        (b"a red circle", "prompt: b'a red circle' is a bytes: a prompt is a string"),
        (None, "prompt: None is a NoneType"),
        (["a dog", b"a cat"], "prompt 2 of 2: b'a cat' is a bytes"),
        ({"a": 1}, "prompt: {'a': 1} is a dict"),
    ],
)
def test_prompts_that_are_none_are_named(prompts, said):
    with pytest.raises(UserError) as error:
        check_prompts(prompts)
    assert error.value.message.startswith(said)
    assert len(error.value.message) < 200


def test_a_caption_that_is_cut_is_said_once(run, capsys):
    sampler = load(run)
    for words in ("circle", "circle", "square"):
        sampler.encode([" ".join([words] * 40), "a dog"])
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "warning: cut to the 24 tokens that this run's CLIP reads: 1 of 2 prompts, the first 'circle "
    )
    assert said.endswith(" ...")
    assert sampler.n_cut == 2  # whichever was met before is not counted again


def test_the_prompts_of_a_call_that_are_cut_are_counted_and_said_in_one_line(run, capsys):
    sampler = load(run)
    prompts = [" ".join([word] * 100) for word in ("circle", "square", "square")]
    sampler.encode.count_cut(["a dog", *prompts])
    sampler(prompts, [0, 1, 2])
    (said,) = capsys.readouterr().err.splitlines()
    assert "3 of 4 prompts, the first 'circle circle" in said
    assert sampler.n_cut == 3


@pytest.mark.parametrize("name", ["weights.safetensors", "style_mean.safetensors"])
def test_weights_with_nan_are_refused(run, name):
    tensors = load_tensors(run / name)[0]
    first = next(iter(tensors))
    tensors[first].view(-1)[0] = float("nan")
    save_tensors(run / name, tensors, {})
    with pytest.raises(UserError) as error:
        load(run)
    assert error.value.message == f"{run / name}: {first} holds NaN or infinity: train this run again"


# ---------------------------------------------------------------------------------------------- classes, and nothing


def test_classes_are_asked_for_by_name_or_number(tiny, tmp_path):
    sampler = load(make_run(tmp_path / "run", tiny(*CLASSES), ["cat", "dog", "12"]))
    assert sampler.encode.kind == "class"
    assert sampler.encode(["dog", "2", "0", "12"]).index.tolist() == [1, 2, 0, 2]
    images = sampler(["cat", "0", "dog"], [5, 5, 5])
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    for name, said in (("3", "class 3: out of range: this run's classes are numbered 0 to 2"),
                       ("-1", "class -1: out of range"), ("dig", "did you mean 'dog'"),
                       (" 1 ", "class ' 1 ': this run has no such class"), ("+1", "class '[+]1': this run has no such"),
                       ("1_0", "class '1_0': this run has no such class"), ("-0", "class -0: out of range"),
                       ("9" * 500, "class '9{59} ...: this run has"), ("\u0661", "no such class")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            sampler.encode([name])
    nameless = load(make_run(tmp_path / "nameless", tiny(*CLASSES)))
    with pytest.raises(UserError, match=r"class 'cat': this run has no such class \(they are numbered 0 to 2\)"):
        nameless.encode(["cat"])


def test_a_run_without_conditions_draws_whatever_it_is_asked_for(tiny, tmp_path):
    sampler = load(make_run(tmp_path / "run", tiny(*NOTHING)))
    assert sampler.encode.kind == "none"
    images = sampler(["", "a dog", "a dog"], [1, 1, 2])
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])


def test_an_upsamplers_run_is_another_commands(tiny, clip_folder, tmp_path):
    config = tiny("upsampler.input=8", "upsampler.lowest=4", f"text.clip=local-dir:{clip_folder}")
    folder = make_run(tmp_path / "up", config)
    with pytest.raises(UserError, match=r"is an upsampler's run: python -m gigagan\.upsample"):
        load(folder)
    assert isinstance(load_network(folder)[1], Upsampler)


# -------------------------------------------------------------------------------------------------------- truncation


def test_truncation_has_its_limits_in_the_pictures(run):
    sampler = load(run)
    captions, seeds = [*CAPTIONS[:2]] * 2, [1, 2, 3, 4]
    plain = sampler(captions, seeds)
    assert np.array_equal(sampler(captions, seeds, Truncation(1, 1)), plain)
    condition = sampler.encode(captions)
    text, z = sampler.generator.text(condition), sampler.draw(seeds)[0]
    prompt = sampler.style(z, text, Truncation(0)).w
    assert torch.equal(prompt[0], prompt[2])
    assert not torch.equal(prompt[0], prompt[1])
    assert torch.equal(sampler.style(z, text, Truncation(0, 0)).w, sampler.style_mean.expand(4, -1))
    halfway = sampler.generate(condition, seeds, Truncation(0.5, 0.5))
    assert np.array_equal(to_uint8(halfway), sampler(captions, seeds, Truncation(0.5, 0.5)))
    assert not np.array_equal(to_uint8(halfway), plain)


def test_the_mean_style_is_that_of_the_final_weights_alone(run):
    assert load(run, snapshot=0).style_mean is None
    with pytest.raises(UserError, match="global truncation: there is no style_mean"):
        load(run, snapshot=0)(CAPTIONS[:1], [0], Truncation(1, 0.5))
    save_tensors(run / "style_mean.safetensors", {"w": torch.zeros(3)}, {})
    with pytest.raises(UserError, match=r"made with another config: w \(wanted \(16,\), found \(3,\)\)"):
        load(run)
    (run / "style_mean.safetensors").unlink()
    assert load(run).style_mean is None


def test_a_run_is_truncated_as_its_config_says_unless_something_else_is_asked_for(run):
    plain = load(run)
    about = json.loads((run / "config.json").read_text())
    about["config"]["sampling"] = {"truncation": 0.5, "global_truncation": 0.25}
    (run / "config.json").write_text(json.dumps(about))
    configured = load(run)
    drawn = configured(CAPTIONS[:2], [1, 2])
    assert np.array_equal(drawn, plain(CAPTIONS[:2], [1, 2], Truncation(0.5, 0.25)))
    assert np.array_equal(configured(CAPTIONS[:2], [1, 2], Truncation()), plain(CAPTIONS[:2], [1, 2]))
    assert configured.truncation.but(overall=1) == Truncation(0.5, 1)
    assert load(run, snapshot=0).truncation == Truncation()  # its mean style is not kept
    (run / "style_mean.safetensors").unlink()
    with pytest.raises(UserError, match="global truncation: there is no style_mean"):
        load(run)(CAPTIONS[:1], [0])


def test_pictures_of_many_batches_are_those_of_one(run):
    sampler = load(run)
    style = sampler.style(sampler.draw([0, 1, 2])[0], sampler.text(CAPTIONS))
    noise = sampler.draw([0, 1, 2])[1]
    together, apart = sampler.synthesise(style, noise), sampler.synthesise([style] * 3, noise, batch=2)
    assert np.abs(together.astype(int) - apart).max() <= 1
    assert np.array_equal(together, sampler(CAPTIONS, [0, 1, 2]))


# ----------------------------------------------------------------------------------------------------------- command


def command(monkeypatch, *words) -> None:
    monkeypatch.setattr("sys.argv", ["sample", *map(str, words)])
    sample.main()


def test_the_command_draws_what_the_sampler_does(run, tmp_path, monkeypatch):
    out = tmp_path / "out" / "samples.zip"
    how = ("--truncation", "0.5", "--global-truncation", "0.5")
    command(monkeypatch, "--run", run, "--caption", CAPTIONS[0], "--n", 3, "--seed", 7, *how, "--out", out)
    images, captions = read_images(out)
    assert captions == [CAPTIONS[0]] * 3
    assert np.array_equal(images, load(run)(captions, [7, 8, 9], Truncation(0.5, 0.5)))
    again = tmp_path / "again.zip"
    write_images(tmp_path / "prompts.zip", images, ["a cat", "x" * 2000, "a dog"], [0, 1, 2])
    command(monkeypatch, "--run", run, "--prompts", tmp_path / "prompts.zip", "--out", again)  # data may be longer
    assert len(read_images(again)[0]) == 3


def test_the_command_says_once_that_a_prompt_is_cut(run, tmp_path, monkeypatch, capsys):
    words = ("--caption", "circle " * 100, "--n", 3, "--batch", 2, "--out", tmp_path / "out.zip")
    command(monkeypatch, "--run", run, *words)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "1 of 1 prompts, the first 'circle circle" in said


def test_the_command_needs_no_caption_where_nothing_reads_one(tiny, run, tmp_path, monkeypatch):
    folder = make_run(tmp_path / "none", tiny(*NOTHING))
    command(monkeypatch, "--run", folder, "--n", 4, "--out", tmp_path / "grid.png")
    assert (tmp_path / "grid.png").is_file()
    with pytest.raises(UserError, match="say what to draw: --caption TEXT, or --prompts"):
        command(monkeypatch, "--run", run, "--out", tmp_path / "other.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--caption", ""], "prompt: is empty"),
        (["--caption", "x" * 10_000], "prompt: has 10,000 characters"),
        (["--caption", "a", "--truncation", "1.5"], "truncation 1.5: must be a number from 0"),
        (["--caption", "a", "--global-truncation", "-1"], "global truncation -1.0: must be"),
    ],
)
def test_the_command_refuses_before_it_loads_anything(tmp_path, monkeypatch, words, said):
    out = tmp_path / "new" / "grid.png"
    with pytest.raises(UserError) as error:
        command(monkeypatch, "--run", tmp_path / "nowhere", "--out", out, *words)
    assert error.value.message.startswith(said)
    assert not out.parent.exists()


def test_nothing_is_left_where_the_command_fails(run, tmp_path, monkeypatch):
    shutil.rmtree(run / "snapshots")
    (run / "style_mean.safetensors").unlink()
    out = tmp_path / "new" / "grid.png"
    with pytest.raises(UserError, match="global truncation"):
        command(monkeypatch, "--run", run, "--caption", "a", "--global-truncation", "0.5", "--out", out)
    assert not out.parent.exists()


# -------------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize(("n", "columns", "side"), [(6, 3, (3, 2)), (5, 3, (3, 2)), (2, 8, (2, 1))])
def test_a_grid_shows_every_picture(tmp_path, n, columns, side):
    from PIL import Image

    images = np.full((n, 4, 4, 3), 200, np.uint8)
    images[:, 0, 0] = np.arange(n)[:, None] + 1
    write_grid(tmp_path / "grid.png", images, columns)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    width, height = side
    assert sheet.shape == (height * 16, width * 16, 3)
    corners = sheet[::16, ::16, 0].flatten()[:n].tolist()
    assert corners == list(range(1, n + 1))


# --------------------------------------------------------------------------------------------- untrained and chained


def test_untrained_models_are_chained_in_one_command(tiny_overrides, clip_folder, monkeypatch, tmp_path, capsys):
    """Any size can be tried without data: first weights, a picture, and the same one enlarged."""
    from gigagan import train

    shared = [*tiny_overrides, f"text.clip=local-dir:{clip_folder}"]
    stages = {"base": [], "up": ["data.resolution=32", "upsampler.input=16", "upsampler.lowest=8"]}
    for name, settings in stages.items():
        typed = ["train", "--untrained", "--out", str(tmp_path / name), *shared, *settings]
        monkeypatch.setattr("sys.argv", typed)
        train.main()
        with pytest.raises(UserError, match="holds a run already"):
            train.main()
    assert "M parameters, untrained, seed 0" in capsys.readouterr().out
    outs = [tmp_path / "small.zip", tmp_path / "large.zip"]
    for out, more in zip(outs, ([], ["--upsampler", tmp_path / "up"]), strict=True):
        command(monkeypatch, "--run", tmp_path / "base", "--caption", "a red circle", "--n", "2", "--out", out, *more)
    small, large = (read_images(out)[0] for out in outs)
    assert (small.shape, large.shape) == ((2, 16, 16, 3), (2, 32, 32, 3))
    assert (small[0] != small[1]).any()
    with pytest.raises(UserError, match="upsample"):
        command(monkeypatch, "--run", tmp_path / "up", "--caption", "a", "--out", tmp_path / "x.png")
