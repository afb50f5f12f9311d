"""Files are written whole: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import yaml

from gigagan.errors import UserError


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to ``path`` on success, remove it on any failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept last because writers (matplotlib, numpy, safetensors) choose a format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raises UserError where no file can be written into ``folder``, made if need be; nothing is left behind."""
    folder = Path(folder)
    new = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UserError(f"{folder}: cannot be written to: {e.strerror}") from None
    finally:
        for path in new:
            with suppress(OSError):
                path.rmdir()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | os.PathLike[str], rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML's own loader lets the last one win."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return node


class _AsWritten(_Once):
    """Leaves every value the text that it is written as: 0.30 stays 0.30."""

    yaml_implicit_resolvers: ClassVar = {}


def read_yaml(path: str | os.PathLike[str], as_written: bool = False) -> Any:
    """What a YAML file holds; ``as_written``: with values as text.

    Raises UserError, with the line, where that cannot be read or a key stands twice.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _AsWritten if as_written else _Once)
    except yaml.MarkedYAMLError as e:
        line = f"line {e.problem_mark.line + 1}: " if e.problem_mark else ""
        raise UserError(f"{path}: not valid YAML: {line}{e.problem}") from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: bytes that are no text, a date that is none
        raise UserError(f"{path}: not valid YAML: {e}") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None
