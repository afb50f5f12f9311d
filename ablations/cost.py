"""What a suite takes before anybody starts it: time, memory and disk."""

from __future__ import annotations

from ablations import cluster
from ablations.counting import step
from ablations.entries import Suite
from ablations.pretrained import pretrained
from ablations.recipes import chosen, configured, on_gpu, protocols, started, suite
from ablations.sizes import ACTIVATION_GB, CLIP_RATE, PROCESS_GB, RATES


def _time(hours: float, device: str) -> str:
    return f"{hours:,.1f} {device}-hours" if hours >= 1 else f"{60 * hours:.0f} {device}-minutes"


def cost(name: str, device: str, variants: str = "", seeds: str = "") -> str:
    """What training a suite takes, its CLIPs included: time, memory and disk per variant, and the sums; of other
    ``variants`` and ``seeds`` than the suite's own where they are given, as the workflow takes them."""
    of = chosen(suite(name), variants, seeds)
    if cluster.measured(of):
        return cluster.table(of)
    of = on_gpu(of) if device == "gpu" else of
    if not of.trained:
        return _drawn(of)
    heads = ("kimg", 8), ("GFLOP/img", 10), ("TFLOP", 9), ("hours", 8), ("disk MB", 8)
    lines = [" ".join([f"{'run':28} {'G':>8} {'others':>8}", *(f"{head:>{width}}" for head, width in heads)])]
    total_hours = total_disk = memory = 0.0
    runs = (*of.trained, *started(of))
    for run in runs:
        config = configured(of, run)
        size = step(of, run)
        operations = config.train.kimg * size.gflop  # 1e12
        hours = operations * 1000 / RATES[device] / 3600
        # Two checkpoints with two Adam moments for G and D each, G's average, snapshots and weights, in fp32.
        disk = 4 * (2 * (4 * size.generator + 3 * size.others) + (of.snapshots + 2) * size.generator)
        held = 4e-3 * (5 * size.generator + 4 * size.others)  # GB: weights, gradients, two moments, G's average
        at_once = config.train.micro_batch or config.train.batch
        memory = max(memory, PROCESS_GB + held + ACTIVATION_GB * size.gflop * at_once)
        total_hours, total_disk = total_hours + hours * len(of.seeds), total_disk + disk * len(of.seeds)
        lines.append(
            f"{run:28} {size.generator:7.2f}M {size.others:7.2f}M {config.train.kimg:8g} {size.gflop:10.3f} "
            f"{operations:9.3f} {hours:8.2f} {disk:8.1f}"
        )
    if of.pretrain:
        kimg = sum(of.pretrain.values()) / 1000
        hours = kimg * 1000 / CLIP_RATE / 3600
        total_hours += hours
        lines.append(f"{f'{len(of.pretrain)} CLIPs, first':28} {'':17} {kimg:8g} {'':20} {hours:8.2f}")
    lines.append(
        f"{name}: {len(runs)} runs x {len(of.seeds)} seeds: about {_time(total_hours, device)} of training, to which "
        f"scoring adds a minute or two a run, {memory:.1f} GB of memory a run, {total_disk / 1000:.2f} GB of disk "
        f"(operations are counted; time at {RATES[device]:g} GFLOP/s per {'core' if device == 'cpu' else 'device'})"
    )
    return "\n".join(lines + ([_drawn(of)] if of.pretrained else [" ".join(of.data.split())] if of.data else []))


def _drawn(of: Suite) -> str:
    """What pretrained models are asked for: how long they take nobody has counted."""
    drawn = {name: protocols()[name]["images"] for name in of.protocols}
    asked = ", ".join(f"{n:,} pictures for {name}" for name, n in drawn.items())
    pixels = sum(pretrained()[name].resolution ** 2 for name in of.pretrained)
    size = 3 * pixels * sum(drawn.values()) / 1e9  # PNGs of photographs are hardly smaller than their bytes
    return "\n".join(
        [
            f"{of.name}: {len(of.pretrained)} pretrained models, which are not trained, draw {asked} each: up to "
            f"{size:,.3g} GB of disk",
            *([" ".join(of.data.split())] if of.data else []),
        ]
    )
