"""Captions as they come in files: a line each, JSON lines, a table with a head, COCO's annotations.

They belong to pictures by name where the file names them, else by order. A file that names some of them, or other ones,
is refused: a caption beside the wrong picture would be scored without a word.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gigagan.data import captions as words
from gigagan.data.skipped import Unusable
from gigagan.errors import UserError

NAMES = ("file", "file_name", "filename")
CAPTIONS = ("caption", "prompt", "text")
_LINES = re.compile(r"\r\n|\n|\r")  # what else Python takes for the end of a line may stand in a caption


def read_captions(path: str | Path) -> list[str]:
    """All captions of a file in their order, whatever pictures it names.

    Raises UserError for a file that cannot be read.
    """
    path = Path(path)
    try:
        return parsed(path.name, path.read_bytes(), None, str(path))
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None


def parsed(kind: str, data: bytes, names: Sequence[str] | None, where: str) -> list[str]:
    """One caption for each of ``names``, from a file whose own name, ``kind``, says how it is written; without names
    all captions in their order.

    Raises UserError, which begins with ``where``, for a file that cannot be read, captions of another number than
    pictures (which one is missing or too much), and captions of other pictures.
    """
    suffix = PurePosixPath(kind).suffix.lower()
    readers = {".txt": _lines, ".jsonl": _json_lines, ".tsv": _table, ".csv": _table, ".json": _coco}
    if suffix not in readers:
        raise UserError(f"{where}: captions come as {', '.join(readers)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where}: is not UTF-8") from None
    return readers[suffix](text, names, where)


def of_one(data: bytes, where: str) -> str:
    """The caption in a picture's own text file."""
    try:
        return words.from_text(data)
    except Unusable as e:
        raise UserError(f"{where}: {e.reason}{f': {e.detail}' if e.detail else ''}") from None


def _lines(text: str, names: Sequence[str] | None, where: str) -> list[str]:
    lines = _LINES.split(text)
    while lines and not lines[-1].strip():
        lines.pop()
    return _in_order(lines, names, where)


def _table(text: str, names: Sequence[str] | None, where: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if where.lower().endswith(".tsv") else ",")
    try:
        heads = {head.lower(): head for head in rows.fieldnames or () if head}
        caption = next((heads[name] for name in CAPTIONS if name in heads), None)
        if caption is None:
            raise UserError(f"{where}: a table of captions needs a head with a column called caption or prompt")
        name = next((heads[name] for name in NAMES if name in heads), None)
        found = [(row[name] if name else None, row[caption] or "") for row in rows]
    except csv.Error as e:
        raise UserError(f"{where}: not a table that can be read: {e}") from None
    return _paired(found, names, where, others=True)


def _json_lines(text: str, names: Sequence[str] | None, where: str) -> list[str]:
    found = []
    for number, line in enumerate(_LINES.split(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{where}: line {number} is no JSON object")
        caption = next((row[key] for key in CAPTIONS if key in row), None)
        name = next((row[key] for key in NAMES if key in row), None)
        if not isinstance(caption, str) or not isinstance(name, str | None):
            raise UserError(f"{where}: line {number} has no caption, or a name that is no text")
        found.append((name, caption))
    named = sum(name is not None for name, _ in found)
    if names is not None and 0 < named < len(found):
        raise UserError(f"{where}: {named:,} of {len(found):,} lines name their image: name them all, or none")
    return _paired(found, names, where)


def _coco(text: str, names: Sequence[str] | None, where: str) -> list[str]:
    """COCO's annotations: of several captions of an image, the one with the lowest id."""
    if names is None:
        raise UserError(
            f"{where}: COCO's annotations hold several captions of each image: draw a list from them first, with "
            "evaluation.prompts"
        )
    try:
        content = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        several: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for a in content["annotations"]:
            several[files[a["image_id"]]].append((int(a["id"]), words.one_line(a["caption"])))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{where}: not COCO's captions ({type(e).__name__}: {e})") from None
    return _by_name({name: min(captions)[1] for name, captions in several.items()}, names, where)


def _paired(
    found: list[tuple[str | None, str]], names: Sequence[str] | None, where: str, others: bool = False
) -> list[str]:
    """By name where the file names its pictures, else in order; ``others``: the names may also be those of other
    pictures altogether, as COCO's are in a list of prompts."""
    captions = [caption for _, caption in found]
    if names is None or any(name is None for name, _ in found):
        return _in_order(captions, names, where)
    first: dict[str, str] = {}
    for name, caption in found:
        first.setdefault(str(name), caption)
    known = {PurePosixPath(name).stem for name in first}
    if others and not any(PurePosixPath(name).stem in known for name in names):
        return _in_order(captions, names, where)
    return _by_name(first, names, where)


def _in_order(found: list[str], names: Sequence[str] | None, where: str) -> list[str]:
    """Raises UserError, with the first that is left over, for other numbers."""
    names = [f"number {i + 1}" for i in range(len(found))] if names is None else names
    n, m = len(names), len(found)
    if n != m:
        left = f"the first image without one is {names[m]}" if m < n else f"the first too much is {found[n]!r:.60}"
        raise UserError(f"{where}: {m:,} captions for {n:,} images: {left}")
    for i, caption in enumerate(found):
        if not caption.strip():
            raise UserError(f"{where}: the caption of {names[i]} (number {i + 1}) is empty")
        try:
            caption.encode()
        except UnicodeEncodeError:
            raise UserError(f"{where}: the caption of {names[i]} (number {i + 1}) holds half a character") from None
    return found


def _by_name(found: dict[str, str], names: Sequence[str], where: str) -> list[str]:
    """By whole name, or by the file's own without its suffix, as generated pictures of JPEGs are PNGs as a rule."""
    own: dict[str, list[str]] = defaultdict(list)
    for name, caption in found.items():
        own[PurePosixPath(name).stem].append(caption)
    alike_names = Counter(PurePosixPath(name).stem for name in names)
    chosen: list[str | None] = []
    for name in names:
        stem = PurePosixPath(name).stem
        alike = own.get(stem, [])
        if name not in found and alike and (len(alike) > 1 or alike_names[stem] > 1):
            raise UserError(
                f"{where}: several images are called {stem}, and none of its captions is of {name}: name them with "
                "their folders"
            )
        chosen.append(found.get(name) or next(iter(alike), None))
    if missing := [name for name, caption in zip(names, chosen, strict=True) if caption is None]:
        raise UserError(
            f"{where}: {len(missing):,} of {len(names):,} images have no caption, the first is {missing[0]}"
        )
    return _in_order([caption or "" for caption in chosen], names, where)
