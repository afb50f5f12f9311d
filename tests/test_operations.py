"""Operations are counted with and without gradients, twice differentiated, and of grouped convolutions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gigagan.networks.attention import distance_attention
from gigagan.operations import Operations


def counted(call: Callable[[], object]) -> int:
    with Operations() as counter:
        call()
    return counter.total


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


CASES = {
    "matrices": (lambda: r(3, 5) @ r(5, 7), 2 * 3 * 5 * 7),
    "linear": (lambda: F.linear(r(2, 3, 5), r(7, 5), r(7)), 2 * 6 * 5 * 7),
    "convolution": (lambda: F.conv2d(r(2, 8, 6, 6), r(4, 8, 3, 3), padding=1), 2 * 2 * 36 * 4 * 8 * 9),
    "grouped": (lambda: F.conv2d(r(1, 8, 6, 6), r(4, 4, 3, 3), padding=1, groups=2), 2 * 36 * 4 * 4 * 9),
    "einsum": (lambda: torch.einsum("bi,nij->bnj", r(2, 8), r(3, 8, 5)), 2 * 2 * 8 * 3 * 5),
    "attention": (lambda: F.scaled_dot_product_attention(*r(3, 1, 2, 16, 8)), 2 * 2 * 2 * 16 * 16 * 8),
    "distances": (lambda: distance_attention(*r(3, 1, 2, 16, 8)), 2 * 2 * 2 * 16 * 16 * 8),
}


@pytest.mark.parametrize(("call", "wanted"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("inference", [True, False])
def test_operations_are_counted(call: Callable[[], Tensor], wanted: int, inference: bool) -> None:
    with torch.inference_mode(inference):
        assert counted(call) == wanted
        with FlopCounterMode(display=False) as theirs:
            call()
    assert theirs.get_total_flops() == wanted


@pytest.mark.parametrize("name", ["matrices", "convolution", "grouped"])
def test_gradients_cost_as_much_again_for_input_and_for_weights(name: str) -> None:
    call, forward = CASES[name]
    assert counted(lambda: call().sum().backward()) == 3 * forward


def test_second_derivatives_are_counted() -> None:
    a, b = r(3, 5), r(5, 7)

    def penalty() -> None:
        (slope,) = torch.autograd.grad((a @ b).square().sum(), a, create_graph=True)
        slope.square().sum().backward()

    one = 2 * 3 * 5 * 7
    assert counted(penalty) > 4 * one
