"""Counts floating-point operations where they happen, of tensors with and without data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def _convolution_backward(out: Any, x: Any, weight: Any, *more: Any, **_: Any) -> int:
    transposed, wanted = more[4], more[7]
    forward = 2 * (x if transposed else out).numel() * math.prod(weight.shape[1:])
    return forward * sum(wanted[:2])  # the pictures' gradient and the weights' cost as much as the forward pass


FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: _convolution_backward}


class FlopCounter(TorchDispatchMode):
    """Under it, ``flops`` grows by what convolutions, products of matrices and attention take; a multiplication with
    its addition is two.

    PyTorch's own counter does not go with the second derivative of R1, so this one asks its formulas, but for one: its
    gradient of a convolution counts the groups of adaptive kernels, a group a picture, once too often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if formula := FORMULAS.get(operation._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result
