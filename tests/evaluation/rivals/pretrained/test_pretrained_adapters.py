"""Generators behind a user's own file, AuraSR, and finished pictures."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from evaluation.rivals.pretrained import samplers
from evaluation.rivals.pretrained.settings import Pretrained

CPU = torch.device("cpu")
ADAPTER = """
import torch
from gigagan.clip import read_weights

class Tiny:
    nfe = 1
    params_m = 0.5

    @classmethod
    def load(cls, folder, settings, device):
        self = cls()
        self.weight = read_weights(folder / "generator.safetensors")["weight"] * settings.options.get("scale", 1)
        self.resolution = settings.resolution
        return self

    def encode(self, captions):
        return torch.tensor([len(caption) for caption in captions])

    def generate(self, condition, seeds):
        z = torch.stack([torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        colours = torch.tanh(z * self.weight + condition[:, None] / 10)
        return colours[:, :, None, None].expand(-1, -1, self.resolution, self.resolution).clone()
"""


@pytest.fixture
def galip(tmp_path):
    """A folder of models with a generator's weights, and a user's file beside it; ``made(source, **fields)`` loads."""
    models = tmp_path / "models"
    (models / "galip").mkdir(parents=True)
    save_file({"weight": torch.ones(3)}, models / "galip" / "generator.safetensors")

    def made(source: str = ADAPTER, file: str = "galip.py", **fields):
        (tmp_path / file).write_text(source)
        usual = {"name": "galip", "label": "GALIP", "folder": "galip", "adapter": "python", "resolution": 8}
        usual["module"] = f"{tmp_path / file}:Tiny"
        return samplers.load(Pretrained(**usual | fields), models, CPU)

    return made


def test_a_users_own_file_gives_a_sampler(galip):
    sampler = galip()
    pictures = sampler(["a", "bb"], [0, 1])
    assert pictures.shape == (2, 8, 8, 3)
    assert pictures.dtype == np.uint8
    assert (sampler(["bb"], [1])[0] == pictures[1]).all()
    assert (sampler.nfe, sampler.params_m, sampler.separable, sampler.timeable) == (1, 0.5, True, True)
    assert sampler.description == "Tiny of galip.py, 8 px, fp32"
    assert (galip(options={"scale": 3})(["bb"], [1])[0] != pictures[1]).any()


def test_a_change_of_the_users_file_is_another_recipe(galip):
    assert galip().sha == galip().sha
    assert galip(f"{ADAPTER}\n# another").sha != galip().sha


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nfe = 1", "nfe = None", "its nfe must be a whole number of evaluations a picture, not None"),
        ("class Tiny", "class Other", "galip.py has no Tiny"),
        ("def encode", "def embed", "galip.py has no Tiny.encode"),
        ('"weight"', '"wait"', "galip.py:12: KeyError: 'wait'"),
        ("import torch\n", "import no_such_package\n", "galip.py:2: ModuleNotFoundError: No module"),
        (".clone()", "[:, :1]", "generate gave torch.float32 (1, 1, 8, 8) instead of real numbers (1, 3, 8, 8)"),
        (".clone()", ".numpy()", "generate gave ndarray instead of"),
        (".clone()", ".mul(127)", "generate gave numbers beyond 2: pictures are in [-1, 1]"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_do_as_it_should_is_one_line(galip, old, new, said):
    assert ADAPTER.count(old) == 1
    with pytest.raises(SystemExit) as e:
        galip(ADAPTER.replace(old, new))(["a caption"], [0])
    assert said in e.value.message
    assert "\n" not in e.value.message


def test_code_that_lies_among_the_models_is_not_run(galip, capsys):
    with pytest.raises(SystemExit, match="lies in the folder of models: what comes with a checkpoint is not run"):
        galip(f"print('this ran')\n{ADAPTER}", file="models/galip/galip.py")
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "said"), [("galip.py", "must be path/to/file.py:Name"), ("none.py:Tiny", "there is no file none.py")]
)
def test_a_module_that_is_not_there_is_one_line(galip, module, said):
    with pytest.raises(SystemExit, match=said):
        galip(module=module)


def test_pickles_that_a_users_file_would_read_must_be_allowed(galip, tmp_path):
    torch.save({}, tmp_path / "models" / "galip" / "generator.pth")
    with pytest.raises(SystemExit, match=r"generator\.pth: is pickled, and what reads it is galip\.py's own affair"):
        galip()
    assert galip(allow_pickle=True).nfe == 1


# --------------------------------------------------------------------------------------------------- finished pictures


def finished(models, beside="red\nblue\nred\n", sizes=(8, 8, 8), **fields):
    """Three pictures of one colour each, and a sampler that hands them out."""
    folder = models / "made"
    folder.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        Image.new("RGB", (size, size), (i, 0, 0)).save(folder / f"{i}.png")
    if beside:
        (folder / "captions.txt").write_text(beside)
    return samplers.load(
        Pretrained(**{"name": "made", "label": "Made", "folder": "made", "adapter": "images"} | fields), models, CPU
    )


def test_a_finished_picture_is_found_by_its_caption_and_among_several_by_the_seed(tmp_path):
    sampler = finished(tmp_path)
    assert sampler.resolution == 8
    assert sampler(["blue", "red", "red", "red"], [7, 0, 2, 5])[:, 0, 0, 0].tolist() == [1, 0, 2, 2]
    drawn = sampler.generate(sampler.encode(["red"]), [2])
    assert drawn.shape == (1, 3, 8, 8)
    assert torch.allclose(drawn[0, :, 0, 0], torch.tensor([2 / 127.5 - 1, -1.0, -1.0]))


def test_other_captions_are_another_digest(tmp_path):
    sha = finished(tmp_path).sha
    assert finished(tmp_path, sha256=sha).sha == sha
    assert finished(tmp_path, beside="red\nblue\ngreen\n").sha != sha
    (tmp_path / "captions.txt").write_text("red\nblue\nred\n")
    assert finished(tmp_path, captions="captions.txt").sha == sha


def test_finished_pictures_say_that_there_is_nothing_to_time(tmp_path):
    sampler = finished(tmp_path)
    assert sampler.description == "3 finished pictures of made, 8 px: nothing to time"
    assert (sampler.timeable, sampler.separable, sampler.nfe) == (False, False, None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beside": ""}, "the pictures have no captions"),
        ({"sizes": (8, 8)}, "3 captions for 2 images"),
        ({"resolution": 16}, "is 8 x 8 px, not 16 x 16"),
        ({"sha256": 64 * "0"}, "its files are other ones than expected"),
    ],
    ids=str,
)
def test_finished_pictures_that_do_not_fit_are_one_line(tmp_path, fields, said):
    with pytest.raises(SystemExit, match=said):
        finished(tmp_path, **fields)


def test_a_caption_without_a_picture_and_a_picture_of_another_size_are_named(tmp_path):
    with pytest.raises(SystemExit, match="has no picture for the caption 'green'"):
        finished(tmp_path)(["green"], [0])
    with pytest.raises(SystemExit, match=r"1\.png: is 16 x 16 px, the first 8 x 8"):
        finished(tmp_path, sizes=(8, 16, 8))(["blue"], [0])


# -------------------------------------------------------------------------------------------------------------- AuraSR


class AuraSR:
    """What the package of that name offers, as far as it is used: its noise is of torch's own generator."""

    def __init__(self, config, device):
        self.upsampler = nn.Linear(config["width"], 1, bias=False).to(device)

    def upscale_4x(self, picture):
        large = np.asarray(picture.resize((4 * picture.width, 4 * picture.height), Image.Resampling.NEAREST))
        noise = torch.randint(0, 5, large.shape).numpy()
        return Image.fromarray((large + 100 * self.upsampler.weight.item() + noise).astype(np.uint8))

    def upscale_4x_overlapped(self, picture):
        return Image.fromarray(np.asarray(self.upscale_4x(picture)) // 2)


def aura(models, **fields):
    finished(models)
    folder = models / "AuraSR"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"width": 1}))
    save_file({"weight": torch.ones(1, 1)}, folder / "model.safetensors")
    usual = {"name": "aura", "label": "AuraSR", "folder": "AuraSR", "adapter": "aura_sr", "images": "made"}
    return samplers.load(Pretrained(**usual | fields), models, CPU)


def test_aura_sr_enlarges_finished_pictures_and_each_by_its_own_seed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aura_sr", types.SimpleNamespace(AuraSR=AuraSR))
    sampler = aura(tmp_path)
    large = sampler(["blue", "red"], [4, 2])
    assert large.shape == (2, 32, 32, 3)
    assert (sampler.resolution, sampler.params_m, sampler.timeable) == (32, 1e-6, False)
    assert (sampler(["red"], [2])[0] == large[1]).all()
    assert 101 <= large[0, ..., 0].min() <= large[0, ..., 0].max() <= 105
    assert (aura(tmp_path, options={"overlapped": True})(["red"], [2])[0] == large[1] // 2).all()


def test_aura_sr_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aura_sr", None)
    with pytest.raises(SystemExit, match=r"needs a package that is not installed .*: pip install aura-sr"):
        aura(tmp_path)
    monkeypatch.setitem(sys.modules, "aura_sr", types.SimpleNamespace(AuraSR=AuraSR))
    with pytest.raises(SystemExit, match="8 px come to 32, not 64"):
        aura(tmp_path, resolution=64)
    with pytest.raises(SystemExit, match="AuraSR takes overlapped, not 'tiles'"):
        aura(tmp_path, options={"tiles": 2})
    with pytest.raises(SystemExit, match=r"AuraSR-v2 is not there: put AuraSR's model\.safetensors and config\.json"):
        aura(tmp_path, folder="AuraSR-v2")
