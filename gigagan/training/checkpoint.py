"""Everything a run needs to go on exactly where it stopped, in one safetensors file.

No random state is kept: all randomness is a function of the seed and of the number of images seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gigagan.errors import UserError
from gigagan.files import written_whole

KEEP = 2  # the newest and, in case it is lost, the one before


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, object]) -> None:
    """Write tensors and a JSON header, whole. Raises UserError where they cannot be written (a full disk)."""
    # A copy, because safetensors refuses memory that is shared or not contiguous (channels-last kernels).
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        with written_whole(path) as temporary:
            save_file(plain, temporary, metadata={"about": json.dumps(about)})
    except SafetensorError as e:  # what it makes of a full disk
        raise UserError(f"{path}: cannot be written ({e}): free some space and type the same command again") from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read what ``save_tensors`` wrote. Raises UserError for a missing, truncated or foreign file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as f:
        start = f.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise UserError(
            f"{path}: holds a pickle, which can run code when it is read; only safetensors files are loaded"
        )
    try:
        with safe_open(path, framework="pt") as f:
            about = json.loads((f.metadata() or {}).get("about", "{}"))
            return {name: f.get_tensor(name) for name in f.keys()}, about
    except (SafetensorError, json.JSONDecodeError, OSError, ValueError) as e:
        raise UserError(
            f"{path}: truncated or no safetensors file ({e}); delete it to go on from the one before"
        ) from None


def load_into(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Fill a module's parameters. Raises UserError naming the first tensors that do not fit."""
    wanted = {name: tuple(p.shape) for name, p in module.state_dict().items()}
    held = {name: tuple(t.shape) for name, t in tensors.items()}
    wrong = [
        f"{name} (wanted {wanted.get(name, 'nothing')}, found {held.get(name, 'nothing')})"
        for name in sorted(wanted.keys() | held.keys())
        if wanted.get(name) != held.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{where}: made with another config: {'; '.join(wrong[:3])}{more}")
    module.load_state_dict(tensors)


@dataclass
class Checkpoints:
    """The checkpoints of one run: ``<folder>/<images seen>.safetensors``, the newest ``KEEP`` of them."""

    folder: Path
    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    recipe: str

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def save(self, images: int, non_finite: int) -> None:
        tensors = {f"{n}/{name}": t for n, net in self.networks.items() for name, t in net.state_dict().items()}
        for n, optimizer in self.optimizers.items():
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{n}/{i}/{name}": value for name, value in state.items()}
        about = {"images": images, "non_finite": non_finite, "recipe": self.recipe}
        save_tensors(self.folder / f"{images:012d}.safetensors", tensors, about)
        for old in self.files()[:-KEEP]:
            old.unlink()

    def resume(self) -> tuple[int, int]:
        """Load the newest checkpoint; returns the images it has seen and the steps it left out, 0 where there is none.

        Raises UserError if it cannot be read or comes from another recipe.
        """
        for unfinished in self.folder.glob(".*.tmp.safetensors"):  # of a process that was killed while it wrote
            unfinished.unlink(missing_ok=True)
        files = self.files()
        if not files:
            return 0, 0
        tensors, about = load_tensors(files[-1])
        if about.get("recipe") != self.recipe:
            raise UserError(
                f"{files[-1]}: comes from another recipe ({about.get('recipe')}, this one is {self.recipe}): "
                f"train into another folder, or delete {self.folder} to start anew"
            )
        for n, network in self.networks.items():
            load_into(network, _below(tensors, n), files[-1])
        for n, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _below(tensors, n).items():
                i, key = name.split("/")
                state.setdefault(int(i), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return int(about["images"]), int(about["non_finite"])  # type: ignore[call-overload]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
