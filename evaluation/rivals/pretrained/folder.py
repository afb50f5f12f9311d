"""What lies in a model's folder, looked at without loading anything: parts, weights, pickles, and one digest of all."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gigagan.errors import UserError
from gigagan.files import sha256

INDEX = "model_index.json"
SAFE, PICKLED = (".safetensors",), (".bin", ".pt", ".pth", ".ckpt")
WEIGHTLESS = ("tokenizer", "scheduler", "feature_extractor", "image_processor", "processor")
"""Parts of a pipeline without weights, by how their names begin."""
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Whence a pipeline's parts may come; the last is diffusers' own name for the module of its safety checker."""


def below(models: Path, name: str, what: str) -> Path:
    """``models/name``. Raises UserError where it is not there, saying what is to be put where."""
    if not models.is_dir():
        raise UserError(f"there is no folder of models {models}: make it, and put each model into a folder of its own")
    path = models / name
    if not path.exists():
        raise UserError(f"{path} is not there: put {what} there")
    return path


def model_folder(models: Path, name: str) -> Path:
    """A pipeline's folder. Raises UserError as ``below``, and for a file."""
    path = below(models, name, f"the files of the model's repository, with {INDEX} on top,")
    if not path.is_dir():
        raise UserError(f"{path}: is a file: a pipeline is a folder with {INDEX}")
    return path


def read_index(folder: Path) -> dict[str, Any]:
    """model_index.json. Raises UserError where the folder is no pipeline's, or one that brings code of its own."""
    path = folder / INDEX
    if not path.is_file():
        raise UserError(
            f"{folder}: is no pipeline's folder: it has no {INDEX}; put the repository's files there as they are"
        )
    index = read_json(path)
    if not isinstance(index.get("_class_name"), str):
        raise UserError(f"{path}: names no pipeline of diffusers but code of its own, which is not run")
    for part, (library, _) in parts(index).items():
        if library not in LIBRARIES:
            raise UserError(f"{path}: {part} is of {library!r}, which is not loaded: only {', '.join(LIBRARIES)} are")
    return index


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError for a file that is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: is not JSON ({e}): bring the file again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON object: bring the file again")
    return found


def parts(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """{part: (library, class)} of those that a pipeline has."""
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
    }


def files_of(folder: Path, part: str, variant: str, allow_pickle: bool, weights: bool = True) -> list[Path]:
    """A part's files that are loaded: what describes it and, with ``weights``, the weights.

    Raises UserError where the part, its configuration or its weights lack, or the weights are pickled.
    """
    place = folder / part if part else folder
    if not place.is_dir():
        raise UserError(f"{folder}: lacks {part}: put that folder of the repository there, too")
    described = [path for path in sorted(place.iterdir()) if path.suffix in (".json", ".txt", ".model")]
    described = [path for path in described if ".index." not in path.name]
    if not described:
        raise UserError(f"{place}: has no configuration: put that folder of the repository there as it is")
    if not weights or part.startswith(WEIGHTLESS):
        return described
    if not (place / "config.json").is_file():
        raise UserError(f"{place}: lacks config.json: put that folder of the repository there as it is")
    return [*described, *_weights(place, variant, allow_pickle)]


def _weights(place: Path, variant: str, allow_pickle: bool) -> list[Path]:
    stem = r"(?:diffusion_pytorch_model|pytorch_model|model)"
    shard = r"(?:-\d+-of-\d+)?"
    named = re.compile(rf"{stem}{re.escape(f'.{variant}' if variant else '')}{shard}")
    files = [path for path in sorted(place.iterdir()) if path.suffix in SAFE + PICKLED]
    safe = [path for path in files if path.suffix in SAFE and named.fullmatch(path.stem)]
    if safe:
        return [*safe, *_shards(place, variant, safe)]
    pickled = [path for path in files if path.suffix in PICKLED and named.fullmatch(path.stem)]
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise UserError(
            f"{pickled[0]}: only pickled weights are there: bring the .safetensors, or say allow_pickle: true (then "
            "they are read as tensors alone)"
        )
    others = sorted({m[1] for path in files if (m := re.fullmatch(rf"{stem}\.(\w+?){shard}", path.stem))} | {""})
    if variant or len(others) > 1:
        plain = any(re.fullmatch(stem + shard, path.stem) for path in files)
        have = [f"variant: {other}" for other in others if other] + ["no variant"] * plain
        asked = f"of the variant {variant}" if variant else "without a variant"
        raise UserError(f"{place}: has no weights {asked}; say {' or '.join(have) or 'what is there'}")
    raise UserError(f"{place}: has no weights: put its .safetensors there")


def _shards(place: Path, variant: str, safe: list[Path]) -> list[Path]:
    """The list of shards, where there is one. Raises UserError for a shard that lacks."""
    ends = f".safetensors.index{f'.{variant}' if variant else ''}.json"
    lists = [path for path in sorted(place.iterdir()) if path.name.endswith(ends)]
    for path in lists:
        wanted = set(read_json(path).get("weight_map", {}).values())
        if lacking := sorted(wanted - {shard.name for shard in safe}):
            raise UserError(f"{place}: lacks {lacking[0]} ({len(lacking)} of {len(wanted)} files): bring it")
    return lists


def weights_file(path: Path, allow_pickle: bool) -> Path:
    """A file of weights, or the only one of a folder. Raises UserError for none, several, or pickled ones."""
    if path.is_dir():
        found = [file for file in sorted(path.iterdir()) if file.suffix in SAFE]
        found = found or [file for file in sorted(path.iterdir()) if file.suffix in PICKLED]
        if len(found) != 1:
            raise UserError(f"{path}: holds {len(found)} files of weights: name the one that is meant")
        path = found[0]
    if path.suffix in PICKLED and not allow_pickle:
        raise UserError(f"{path}: is pickled: bring a .safetensors file, or say allow_pickle: true")
    if path.suffix not in SAFE + PICKLED:
        raise UserError(f"{path}: is no file of weights by its name: they end in {', '.join(SAFE + PICKLED)}")
    return path


@functools.cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256(path)


def digest(files: Iterable[Path], root: Path, *further: str) -> str:
    """sha256 over names, as they lie below ``root``, and contents, and over ``further`` digests; each file is read once
    in a process."""
    total = hashlib.sha256("".join(further).encode())
    for path in sorted(set(files)):
        stat = path.stat()
        total.update(f"{path.relative_to(root).as_posix()}\0{_sha256(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return total.hexdigest()
