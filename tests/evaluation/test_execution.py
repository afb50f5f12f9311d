"""Dtype, layout and compilation of networks whose speed is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from evaluation.execution import DTYPES, Execution, n_bytes
from evaluation.samplers import networks
from gigagan import sampling
from gigagan.errors import UserError
from tests.made_run import make_run

CPU = torch.device("cpu")
CAPTIONS = ["a red circle", "a blue square"]


@pytest.fixture
def sampler(tiny: Any, clip_folder: Path, tmp_path: Path) -> sampling.GeneratorSampler:
    return sampling.load(make_run(tmp_path, tiny(f"text.clip=local-dir:{clip_folder}")))


def drawn(sampler: sampling.GeneratorSampler, execution: Execution) -> torch.Tensor:
    generators, encoders = networks(sampler)
    execution.place([*generators, *encoders])
    execution.compile(generators)
    with execution(), torch.inference_mode():
        return sampler.generate(sampler.encode(CAPTIONS), [0, 1])


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_draws_nearly_the_same_pictures(sampler: sampling.GeneratorSampler, dtype: str) -> None:
    whole = drawn(sampler, Execution(CPU))
    half = drawn(sampler, Execution(CPU, dtype))
    assert half.dtype == DTYPES[dtype]
    apart = (half.float() - whole).abs()
    assert 0 < apart.mean() < 0.05 * whole.std()


def test_weights_are_kept_in_half_precision_and_vectors_are_not(sampler: sampling.GeneratorSampler) -> None:
    before = n_bytes([sampler.generator])
    Execution(CPU, "bf16").place([sampler.generator])
    kept = {parameter.ndim >= 2: parameter.dtype for parameter in sampler.generator.parameters()}
    assert kept == {True: torch.bfloat16, False: torch.float32}
    assert n_bytes([sampler.generator]) < 0.6 * before
    assert n_bytes([sampler.generator] * 2) == n_bytes([sampler.generator])


def test_channels_last_changes_where_weights_lie_and_not_what_is_drawn(sampler: sampling.GeneratorSampler) -> None:
    plain = drawn(sampler, Execution(CPU))
    changed = drawn(sampler, Execution(CPU, channels_last=True))
    assert torch.allclose(changed, plain, atol=1e-5)
    banks = [p for n, p in sampler.generator.named_parameters() if n.endswith("conv.bank") and p.shape[-1] == 3]
    assert banks
    assert all(bank.flatten(0, 1).is_contiguous(memory_format=torch.channels_last) for bank in banks)


def test_what_draws_is_compiled_once_for_each_size_and_what_reads_is_not(
    sampler: sampling.GeneratorSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(what: Any = None, **how: Any) -> Any:
        asked.append(how)
        return what

    monkeypatch.setattr(torch, "compile", compile_)
    plain = drawn(sampler, Execution(CPU))
    assert not asked
    again = drawn(sampler, Execution(CPU, compiled="max-autotune"))
    assert asked == [{"mode": "max-autotune", "dynamic": False}] * 3  # text, mapping, synthesis
    assert torch.equal(again, plain)
    other = nn.Linear(2, 2)
    Execution(CPU, compiled="default").compile([other, other])
    assert len(asked) == 4


def test_flags_are_as_they_were_afterwards() -> None:
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with Execution(CPU, "bf16")():
        assert torch.is_autocast_enabled("cpu")
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
    assert not torch.is_autocast_enabled("cpu")
    assert flags == (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    )  # fmt: skip


def test_rows_say_how_networks_were_run() -> None:
    assert Execution(CPU).columns == {"dtype": "fp32", "compile": "none"}
    said = Execution(CPU, "bf16", "reduce-overhead", True).columns
    assert said == {"dtype": "bf16", "compile": "reduce-overhead", "layout": "channels_last"}


def test_what_a_device_cannot_do_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="tf32: is of GPUs alone"):
        Execution(CPU, "tf32")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(UserError, match="this GPU has no bf16: say fp16"):
        Execution(torch.device("cuda"), "bf16")
