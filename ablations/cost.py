"""What a suite takes before anybody starts it: time, memory and disk."""

from __future__ import annotations

from ablations import cluster
from ablations.recipes import chosen, recipe, suite
from ablations.sizes import ACTIVATION_GB, CLIP_RATE, D_PASSES, G_PASSES, PROCESS_GB, RATES, forward_gflops, sizes
from gigagan.config import parse_overrides


def _time(hours: float, device: str) -> str:
    return f"{hours:,.1f} {device}-hours" if hours >= 1 else f"{60 * hours:.0f} {device}-minutes"


def cost(name: str, device: str, variants: str = "", seeds: str = "") -> str:
    """What training a suite takes, its CLIPs included: time, memory and disk per variant, and the sums; of other
    ``variants`` and ``seeds`` than the suite's own where they are given, as the workflow takes them."""
    of = chosen(suite(name), variants, seeds)
    if cluster.measured(of):
        return cluster.table(of)
    lines = [f"{'variant':28} {'G':>8} {'D':>8} {'kimg':>8} {'GFLOP/img':>10} {'hours':>8} {'disk MB':>8}"]
    total_hours = total_disk = memory = 0.0
    for variant in of.runs:
        config = parse_overrides(recipe(of, variant))
        g_flops, d_flops = forward_gflops(config)
        size = sizes(config)
        g_size, d_size = size.generator + size.generator_t, size.discriminator + size.discriminator_t
        per_image = G_PASSES * g_flops + D_PASSES * d_flops
        hours = config.train.kimg * 1000 * per_image / RATES[device] / 3600
        # Two checkpoints with two Adam moments for G and D each, G's average, snapshots and weights, in fp32.
        disk = 4 * (2 * (4 * g_size + 3 * d_size) + (of.snapshots + 2) * g_size)
        held = 4e-3 * (5 * g_size + 4 * d_size)  # GB: weights, gradients, two moments, and G's average
        at_once = config.train.micro_batch or config.train.batch
        memory = max(memory, PROCESS_GB + held + ACTIVATION_GB * per_image * at_once)
        runs = len(of.seeds)
        total_hours, total_disk = total_hours + hours * runs, total_disk + disk * runs
        lines.append(
            f"{variant:28} {g_size:7.2f}M {d_size:7.2f}M {config.train.kimg:8g} {per_image:10.3f} "
            f"{hours:8.2f} {disk:8.1f}"
        )
    if of.pretrain:
        kimg = sum(of.pretrain.values()) / 1000
        hours = kimg * 1000 / CLIP_RATE / 3600
        total_hours += hours
        lines.append(f"{f'{len(of.pretrain)} CLIPs, first':28} {'':17} {kimg:8g} {'':10} {hours:8.2f}")
    lines.append(
        f"{name}: {len(of.runs)} variants x {len(of.seeds)} seeds: about {_time(total_hours, device)} of "
        f"training, to which scoring adds a minute or two a run, {memory:.1f} GB of memory a run, "
        f"{total_disk / 1000:.2f} GB of disk (estimated from FLOPs at {RATES[device]:g} GFLOP/s per "
        f"{'core' if device == 'cpu' else 'device'})"
    )
    return "\n".join(lines + ([" ".join(of.data.split())] if of.data else []))
