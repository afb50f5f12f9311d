"""The parts that the training loop is made of: the average, the log, when something is due, gradients left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from first_step import gradients
from torch import nn

from gigagan.config import TrainConfig
from gigagan.operations import Operations
from gigagan.training import trainer as trainer_module
from gigagan.training.ema import EMA
from gigagan.training.phases import optimizer
from gigagan.training.runlog import RunLog


def one(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_the_average_halves_its_distance_every_half_life():
    network = one(0.0)
    ema = EMA(network, TrainConfig(ema_kimg=0.1, ema_rampup=0.0))
    nn.init.constant_(network.weight, 1.0)
    for step in range(1, 11):
        ema.update(step * 20, 20)
        assert ema.network.weight.item() == pytest.approx(1 - 0.5 ** (step * 20 / 100))
    assert not ema.network.weight.requires_grad
    assert network.weight.item() == 1.0


def test_the_half_life_is_at_most_a_share_of_the_images_seen():
    network = one(0.0)
    ema = EMA(network, TrainConfig(ema_kimg=1.0, ema_rampup=0.1))
    nn.init.constant_(network.weight, 1.0)
    ema.update(200, 20)  # half-life 20
    assert ema.network.weight.item() == pytest.approx(0.5)
    ema.update(10**6, 1000)  # half-life 1000
    assert ema.network.weight.item() == pytest.approx(0.75)


def test_attention_has_a_decay_of_its_own(tiny, gigagan):
    config = tiny("train.weight_decay=0.001", "train.weight_decay_attention=0.5")
    for scope, network in gigagan(config).networks.items():
        names = {id(p): name for name, p in network.named_parameters()}
        made = optimizer(network, config, lr=0.1)
        decays = {names[id(p)]: group["weight_decay"] for group in made.param_groups for p in group["params"]}
        assert decays.keys() == set(names.values())
        attention = {decay for name, decay in decays.items() if ".attention." in name}
        assert attention == (set() if scope == "vision_aided" else {0.5})
        assert {decay for name, decay in decays.items() if ".attention." not in name} == {0.001}
        assert all(group["lr"] == 0.1 and group["betas"] == (0.0, 0.99) for group in made.param_groups)


def test_a_resumed_log_drops_what_lies_beyond_the_checkpoint_and_a_line_that_was_cut(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=False)
    for images in (100, 200, 300):
        log.write(images, {"loss": images / 7, "seconds": images / 10})
    assert log.seconds() == 30
    with log.path.open("a") as f:
        f.write('{"images": 400, "lo')  # the disk was full
    log = RunLog(tmp_path, 200, tensorboard=False)
    assert log.seconds() == 20
    log.write(300, {"loss": 1.0, "seconds": 35.0})
    rows = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [row["images"] for row in rows] == [100, 200, 300]
    assert rows[-1]["loss"] == 1.0


def test_only_the_network_of_a_phase_gets_gradients(tiny, gigagan, first_batch, trainer):
    config = tiny()
    model = gigagan(config)
    batch, embeddings = first_batch(config)
    loop = trainer(config, model)
    for phase in loop.phases:
        mine = {id(p) for p in phase.network.parameters()}
        others = [p for network in model.networks.values() for p in network.parameters() if id(p) not in mine]
        assert others
        before = [p.detach().clone() for p in others]
        changing = [p.detach().clone() for p in phase.network.parameters()]
        for p in others:
            p.grad = None
        loop._update(phase, batch, embeddings)
        assert all(p.grad is None for p in others)
        assert all(torch.equal(a, b) for a, b in zip(before, others, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(changing, phase.network.parameters(), strict=True))
        assert all(p.requires_grad for network in model.networks.values() for p in network.parameters())


def test_a_step_whose_loss_alone_is_not_finite_is_left_out(tiny, gigagan, first_batch, trainer, capsys):
    """Its gradients are finite: an overflow that a clamp hides, say."""
    config = tiny()
    loop = trainer(config, gigagan(config))
    phase = loop.phases[0]
    honest = phase.loss
    spoiled = replace(phase, loss=lambda *batch: {**honest(*batch), "overflow": torch.tensor(torch.inf)})
    before = [p.detach().clone() for p in phase.network.parameters()]
    assert loop._update(spoiled, *first_batch(config)) == {}
    assert loop.non_finite == 1
    assert "overflow inf" in capsys.readouterr().err
    assert all(torch.equal(a, b) for a, b in zip(before, phase.network.parameters(), strict=True))
    assert loop._update(phase, *first_batch(config)).keys() == honest(*first_batch(config)).keys()
    assert loop.non_finite == 1


def test_accumulated_gradients_are_those_of_the_whole_batch(tiny, clips, tmp_path):
    whole, *accumulated = (
        gradients(tiny(f"train.micro_batch={n}", "loss.generator_matching_weight=1"), clips, tmp_path)
        for n in (0, 1, 3)
    )
    assert whole.keys() == {"discriminator", "r1", "generator"}
    for phase, wanted in whole.items():
        largest = max(float(gradient.abs().max()) for gradient in wanted.values())
        for found in accumulated:
            assert found[phase].keys() == wanted.keys()
            for name, gradient in wanted.items():
                torch.testing.assert_close(found[phase][name], gradient, rtol=1e-4, atol=1e-6 * largest)


def test_gradient_checkpointing_changes_no_gradient(tiny, clips, tmp_path):
    """Every phase's, R1's second derivative included."""
    settings = ["loss.generator_matching_weight=1", "train.gradient_checkpointing="]
    kept, again = (gradients(tiny(settings[0], f"{settings[1]}{on}"), clips, tmp_path) for on in ("false", "true"))
    assert kept.keys() == again.keys() == {"discriminator", "r1", "generator"}
    for phase, found in kept.items():
        assert found.keys() == again[phase].keys()
        assert all(torch.equal(value, again[phase][name]) for name, value in found.items())


def test_operations_are_counted_once_and_multiplied_by_the_updates(tiny, gigagan, trainer, monkeypatch):
    config = tiny("loss.r1_interval=3", "train.kimg=0.02")  # five steps of four pictures, two of them with R1
    counters: list[Operations] = []
    monkeypatch.setattr(trainer_module, "Operations", lambda: counters.append(Operations()) or counters[-1])
    loop = trainer(config, gigagan(config))
    loop.run()
    assert loop.step_flops.keys() == {"batch", "discriminator", "r1", "generator"}
    assert len(counters) == 4  # the first step's alone
    assert min(loop.step_flops.values()) > 0
    one = loop.step_flops
    assert loop.flops == 5 * (one["batch"] + one["discriminator"] + one["generator"]) + 2 * one["r1"]


def test_counting_changes_no_weight(tiny, gigagan, trainer, monkeypatch, tmp_path):
    config, learned = tiny("train.kimg=0.008"), []
    for counter in (Operations, counts_nothing):
        monkeypatch.setattr(trainer_module, "Operations", counter)
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)  # begin anew
        model = gigagan(config)
        trainer(config, model).run()
        learned.append([p.clone() for p in model.generator.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


@contextmanager
def counts_nothing() -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(total=0)


def test_statistics_that_a_network_keeps_are_taken_over_by_its_average():
    network = torch.nn.BatchNorm1d(3)
    ema = EMA(network, TrainConfig())
    network(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 5)
    assert not torch.equal(ema.network.running_mean, network.running_mean)
    ema.update(8, 8)
    assert torch.equal(ema.network.running_mean, network.running_mean)
