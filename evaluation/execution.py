"""How networks are run when their speed is measured: dtype, layout of weights, compilation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from gigagan.errors import UserError
from gigagan.inference import Dtype

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODES = ("none", "default", "reduce-overhead", "max-autotune")
"""Of ``torch.compile``."""


@dataclass(frozen=True)
class Execution:
    """Raises UserError for what the device cannot do.

    Attributes:
        dtype: a key of DTYPES. bf16 and fp16: matrices and convolutions by autocast, as in training, with weights that
            are kept so; tf32: of fp32 numbers, on a GPU alone.
        compiled: one of MODES.
        channels_last: weights of convolutions with their channels innermost, as pictures are within the generator.
    """

    device: torch.device
    dtype: str = "fp32"
    compiled: str = "none"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.dtype == "tf32" and self.device.type != "cuda":
            raise UserError("--dtype tf32: is of GPUs alone: say fp32 or bf16")
        if self.dtype == "bf16" and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise UserError("--dtype bf16: this GPU has no bf16: say fp16")

    @property
    def prepared(self) -> Dtype | None:
        """How networks are loaded: as those who draw load them; or as they were trained where they are to be run
        otherwise."""
        plain = self.dtype == "fp32" and self.compiled == "none" and not self.channels_last
        return "fp32" if plain else None

    @property
    def columns(self) -> dict[str, str]:
        """What a record row says of it."""
        return {"dtype": self.dtype, "compile": self.compiled} | (
            {"layout": "channels_last"} if self.channels_last else {}
        )

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, networks run so."""
        before = [flags.allow_tf32 for flags in (torch.backends.cuda.matmul, torch.backends.cudnn)]
        cudnn_benchmark = torch.backends.cudnn.benchmark
        self._allow(*[self.dtype == "tf32"] * 2)
        torch.backends.cudnn.benchmark = True  # sizes never change here: let it find the fastest way
        half = DTYPES[self.dtype] != torch.float32
        try:
            with torch.autocast(self.device.type, DTYPES[self.dtype]) if half else nullcontext():
                yield
        finally:
            self._allow(*before)
            torch.backends.cudnn.benchmark = cudnn_benchmark

    @staticmethod
    def _allow(matmul: bool, convolutions: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions

    def place(self, networks: Iterable[nn.Module]) -> None:
        """Bring weights into the dtype and layout. Vectors (biases, norms, strengths of noise) stay in fp32: they cost
        nothing."""
        for parameter in dict.fromkeys(p for network in networks for p in network.parameters()):
            if parameter.ndim >= 2 and parameter.is_floating_point():
                parameter.data = parameter.data.to(DTYPES[self.dtype])
            if self.channels_last and parameter.ndim >= 4:  # a bank of kernels [N, o, i, k, k] is used as one of N * o
                flat = parameter.data.flatten(0, -4).contiguous(memory_format=torch.channels_last)
                parameter.data = flat.view(parameter.shape)

    def compile(self, networks: Iterable[nn.Module]) -> None:
        """Compile what draws, where that is wanted; each size of batch for itself, as sizes here are few."""
        if self.compiled == "none":
            return
        how = {"mode": self.compiled, "dynamic": False}
        for network in dict.fromkeys(networks):
            if not hasattr(network, "synthesise"):
                network.compile(**how)
                continue
            for part in ("text", "mapping"):  # a generator's parts are called one by one
                if isinstance(getattr(network, part, None), nn.Module):
                    getattr(network, part).compile(**how)
            network.synthesise = torch.compile(network.synthesise, **how)  # type: ignore[method-assign]


def n_bytes(networks: Iterable[nn.Module]) -> int:
    """What the weights of networks take, shared ones once."""
    tensors = (t for network in networks for t in (*network.parameters(), *network.buffers()))
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())
