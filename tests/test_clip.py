"""CLIP: what is loaded, what it computes, what it refuses; and the pretraining of small ones."""

from __future__ import annotations

import csv
import json
import os
import pickle
import socket

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from gigagan.clip import CONFIG_FILE, LOCAL_DIR, WEIGHTS_FILE, Clip, build
from gigagan.errors import UserError

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 3}
VIT = {"image_size": 16, "patch_size": 8, "width": 12, "head_width": 6, "layers": 2}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 2, "head_width": 16}
COCA = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
CONFIGS = {
    "vit": {"embed_dim": 6, "vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {"embed_dim": 6, "vision_cfg": RESNET, "text_cfg": TEXT, "quick_gelu": True},
    "custom": {"embed_dim": 6, "vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "averaged": {"embed_dim": 6, "vision_cfg": VIT | {"pool_type": "avg"}, "text_cfg": TEXT | {"no_causal_mask": True}},
}
CAPTIONS = ["a red circle", "a small blue square on green", "x"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def make_folder(path, kind="vit", preprocess=None):
    """A folder in open_clip's layout with random weights of small tensors that are no longer all zeros and ones."""
    torch.manual_seed(0)
    config = CONFIGS[kind]
    state = {k: torch.rand_like(v) if "running_var" in k else v for k, v in build(config).state_dict().items()}
    path.mkdir(exist_ok=True)
    (path / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess or {}}))
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path / WEIGHTS_FILE)
    return path


@pytest.fixture(params=CONFIGS)
def clip(request, tmp_path):
    return Clip.load(f"{LOCAL_DIR}{make_folder(tmp_path / 'clip', request.param)}")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A small model that open_clip knows by name, with the pretrained tag ``mine``, and a folder with its weights."""
    folder = make_folder(tmp_path / "files")
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CONFIGS["vit"]))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    tag = {"hf_hub": "somebody/tiny-clip/", "mean": (0.5,) * 3, "std": (0.25,) * 3, "quick_gelu": False}
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "tiny-clip", {"mine": tag, "other": tag | {"quick_gelu": True}}
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return folder


def test_text_features_are_what_enters_the_last_block(clip):
    seen = []
    text = getattr(clip.model, "text", clip.model)
    text.transformer.resblocks[-1].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs.get("q_x", args[0] if args else None)), with_kwargs=True
    )
    tokens = clip.tokenize(CAPTIONS)
    clip.model.encode_text(tokens)
    features, end = clip.text_features(tokens)
    assert features.shape == (3, 12, clip.text_width)
    assert torch.equal(features, seen[0])
    assert (tokens[range(3), end] == 49407).all()
    assert end.tolist() == [4, 7, 2]


def test_embeddings_are_open_clips_own(clip):
    images = torch.rand(2, 3, clip.image_size, clip.image_size) * 2 - 1
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    expected = clip.model.encode_image((images / 2 + 0.5 - mean) / std, normalize=True)
    torch.testing.assert_close(clip.embed_image(images), expected)
    tokens = clip.tokenize(CAPTIONS)
    assert torch.equal(clip.embed_text(tokens), clip.model.encode_text(tokens, normalize=True))
    assert clip.embed_text(tokens).shape == (3, clip.embed_dim)


def test_image_features_are_what_enters_the_projection(clip):
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    features, visual = clip.image_features(images), clip.model.visual
    assert features.shape == (2, clip.feature_dim)
    if hasattr(visual, "attnpool"):
        maps = []
        visual.layer4.register_forward_hook(lambda _, __, out: maps.append(out))
        clip.embed_image(images)
        torch.testing.assert_close(features, maps[0].mean((2, 3)))
    else:
        torch.testing.assert_close(F.normalize(features @ visual.proj, dim=1), clip.embed_image(images))


def test_images_of_any_size_and_their_gradient(clip):
    for size in (8, 16, 40):
        images = torch.zeros(2, 3, size, size).uniform_(-1, 1).requires_grad_()
        embedded = clip.embed_image(images)
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))
        embedded[:, 0].sum().backward()
        assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in clip.parameters())


def test_it_stays_frozen_in_a_network_that_trains(clip):
    before = {k: v.clone() for k, v in clip.state_dict().items()}
    torch.nn.ModuleList([clip]).train()
    clip.embed_image(torch.randn(4, 3, 16, 16))
    assert not any(module.training for module in clip.modules())
    assert all(torch.equal(v, before[k]) for k, v in clip.state_dict().items())


def test_long_captions_are_cut_before_the_end_token_and_counted(clip):
    fits, long = " ".join(["red"] * 10), " ".join(["red"] * 11)
    tokens = clip.tokenize([fits, long, "", "Ünï ☂"])
    assert torch.equal(tokens, open_clip.tokenize([fits, long, "", "Ünï ☂"], 12))
    assert tokens[1, -1] == 49407
    assert clip.n_cut == 1
    clip.tokenize([long])
    assert clip.n_cut == 2


def official(captions: list[str]) -> torch.Tensor:
    """The recipe of GigaGAN's evaluation, step by step: 77 places, three tokens behind the start, the last one an end
    token wherever a caption reaches it."""
    tokens = open_clip.tokenize(captions)
    prefix = open_clip.tokenize(["A photo depicts "])[:, 1:4].expand(len(tokens), -1)
    tokens = torch.cat([tokens[:, :1], prefix, tokens[:, 1:]], dim=1)[:, :77]
    last = tokens[:, 76:77]
    last[last > 0] = 49407
    return torch.cat([tokens[:, :76], last], dim=1)


LISTS = {"coco2014_val_captions_5k.tsv": (5000, "caption"), "parti_prompts.tsv": (1632, "Prompt")}


@pytest.mark.parametrize("name", LISTS)
def test_a_prefix_becomes_the_tokens_of_the_official_evaluation(tmp_path, shared, name):
    with open(shared / "prompts" / name, encoding="utf-8", newline="") as file:
        captions = [row[LISTS[name][1]] for row in csv.DictReader(file, delimiter="\t")]
    assert len(captions) == LISTS[name][0]
    captions += ["word " * n for n in (71, 72, 73, 74, 75, 76, 200)] + [""]
    clip = Clip.load(str(make_folder(tmp_path / "clip")))
    clip.context_length = 77
    tokens = clip.tokenize(captions, "A photo depicts ")
    assert torch.equal(tokens, official(captions))
    assert clip.n_cut == sum(len(open_clip.tokenizer._tokenizer.encode(caption)) > 72 for caption in captions)


@pytest.mark.parametrize("name", ["ViT-L-14-quickgelu", "ViT-B-32-quickgelu"])
def test_the_papers_clips_have_openais_gelu_in_both_towers(name):
    with torch.device("meta"):
        model = build(open_clip.get_model_config(name))
    kinds = {type(module).__name__ for module in model.modules() if "GELU" in type(module).__name__}
    assert kinds == {"QuickGELU"}


def test_openais_own_file_is_known_by_what_else_stands_in_it(tiny, tmp_path):
    state = load_file(tiny / WEIGHTS_FILE)
    settings = {"input_resolution": torch.tensor(16), "context_length": torch.tensor(12), "vocab_size": torch.tensor(9)}
    torch.save({**state, **settings}, tmp_path / "openai.pt")
    with pytest.raises(UserError, match="OpenAI trained with the other GELU; use tiny-clip-quickgelu:FILE"):
        Clip.load(f"tiny-clip:{tmp_path / 'openai.pt'}")
    quick = CONFIGS["vit"] | {"quick_gelu": True}
    (tmp_path / "tiny-clip-quickgelu.json").write_text(json.dumps(quick))
    open_clip.add_model_config(tmp_path / "tiny-clip-quickgelu.json")
    clip = Clip.load(f"tiny-clip-quickgelu:{tmp_path / 'openai.pt'}")
    assert all(torch.equal(v, state[k].float()) for k, v in clip.model.state_dict().items())


def test_a_torchscript_archive_is_refused_unread(tiny, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-L-14.pt")
    with pytest.raises(UserError, match=r"to load one is to run code.*hf download"):
        Clip.load(f"tiny-clip:{tmp_path / 'ViT-L-14.pt'}")


def test_random_weights_are_always_the_same_and_leave_torchs_own_numbers_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = Clip.load("tiny-clip:random")
    assert torch.equal(torch.rand(3), expected)
    again = Clip.load("tiny-clip:random")
    assert one.sha == again.sha
    assert len(one.sha) == 64
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.model.state_dict().items())
    assert one.embed_text(one.tokenize(CAPTIONS)).std() > 0


def test_a_folder_is_named_in_three_ways_and_its_weights_are_computed_in_fp32(tmp_path):
    folder = make_folder(
        tmp_path / "clip", preprocess={"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    )
    clips = [Clip.load(name) for name in (f"{LOCAL_DIR}{folder}", str(folder), f"{folder}/")]
    clips.append(Clip.load(str(folder), str(folder / WEIGHTS_FILE)))
    stored = load_file(folder / WEIGHTS_FILE)
    for clip in clips:
        state = clip.model.state_dict()
        assert all(v.dtype == torch.float32 for v in state.values())
        assert all(torch.equal(v, stored[k].float()) for k, v in state.items())
        images = torch.rand(1, 3, 16, 16)
        assert torch.equal(clip.preprocess(images), images)
        assert clip.interpolation == "bilinear"


def test_registered_models_take_their_weights_from_a_file_or_the_cache(tiny, tmp_path):
    file = tiny / WEIGHTS_FILE
    torch.save({"state_dict": {f"module.{k}": v for k, v in load_file(file).items()}}, tmp_path / "tiny.pt")
    plain = [
        Clip.load(f"tiny-clip:{file}"),
        Clip.load("tiny-clip", str(file)),
        Clip.load(f"tiny-clip:{tmp_path}/tiny.pt"),
    ]
    tokens = plain[0].tokenize(CAPTIONS)
    assert all(torch.equal(plain[0].embed_text(tokens), clip.embed_text(tokens)) for clip in plain)

    with pytest.raises(UserError, match=r"hf download somebody/tiny-clip open_clip_model.safetensors.*tiny-clip:FILE"):
        Clip.load("tiny-clip:mine")
    entry = tmp_path / "cache" / "models--somebody--tiny-clip"
    (entry / "snapshots" / "1").mkdir(parents=True)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("1")
    file.rename(entry / "snapshots" / "1" / WEIGHTS_FILE)
    cached = Clip.load("tiny-clip:mine")
    assert torch.equal(plain[0].embed_text(tokens), cached.embed_text(tokens))
    assert cached.scale.flatten().tolist() == [2.0] * 3  # the tag's own preprocessing


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-clip:other", "other GELU; use tiny-clip-quickgelu:other"),
        ("ViT-L-14:openai", "other GELU; use ViT-L-14-quickgelu:openai"),
        ("ViT-B-32-quickgelu:laion2b_s34b_b79k", "no pretrained weights.*known: .*openai"),
        ("tiny-clap:mine", "no model 'tiny-clap'.*did you mean 'tiny-clip'"),
        ("tiny-clip:mint", "no pretrained weights 'mint'.*did you mean 'mine'"),
        ("tiny-clip", "name its weights"),
        ("tiny-clip:nowhere.safetensors", "no file of weights nowhere.safetensors"),
        ("ViT-B-16-SigLIP:webli", "need files from a hub"),
        ("local-dir:nowhere", "no folder nowhere"),
        ("some/where", "no folder some/where"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_names_that_mean_nothing_are_refused(name, message):
    with pytest.raises(UserError, match=message) as error:
        Clip.load(name)
    assert "\n" not in error.value.message


class Bomb:
    def __reduce__(self):
        return os.system, ("touch executed",)


def spoil(folder, how):
    """Damage one thing in a good folder."""
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    state = load_file(weights)
    match how:
        case "no config":
            config.unlink()
        case "garbled config":
            config.write_text('{"model_cfg": ')
        case "empty config":
            config.write_text("[]")
        case "half a config":
            config.write_text(json.dumps({"model_cfg": {"embed_dim": 6, "text_cfg": TEXT}}))
        case "unknown key":
            config.write_text(json.dumps({"model_cfg": CONFIGS["vit"] | {"depth": 3}}))
        case "one text layer":
            config.write_text(json.dumps({"model_cfg": CONFIGS["vit"] | {"text_cfg": TEXT | {"layers": 1}}}))
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "empty":
            weights.write_bytes(b"")
        case "shape":
            save_file(state | {"positional_embedding": torch.zeros(77, 8)}, weights)
        case "missing":
            save_file({k: v for k, v in state.items() if k != "ln_final.weight"}, weights)
        case "unknown":
            save_file(state | {"extra": torch.zeros(1)}, weights)
        case "pickle":
            weights.write_bytes(pickle.dumps(Bomb()))
        case "pickle in a torch file":
            weights.unlink()
            torch.save({"state_dict": Bomb()}, folder / "open_clip_pytorch_model.bin")
        case "not tensors":
            weights.unlink()
            torch.save([1, 2], folder / "open_clip_pytorch_model.bin")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", f"has no {CONFIG_FILE}"),
        ("garbled config", "not an open_clip configuration"),
        ("empty config", "not an open_clip configuration"),
        ("half a config", "not an open_clip configuration .*vision_cfg"),
        ("unknown key", "cannot build a model .*depth"),
        ("one text layer", "2 layers or more"),
        ("no weights", f"no weights; put {WEIGHTS_FILE}"),
        ("truncated", "not weights that can be read safely"),
        ("empty", "not weights that can be read safely"),
        ("shape", r"positional_embedding has the shape \[77, 8\], not \[12, 8\]"),
        ("missing", "missing, such as ln_final.weight"),
        ("unknown", "unknown, such as extra"),
        ("pickle", "nothing in it was run"),
        ("pickle in a torch file", "nothing in it was run"),
        ("not tensors", "does not hold a model's named tensors"),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path, monkeypatch, how, message):
    monkeypatch.chdir(tmp_path)
    spoil(make_folder(tmp_path / "clip"), how)
    with pytest.raises(UserError, match=message) as error:
        Clip.load("local-dir:clip")
    assert "\n" not in error.value.message
    assert not (tmp_path / "executed").exists()
