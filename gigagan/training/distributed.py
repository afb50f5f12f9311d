"""One process or many under ``torchrun``: who I am, what the others have, and everybody's mean."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gigagan import options


def start(device: str) -> torch.device:
    """Join the process group that torchrun's environment describes (if any) and pick this process's device.

    Raises UserError for a device that is not there.
    """
    chosen = options.device(device, local=int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Go on when all processes have come this far."""
    if world() > 1:
        dist.barrier()


def gather_tensor(x: Tensor) -> Tensor:
    """[b, ...] of every process -> [world * b, ...], in rank order, without gradients."""
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gather_objects(values: list[Any]) -> list[Any]:
    """The lists of all processes, joined in rank order."""
    if world() == 1:
        return values
    parts: list[list[Any]] = [[] for _ in range(world())]
    dist.all_gather_object(parts, values)
    return [value for part in parts for value in part]


def average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, all in one message."""
    if world() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
