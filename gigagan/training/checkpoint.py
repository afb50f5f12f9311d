"""Everything a run needs to go on exactly where it stopped, in one safetensors file.

No random state is kept: all randomness is a function of the seed and of the number of images seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gigagan import tensor_file
from gigagan.errors import UserError

KEEP = 2  # the newest and, in case it is lost, the one before


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, object]) -> None:
    """Write tensors and a JSON header, whole. Raises UserError where they cannot be written (a full disk)."""
    tensor_file.write(path, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, about)


def load_tensors(
    path: Path, remedy: str = "delete it to go on from the one before"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_tensors`` wrote. Raises UserError for a missing, truncated or foreign file."""
    arrays, about = tensor_file.read(path, remedy)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, about


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

    def save(self, images: int, counts: dict[str, Any]) -> None:
        """``counts``: what else the run has counted so far, as JSON can hold it."""
        tensors = {f"{n}/{name}": t for n, net in self.networks.items() for name, t in net.state_dict().items()}
        for n, optimizer in self.optimizers.items():
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{n}/{i}/{name}": value for name, value in state.items()}
        about = {"images": images, "counts": counts, "recipe": self.recipe}
        save_tensors(self.folder / f"{images:012d}.safetensors", tensors, about)
        for old in self.files()[:-KEEP]:
            old.unlink()

    def resume(self) -> tuple[int, dict[str, Any]]:
        """Load the newest checkpoint; returns the images it has seen and its counts, 0 and none where there is none.

        Raises UserError if it cannot be read or comes from another recipe.
        """
        for unfinished in self.folder.glob(".*.tmp.safetensors"):  # of a process that was killed while it wrote
            unfinished.unlink(missing_ok=True)
        files = self.files()
        if not files:
            return 0, {}
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
        return about["images"], about.get("counts", {})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
