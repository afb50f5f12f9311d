"""What rows say of things that are timed, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import protocols, records, speed, timing
from evaluation.execution import Execution
from evaluation.protocols import SpeedProtocol
from evaluation.samplers import networks
from evaluation.timed import Timed, measure
from gigagan import sampling, train
from gigagan.errors import UserError
from tests.evaluation.test_timing import Clock
from tests.made_run import CLASSES, make_run

CPU = torch.device("cpu")
PLAIN = Execution(CPU)
PROTOCOL = SpeedProtocol("speed@2", "", warm_up=2, rounds=20, batches=(1, 4, 8), sweep_rounds=5, matrix=16)
WITHOUT_PRODUCT = replace(PROTOCOL, matrix=0)  # which takes no time on a clock that stands
MACHINE = {"device": "a CPU", "threads": 1, "git_sha": "cd", "git_dirty": False, "torch": "2", "started": "2026-01-01"}
COLUMNS = {"suite": "demo", "variant": "gigagan", "family": "gigagan", "seed": 0, "dataset": "scenes",
           "recipe_sha": "ab", "kimg": 20.0, "params_m": 0.5, "seconds": 60.0, "git_dirty": False}  # fmt: skip


class FakeSampler:
    """Takes 3 ms for the text encoder, 2 ms for pictures and 1 ms for each, on a clock of its own."""

    device = CPU
    resolution = 16
    nfe = 3
    fits = 99

    def __init__(self, clock: Clock, slowness: float = 1.0, picture: str = "good") -> None:
        self.clock, self.slowness, self.picture = clock, slowness, picture

    def encode(self, captions: list[str]) -> list[str]:
        self.clock.now += 3e-3 * self.slowness
        return captions

    def generate(self, text: list[str], seeds: list[int]) -> torch.Tensor:
        assert len(text) == len(seeds)
        if len(text) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        self.clock.now += (2e-3 + 1e-3 * len(text)) * self.slowness
        images = torch.linspace(-1, 1, 16).expand(len(text), 3, 16, 16).clone()
        if self.picture == "NaN":
            images[0, 0, 0, 0] = torch.nan
        return torch.zeros_like(images) if self.picture == "constant" else images

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        self.generate(self.encode(captions), seeds)
        return np.zeros((len(captions), 16, 16, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None]


def fake(clock: Clock, slowness: float = 1.0, picture: str = "good", **columns: Any) -> Timed:
    return Timed(FakeSampler(clock, slowness, picture), COLUMNS | columns)


def of(rows: list[records.Row], metric: str, variant: str = "gigagan") -> list[records.Row]:
    return [row for row in rows if (row["metric"], row["variant"]) == (metric, variant)]


def test_the_rows_state_what_was_measured_where() -> None:
    clock = Clock()
    both = [fake(clock), fake(clock, 4.0, variant="slow", seed=1)]
    rows = measure(both, WITHOUT_PRODUCT, MACHINE, PLAIN, timing.by_clock(clock))
    assert records.validate(rows[0])
    for variant, slowness in (("gigagan", 1), ("slow", 4)):
        for metric, value in (("latency_text_ms", 3), ("latency_ms", 3), ("latency_end_to_end_ms", 6)):
            (row,) = of(rows, metric, variant)
            shown = [row[name] for name in ("value", "low", "high", "p90")]
            assert shown == pytest.approx([value * slowness] * 4)
            assert row.items() >= {"batch": 1, "nfe": 3, "compile": "none", "dtype": "fp32", "resolution": 16}.items()
            assert row.items() >= {"device": "a CPU", "threads": 1, "protocol": "speed@2", "kimg": 20.0}.items()
            assert "p99" not in row  # 20 rounds say nothing of one in a hundred
        swept = of(rows, "throughput_images_per_s", variant)
        wanted = [n / (2e-3 + 1e-3 * n) / slowness for n in (1, 4, 8)]
        assert [row["value"] for row in swept] == pytest.approx(wanted)
        assert [(row["batch"], row["best"], row["n_images"]) for row in swept] == [
            (1, False, 20), (4, False, 20), (8, True, 40)]  # fmt: skip
        assert of(rows, "params_m", variant)[0]["value"] == 0.5
        assert not of(rows, "peak_memory_gb", variant)  # of a CPU there is no honest figure of one model


def test_text_and_pictures_add_up_to_end_to_end() -> None:
    clock = Clock()
    rows = measure([fake(clock)], WITHOUT_PRODUCT, MACHINE, PLAIN, timing.by_clock(clock))
    text, pictures, whole = (of(rows, metric)[0]["value"] for metric in
                             ("latency_text_ms", "latency_ms", "latency_end_to_end_ms"))  # fmt: skip
    assert text + pictures == pytest.approx(whole)


@pytest.fixture
def run(tiny: Any, clip_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "gigagan" / "seed0"
    folder.mkdir(parents=True)
    return make_run(folder, tiny(f"text.clip=local-dir:{clip_folder}"))


def real(run: Path) -> Timed:
    sampler = sampling.load(run)
    return Timed(sampler, COLUMNS, *networks(sampler))


def test_they_add_up_of_a_real_sampler_too(run: Path) -> None:
    protocol = SpeedProtocol("speed@2", "", warm_up=3, rounds=60, batches=(1,), sweep_rounds=1)
    for _ in range(5):  # the machine may do something else in one try, not in all
        rows = measure([real(run)], protocol, MACHINE, PLAIN)
        text, pictures, whole = (of(rows, metric)[0]["value"] for metric in
                                 ("latency_text_ms", "latency_ms", "latency_end_to_end_ms"))  # fmt: skip
        if 0.85 < (text + pictures) / whole < 1.1:  # the way to bytes is in the whole alone
            return
    pytest.fail(f"{text:.3f} + {pictures:.3f} is not {whole:.3f} ms")


def test_operations_are_of_one_picture_and_their_rate_is_held_against_a_matrix_product(run: Path) -> None:
    rows = measure([real(run)], PROTOCOL, MACHINE, PLAIN)
    text, pictures, whole = (of(rows, metric)[0]["flops_g"] for metric in
                             ("latency_text_ms", "latency_ms", "latency_end_to_end_ms"))  # fmt: skip
    assert text > 0
    assert text + pictures == pytest.approx(whole)
    swept = of(rows, "throughput_images_per_s")
    assert {row["flops_g"] for row in swept} == {pictures}
    for row in swept:
        assert row["peak_share"] == pytest.approx(pictures * row["value"] / (1e3 * row["peak_tflops"]))
    assert len({row["peak_tflops"] for row in rows if "peak_tflops" in row}) == 1


@pytest.mark.parametrize(("picture", "column"), [("constant", "n_constant"), ("NaN", "n_non_finite")])
def test_pictures_that_are_none_are_counted_and_said(
    picture: str, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measure([fake(Clock(), picture=picture), fake(Clock(), variant="good")], PROTOCOL, MACHINE, PLAIN)
    swept = of(rows, "throughput_images_per_s")
    per_call = {"constant": [20, 20, 40], "NaN": [20, 5, 5]}[picture]
    assert [row[column] for row in swept] == per_call
    assert of(rows, "latency_end_to_end_ms")[0][column] == 0  # its bytes are good
    assert {row[column] for row in of(rows, "latency_ms", "good")} == {0}
    said = capsys.readouterr().err.splitlines()
    wanted = {"constant": "80 of 100 pictures are of one colour", "NaN": "30 of 100 pictures held NaN or infinity"}
    assert len(said) == 1
    assert f"warning: gigagan seed 0 at 16 px, while it was timed: {wanted[picture]}" in said[0]


def test_a_batch_that_does_not_fit_has_no_row_and_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeSampler, "fits", 4)
    rows = measure([fake(Clock())], PROTOCOL, MACHINE, PLAIN)
    assert [row["batch"] for row in of(rows, "throughput_images_per_s")] == [1, 4]
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: gigagan seed 0 at 16 px: out of memory: a batch of 8 does not fit into it: 4 is the "
                    "largest that does"]  # fmt: skip


def test_one_picture_that_does_not_fit_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSampler, "fits", 0)
    with pytest.raises(UserError, match="gigagan seed 0 at 16 px: out of memory: one picture does not fit"):
        measure([fake(Clock())], PROTOCOL, MACHINE, PLAIN)


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSampler, "generate", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        measure([fake(Clock())], PROTOCOL, MACHINE, PLAIN)


# ---------------------------------------------------------------------------------------------------------- protocols


def test_a_sweep_leaves_out_batches_of_too_many_pixels_but_never_one_picture() -> None:
    protocol = SpeedProtocol("x@1", "", 1, 100, batches=(1, 8, 64), sweep_rounds=9, most_pixels=8 * 64**2)
    assert protocol.sweep(16) == [1, 8, 64]
    assert protocol.sweep(64) == [1, 8]
    assert protocol.sweep(512) == [1]
    assert protocols.load_speed("speed@1").sweep(512) == [32]


def test_the_first_protocols_hash_is_that_of_its_committed_rows() -> None:
    assert protocols.speed_sha(protocols.load_speed("speed@1"), 16) == next(
        row["protocol_sha"] for row in records.read(["results/records/demo.jsonl"]) if row["protocol"] == "speed@1"
    )


@pytest.mark.parametrize("name", speed.NEWEST.values())
def test_the_newest_protocols_time_a_hundred_rounds_or_more(name: str) -> None:
    protocol = protocols.load_speed(name)
    assert protocol.rounds >= 100
    assert protocol.warm_up > 0
    assert protocol.batches[0] == 1


# -------------------------------------------------------------------------------------------------------- the command


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> list[records.Row]:
    out = words[words.index("--out") + 1]
    monkeypatch.setattr("sys.argv", ["speed", "--suite", "demo", *map(str, words)])
    speed.main()
    return records.read([str(out)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = SpeedProtocol("speed@2", "", warm_up=1, rounds=2, batches=(1, 2), sweep_rounds=1, matrix=16)
    monkeypatch.setattr(speed.protocols, "load_speed", lambda name: protocol)


def test_a_folder_that_names_no_run_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, message in ((tmp_path, "<variant>/seed<N>"), (tmp_path / "seed0", "train the run")):
        with pytest.raises(UserError, match=message):
            command(monkeypatch, "--runs", folder, "--out", tmp_path / "speed.jsonl")


@pytest.mark.usefixtures("quick")
def test_an_untrained_model_is_timed_and_says_so(
    tiny_overrides: list[str], clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "laion_64" / "seed3"
    words = ["--untrained", "--seed", "3", "--out", str(folder), *tiny_overrides, f"text.clip=local-dir:{clip_folder}"]
    monkeypatch.setattr("sys.argv", ["train", *words])
    train.main()
    rows = command(monkeypatch, "--runs", folder, "--out", tmp_path / "speed.jsonl")
    assert {(row["variant"], row["seed"], row["kimg"], row["seconds"]) for row in rows} == {("laion_64", 3, 0.0, None)}
    n = sum(p.numel() for p in sampling.load(folder).generator.parameters())
    assert {row["params_m"] for row in rows} == {round(n / 1e6, 6)}


def test_a_run_that_was_cut_short_is_not_taken_for_an_untrained_one(run: Path) -> None:
    with pytest.raises(UserError, match="train the run to its end first"):
        speed.columns_of(run, "demo")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--dtype", "bf16"], {"dtype": "bf16", "compile": "none"}),
        (["--channels-last"], {"dtype": "fp32", "layout": "channels_last"}),
    ],
)
def test_how_networks_run_stands_in_the_rows(
    run: Path, words: list[str], wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "columns_of", lambda folder, suite: COLUMNS)
    rows = command(monkeypatch, "--runs", run, *words, "--out", run / "speed.jsonl")
    assert all(row.items() >= wanted.items() for row in rows)
    assert not any(row.get("n_constant") or row.get("n_non_finite") for row in rows)


@pytest.mark.usefixtures("quick")
def test_a_model_of_classes_is_asked_for_one(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, tiny(*CLASSES), ["a", "b", "c"])
    monkeypatch.setattr(speed, "columns_of", lambda folder, suite: COLUMNS)
    assert of(command(monkeypatch, "--runs", run, "--out", tmp_path / "speed.jsonl"), "latency_ms")


def test_tf32_on_a_processor_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "columns_of", lambda folder, suite: COLUMNS)
    with pytest.raises(UserError, match="tf32: is of GPUs alone"):
        command(monkeypatch, "--runs", run, "--dtype", "tf32", "--out", run / "speed.jsonl")
