"""Frozen CLIP models: text features for both networks, the CLIP loss that guides the generator, the eyes of the judge.

Weights come only from files that are already on this machine: nothing is downloaded, and nothing in a file is executed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gigagan import pretrained
from gigagan.config import Config
from gigagan.errors import UserError, nearest
from gigagan.files import sha256

LOCAL_DIR = "local-dir:"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
# The names that open_clip itself looks for in a folder, in its order of preference.
WEIGHTS_FILES = (WEIGHTS_FILE, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
                 "model.safetensors", "pytorch_model.bin")  # fmt: skip
VOCABULARY = 49408
"""Entries of the byte-pair vocabulary that ships inside open_clip."""
END = VOCABULARY - 1
"""The end token."""
RANDOM = "random"
"""The tag of a model with random weights, always the same ones: to try out a size, not to learn anything from."""
# OpenAI trained with QuickGELU, and a file named by its path does not say whose it is.
QUICK_GELU = frozenset({
    "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",  # ViT-B/32 as open_clip fetches it
    "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",  # ViT-L/14
})  # fmt: skip
OPENAI_SETTINGS = ("input_resolution", "context_length", "vocab_size")  # stand among the tensors of OpenAI's own files


class Source(NamedTuple):
    """Where a CLIP comes from: open_clip's ``model_cfg`` and ``preprocess_cfg``, and its file of weights, if it has
    one."""

    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path | None


class Clip(nn.Module):
    """One frozen open_clip model.

    Attributes:
        text_width: channels of the text features.
        context_length: tokens of a caption, start and end token included.
        embed_dim: width of the space that captions and images share.
        image_size: side of the images that the model sees, in pixels.
        feature_dim: width of ``image_features``.
        sha: hash of the file that the weights came from; empty for a model built without one.
        n_cut: captions so far that were longer than ``context_length`` and were cut.
    """

    def __init__(self, config: dict[str, Any], preprocess: dict[str, Any]) -> None:
        super().__init__()
        self.model = build(config)
        text = getattr(self.model, "text", self.model)
        self.text_width: int = text.token_embedding.embedding_dim
        self.context_length: int = text.context_length
        self.embed_dim: int = config["embed_dim"]
        size = self.model.visual.image_size
        self.image_size: int = size if isinstance(size, int) else size[0]
        self.feature_dim = _feature_dim(self.model.visual)
        self.n_cut = 0
        self.sha = ""

        import open_clip

        self.interpolation = "bilinear" if preprocess.get("interpolation") == "bilinear" else "bicubic"
        mean = torch.tensor(preprocess.get("mean") or open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
        std = torch.tensor(preprocess.get("std") or open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
        # From [-1, 1] to [0, 1] to CLIP's own scale, in one multiplication and one addition.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)

    @classmethod
    def load(cls, name: str, weights: str = "") -> Clip:
        """Load a frozen CLIP, computed in fp32 whatever its file stores.

        Args:
            name: ``local-dir:FOLDER`` or a folder with open_clip's configuration and weights; or the name of an
                open_clip model followed by one of its pretrained tags or a file (``ViT-L-14-quickgelu:openai``,
                ``ViT-B-32:b32.safetensors``). A tag's weights are taken from the usual cache; ``random`` needs none.
            weights: a file to take instead of the cache's.

        Raises:
            UserError: unknown model or tag; no such folder or file; a configuration, or weights, that cannot be read,
                hold more than tensors, or do not fit; a tag that was trained with the other GELU.
        """
        source = _folder(name, weights) or _registered(name, weights)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # for ``random``: what is filled in below is the same anyway
                clip = cls(source.config, source.preprocess)
        except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError) as e:
            raise UserError(f"CLIP {name}: open_clip cannot build a model of this configuration: {e}") from None
        if source.weights is None:
            clip.sha = hashlib.sha256(name.encode()).hexdigest()
        else:
            state = read_weights(source.weights)
            clip.sha = sha256(source.weights)
            if (clip.sha in QUICK_GELU or OPENAI_SETTINGS[0] in state) and not source.config.get("quick_gelu"):
                model = name.partition(":")[0]
                raise UserError(f"CLIP {name}: OpenAI trained with the other GELU; use {model}-quickgelu:FILE")
            _fill(clip.model, state, source.weights)
        return clip.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Clip:
        """Stay in evaluation mode, whatever ``mode``: a network around this one must not move its batch statistics."""
        return super().train(False)

    def tokenize(self, captions: list[str], prefix: str = "") -> Tensor:
        """Token indices, int64 ``[B, context_length]``; what is too long is cut before its end token and counted.

        ``prefix`` is put in as tokens of its own, behind the start token, as GigaGAN's evaluation does it.
        """
        import open_clip

        n = self.context_length
        # One place more than there is: what stands in it is the end token of a caption that is too long.
        tokens = open_clip.tokenize(captions, n + 1)
        if prefix:
            head = open_clip.tokenize([prefix], n)
            head = head[:, 1 : int(head.argmax())].expand(len(tokens), -1)  # without its start and its end token
            tokens = torch.cat([tokens[:, :1], head, tokens[:, 1:]], dim=1)
        cut = tokens[:, n] > 0
        tokens = tokens[:, :n].clone()
        tokens[cut, -1] = END
        self.n_cut += int(cut.sum())
        return tokens.to(self.scale.device)

    @torch.no_grad()
    def text_features(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, C, text_width]`` before the last residual block (the paper's penultimate layer), and the
        index ``[B]`` of each caption's end token; what stands behind it is padding."""
        if hasattr(self.model, "text"):
            text = self.model.text
            layer = text.transformer.layers - 2
            options = {"stop_early": True, "intermediates_only": True, "output_fmt": "NLC"}
            features = text.forward_intermediates(tokens, [layer], **options)["text_intermediates"][0]
        else:
            text = self.model
            layer = text.transformer.layers - 2
            x = text.token_embedding(tokens) + text.positional_embedding
            features = text.transformer.forward_intermediates(x, text.attn_mask, [layer], stop_early=True)[1][0]
        return features, tokens.argmax(1)  # the end token is the vocabulary's last entry

    @torch.no_grad()
    def embed_text(self, tokens: Tensor) -> Tensor:
        """Captions in the shared space, ``[B, embed_dim]`` of unit norm."""
        return self.model.encode_text(tokens, normalize=True)

    def embed_image(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] in the shared space, ``[B, embed_dim]`` of unit norm; differentiable."""
        return self.model.encode_image(self.preprocess(images), normalize=True)

    def see(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The image tower's feature maps, one ``[B, C, h, w]`` after each block, and ``embed_image``, in one pass."""
        out = self.model.visual.forward_intermediates(self.preprocess(images))
        return out["image_intermediates"], F.normalize(out["image_features"], dim=-1)

    @property
    def map_widths(self) -> list[int]:
        """Channels of every one of ``image_maps``."""
        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.scale.device)
        return [x.shape[1] for x in self.image_maps(blank)]

    def image_maps(self, images: Tensor) -> list[Tensor]:
        """The image tower's feature maps, one ``[B, C, h, w]`` after each block; differentiable."""
        return self.see(images)[0]

    def image_features(self, images: Tensor) -> Tensor:
        """What the image tower knows before its projection to the shared space, ``[B, feature_dim]``: a transformer's
        pooled and normalised output, a ResNet's last map averaged over its places, a timm model's pooled output."""
        x, visual = self.preprocess(images), self.model.visual
        if hasattr(visual, "trunk"):
            return visual.trunk(x)
        if hasattr(visual, "attnpool"):
            last = visual.forward_intermediates(x, indices=1, intermediates_only=True)["image_intermediates"][-1]
            return last.mean((2, 3))
        return visual._pool(visual.transformer(visual._embeds(x)))[0]

    def preprocess(self, images: Tensor) -> Tensor:
        """From ``[B, 3, H, W]`` in [-1, 1], of any size, to what the image tower takes."""
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode=self.interpolation, antialias=True)
        return images * self.scale + self.shift


class Clips(NamedTuple):
    """The frozen CLIPs of a run, where it has a use for them; they may be one, or three different ones."""

    text: Clip | None  # conditions (Sec. 3.2)
    guide: Clip | None  # the CLIP loss (Eq. 9), and the distance that stands in for LPIPS
    vision: Clip | None  # the vision-aided discriminator (Sec. 3.5)

    @classmethod
    def load(cls, config: Config, device: torch.device) -> Clips:
        """Those that a configuration names; each file is loaded once. Raises UserError as ``Clip.load``."""
        held: dict[str, Clip] = {}
        by_features = config.loss.perceptual == "clip" and config.loss.perceptual_weight > 0

        def clip(name: str, wanted: bool) -> Clip | None:
            if wanted and name not in held:
                held[name] = Clip.load(name)
                if device.type != "cpu":  # where it is already; and fake tensors, which only count, cannot be moved
                    held[name].to(device)
            return held[name] if wanted else None

        return cls(
            clip(config.text.clip, config.condition.kind == "text"),
            clip(config.loss.clip_model or config.text.clip, config.loss.clip_weight > 0 or by_features),
            clip(config.vision.clip or config.text.clip, config.vision.weight > 0),
        )

    @property
    def shas(self) -> dict[str, str]:
        """Hashes of their files, the text's by the name "clip"; of the others only where they are different ones."""
        text = {} if self.text is None else {"clip": self.text.sha}
        others = {"guide": self.guide, "vision": self.vision}
        return text | {name: c.sha for name, c in others.items() if c is not None and c is not self.text}


def build(config: dict[str, Any]) -> nn.Module:
    """An untrained open_clip model from its ``model_cfg``.

    Raises:
        UserError: its text tower or its tokenizer is not open_clip's own, or has no layer before its last.
    """
    import open_clip

    config = copy.deepcopy(config)
    _check_text_tower(config["text_cfg"])
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    custom_text = config.pop("custom_text", False)
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)


def _check_text_tower(text: dict[str, Any]) -> None:
    # These fetch a vocabulary or a configuration from a hub when they are built.
    if foreign := text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise UserError(f"CLIP: captions read by {foreign!r} need files from a hub; take a model with open_clip's own")
    if text.get("layers", 12) < 2 or text.get("vocab_size", VOCABULARY) < VOCABULARY:
        raise UserError(f"CLIP: a text tower needs 2 layers or more and open_clip's whole vocabulary ({VOCABULARY})")


def _feature_dim(visual: nn.Module) -> int:
    if hasattr(visual, "trunk"):
        return visual.trunk.num_features
    return visual.attnpool.k_proj.in_features if hasattr(visual, "attnpool") else visual.proj.shape[0]


def _folder(name: str, weights: str) -> Source | None:
    """The source in a folder of open_clip's layout; None if ``name`` does not mean a folder."""
    folder = Path(name.removeprefix(LOCAL_DIR))
    file = folder / CONFIG_FILE
    # A path, unlike a model's name, has a separator; a missing folder must not be taken for a misspelt model.
    if not (name.startswith(LOCAL_DIR) or folder.is_dir() or (os.sep in name and ":" not in name)):
        return None
    if not folder.is_dir():
        raise UserError(f"CLIP {name}: there is no folder {folder}; `python -m gigagan.pretrain_clip` makes one")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
        config["text_cfg"], config["vision_cfg"], config["embed_dim"]
    except FileNotFoundError:
        raise UserError(f"CLIP {name}: the folder has no {CONFIG_FILE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{file}: not an open_clip configuration ({type(e).__name__}: {e})") from None
    known = [folder / weights] if weights else [folder / f for f in WEIGHTS_FILES]
    found = next((path for path in known if path.is_file()), None)
    if found is None:
        raise UserError(f"CLIP {name}: the folder has no weights; put {known[0].name} beside {CONFIG_FILE}")
    return Source(config, preprocess, found)


def _registered(name: str, weights: str) -> Source:
    """The source of a model that open_clip knows by name."""
    import open_clip

    model, _, tag = name.partition(":")
    model = model.replace("/", "-")
    if model not in open_clip.list_models():
        raise UserError(f"CLIP {name}: open_clip has no model {model!r}{nearest(model, open_clip.list_models())}")
    config, trained = open_clip.get_model_config(model), open_clip.get_pretrained_cfg(model, tag)
    _check_text_tower(config["text_cfg"])
    if tag == RANDOM:
        return Source(config, {}, None)
    if tag and not trained:
        if not Path(tag).suffix:
            tags = open_clip.list_pretrained_tags_by_model(model)
            raise UserError(f"CLIP {name}: {model} has no pretrained weights {tag!r}{nearest(tag, tags)}")
        weights = weights or tag
    if trained and bool(trained.get("quick_gelu")) != bool(config.get("quick_gelu")):
        other = model.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{model}-quickgelu"
        raise UserError(f"CLIP {name}: these weights were trained with the other GELU; use {other}:{tag}")
    if weights and not Path(weights).is_file():
        raise UserError(f"CLIP {name}: there is no file of weights {weights}")
    if not weights and not trained:
        raise UserError(f"CLIP {name}: name its weights, as {model}:TAG or {model}:FILE.safetensors")
    return Source(config, trained, Path(weights) if weights else _cached(name, trained))


def _cached(name: str, trained: dict[str, Any]) -> Path:
    """The file of a pretrained tag: of a known one by its checksum, of others in the cache where open_clip keeps it;
    never fetched."""
    if known := pretrained.of_clip(name):
        return pretrained.find(known)
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, file = trained.get("hf_hub", "").rpartition("/")
    if repository:
        wanted = Path(file).with_suffix(".safetensors").name if file else WEIGHTS_FILES[0]
        for candidate in filter(None, (wanted, *WEIGHTS_FILES, file)):
            path = try_to_load_from_cache(repository, candidate)
            if isinstance(path, str):
                return Path(path)
        missing = f"`hf download {repository} {wanted}` puts them into {constants.HF_HUB_CACHE}"
    else:
        path = Path("~/.cache/clip").expanduser() / Path(trained["url"]).name
        if path.is_file():
            return path
        missing = f"put {path.name} into {path.parent}"
    model = name.partition(":")[0]
    raise UserError(f"CLIP {name}: its weights are not on this machine; {missing}, or name a file: {model}:FILE")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a ``torch.save`` file that holds nothing but tensors."""
    from safetensors.torch import load_file

    if _is_torchscript(path):
        raise UserError(
            f"{path}: a TorchScript archive, as OpenAI's own downloads are: to load one is to run code. Take the same "
            "weights as open_clip fetches them: `hf download timm/vit_large_patch14_clip_224.openai "
            "open_clip_model.safetensors` (vit_base_patch32_clip_224.openai for ViT-B/32)"
        )
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as e:  # a broken file breaks its readers in many ways
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise UserError(f"{path}: not weights that can be read safely, and nothing in it was run: {reason}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: this file does not hold a model's named tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):  # whatever it is, its reader will say
        return False


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Copy ``state`` into ``model``; unlike open_clip's own loader it resizes nothing, so that a misfit shows."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(model, {key: value for key, value in state.items() if key not in OPENAI_SETTINGS})
    if hasattr(model, "text"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    if "logit_scale" in state:  # a number or a vector of one, depending on the release that saved it
        state["logit_scale"] = state["logit_scale"].reshape(expected["logit_scale"].shape)
    if missing := sorted(expected.keys() - state.keys()):
        raise UserError(f"{path}: weights of another model: {len(missing)} tensors are missing, such as {missing[0]}")
    if surplus := sorted(state.keys() - expected.keys()):
        raise UserError(f"{path}: weights of another model: {len(surplus)} tensors are unknown, such as {surplus[0]}")
    for key, value in expected.items():
        if state[key].shape != value.shape:
            shapes = f"{list(state[key].shape)}, not {list(value.shape)}"
            raise UserError(f"{path}: weights of another model: {key} has the shape {shapes}")
    model.load_state_dict(state)
