"""A generator with an upsampler behind it, as one sampler."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation import samplers, speed
from evaluation.protocols import SpeedProtocol
from gigagan import sample, upsample
from gigagan.archive import read_images
from gigagan.errors import UserError
from gigagan.pixels import to_uint8
from tests.made_run import make_run
from tests.upsamplers import NO_WORDS, save, sides

CAPTIONS = ["a red circle", "a blue square"]


@pytest.fixture
def chain(tiny, clip_folder, tmp_path):
    """Folders of a generator of 16 px and of an upsampler from there to 32 px."""
    base = tmp_path / "gigagan" / "seed0"
    base.mkdir(parents=True)
    make_run(base, tiny(f"text.clip=local-dir:{clip_folder}"))
    behind = tmp_path / "up"
    behind.mkdir()
    return base, save(tiny(*NO_WORDS, "attention.kinds=none", *sides(16, 32)), behind)


def test_what_is_timed_is_what_is_sampled(chain, tmp_path, monkeypatch):
    base, behind = chain
    whole = samplers.Chained(samplers.load(base, "cpu"), upsample.load(behind, "cpu"))
    assert whole.resolution == 32
    pictures = whole(CAPTIONS, [0, 1])
    assert pictures.shape == (2, 32, 32, 3)
    assert np.abs(to_uint8(whole.generate(whole.encode(CAPTIONS), [0, 1])).astype(int) - pictures).max() <= 1
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"index": k, "caption": c, "seed": k}) + "\n" for k, c in enumerate(CAPTIONS))
    )
    words = ["--run", base, "--prompts", tmp_path / "prompts.jsonl", "--upsampler", behind, "--out", tmp_path / "x.zip"]
    monkeypatch.setattr("sys.argv", ["sample", *map(str, words)])
    sample.main()
    assert np.array_equal(read_images(tmp_path / "x.zip")[0], pictures)


def test_pictures_of_another_size_are_refused(chain, tiny, tmp_path):
    (tmp_path / "other").mkdir()
    other = save(tiny(*NO_WORDS, "attention.kinds=none", *sides(32, 64)), tmp_path / "other")
    with pytest.raises(UserError, match="the pictures drawn"):
        samplers.Chained(samplers.load(chain[0], "cpu"), upsample.load(other, "cpu"))


def test_a_second_upsampler_goes_tile_by_tile_over_what_is_larger_than_it_takes(chain):
    base, behind = chain
    first = samplers.Chained(samplers.load(base, "cpu"), upsample.load(behind, "cpu"))
    both = samplers.Chained(first, first.upsampling)
    assert (both.resolution, both.nfe) == (64, 3)
    pictures = both(CAPTIONS, [0, 1])
    assert pictures.shape == (2, 64, 64, 3)
    drawn = both.generate(both.encode(CAPTIONS), [0, 1])
    assert np.abs(to_uint8(drawn).astype(int) - pictures).max() <= 1
    generators, encoders = samplers.networks(both)
    assert generators == [first.base.generator, *[first.upsampling.network] * 2]
    assert encoders == [first.base.encode.clip]


def test_speeds_come_with_and_without_upsamplers(chain, tmp_path, monkeypatch):
    base, behind = chain
    run = {"recipe_sha": "ab", "kimg": 1.0, "params_m": 0.1, "seconds": 1.0, "dtype": "fp32", "device": "a CPU"}
    (base / "run.json").write_text(
        json.dumps({**run, "threads": 1, "git_sha": "c", "git_dirty": False, "torch": "2", "started": "2026-01-01"})
    )
    quick = SpeedProtocol("speed@2", "", warm_up=0, rounds=2, batches=(1, 2), sweep_rounds=1)
    monkeypatch.setattr(speed.protocols, "load_speed", lambda name: quick)
    out = tmp_path / "speed.jsonl"
    words = ["--runs", base, "--suite", "s", "--upsampler", behind, "--upsampler", behind, "--out", out]
    monkeypatch.setattr("sys.argv", ["speed", *map(str, words)])
    speed.main()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["resolution"], row["nfe"]) for row in rows if row["metric"] == "latency_ms"] == [
        (16, 1), (32, 2), (64, 3)]  # fmt: skip
    networks = samplers.load(base, "cpu").generator, upsample.load(behind, "cpu").network
    first, more = (sum(p.numel() for p in network.parameters()) / 1e6 for network in networks)
    counted = [row["value"] for row in rows if row["metric"] == "params_m"]
    assert counted == pytest.approx([first, first + more, first + more])  # the second stage is the first one's network
    assert {row["params_m"] for row in rows} == {0.1}  # the run's own
