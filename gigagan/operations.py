"""Floating-point operations of matrix products, convolutions and attention, counted as they are run; a multiply-add is
two.

PyTorch's own counter does not go with the second derivative of R1, so this one asks its formulas, but for one: its
gradient of a convolution counts the groups of adaptive kernels, a group a picture, once too often.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def _convolution_backward(out: Tensor, x: Tensor, weight: Tensor, *more: Any, **_: Any) -> int:
    transposed, wanted = more[4], more[7]
    forward = 2 * (x if transposed else out).numel() * math.prod(weight.shape[1:])
    return forward * sum(wanted[:2])  # the gradients of input and weights cost as much as the forward pass each


FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: _convolution_backward}


class Operations(TorchDispatchMode):
    """``total`` grows with all that is run within. Kernels that torch does not know are not counted, nor is what is
    compiled: count before compiling."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(operation._overloadpacket)
        if formula is None and torch.is_inference_mode_enabled() and operation.namespace == "aten":
            with self:  # in inference mode, what is made of other operations comes whole
                if (result := operation.decompose(*args, **kwargs)) is not NotImplemented:
                    return result
        result = operation(*args, **kwargs)
        if formula:
            self.total += formula(*args, **kwargs, out_val=result)
        return result
