"""Latency, throughput, memory and operations of all generators of a suite, measured in one process.

    python -m evaluation.speed --suite demo --runs runs/demo/*/seed0 --out runs/demo/speed.jsonl
    python -m evaluation.speed --suite paper --runs runs/paper/*/seed0 --upsampler runs/up --out speed.jsonl
    python -m evaluation.speed --suite paper --runs runs/full/laion_64/seed0 --upsampler runs/up512 \\
        --upsampler runs/up4096 --device cuda --dtype bf16 --compile default --out speed.jsonl

All generators take turns within each round, in another order each time. Run it alone. With an upsampler each is also
measured with that behind it, and with a second one also with both: rows of other resolutions. A folder that
``gigagan.train --untrained`` wrote can be timed, too; its rows say 0 kimg.

Rows, each a median over rounds with its 95 % interval, p90 and, from 100 rounds on, p99 of the time:
    latency_text_ms            one caption, tokenised and encoded
    latency_ms                 one picture, generator alone: text features to an image on the device
    latency_end_to_end_ms      one picture, from its caption to bytes in memory, with upsamplers
    throughput_images_per_s    generator alone, a row for each batch of the protocol; ``best`` marks the highest
    peak_memory_gb             a row for each batch, with this one's own networks loaded; of a GPU alone
    params_m                   of all networks that draw; the column of that name is the run's own
A pretrained model is timed in the dtype that it is configured with, one that cannot encode apart end to end alone, and
finished pictures not at all, which is said.
``flops_g`` are the operations of one picture, counted; ``peak_share`` is their rate by the device's measured matrix
rate (``peak_tflops``), a matrix product being one more job of every round. Pictures drawn while timing are looked at:
how many are of one colour or hold NaN stands in the row and is said. A batch that does not fit into memory has no row,
and is said, too.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

import torch

from evaluation import protocols, records, runs, samplers
from evaluation.execution import DTYPES, MODES, Execution
from evaluation.rivals.pretrained import bind
from evaluation.rivals.pretrained.samplers import KINDS
from evaluation.timed import CAPTION, Timed, measure
from gigagan import provenance, upsample
from gigagan.errors import UserError, command
from gigagan.files import check_writable
from gigagan.options import DEVICE_HELP, device, threads
from gigagan.sampling import Conditioning, Sampler

NEWEST = {"cpu": "speed@2", "cuda": "speed-gpu@1"}
"""The protocol, by the device's type, where none is named."""


def columns_of(run: Path, suite: str) -> records.Row:
    """What rows say of a run folder ``.../<variant>/seed<N>``, trained to its end or not at all.

    Raises UserError for a folder of another name, a run that was cut short, or damaged files.
    """
    found = re.fullmatch(r"seed(\d+)", run.name)
    if not found:
        raise UserError(f"{run}: a run's folder is called <variant>/seed<N>")
    unfinished = (run / "config.json").is_file() and not (run / "run.json").is_file()
    of = runs.of_untrained if unfinished else runs.of_run
    return of(run, suite, run.parent.name, int(found[1]))


def timed_run(run: Path, columns: records.Row, execution: Execution, small: Path | None) -> Timed:
    """A run folder as what is timed; ``small``: of an upsampler, the pictures that it enlarges. Raises UserError as
    ``samplers.load``."""
    sampler = samplers.load(run, execution.device, small=small, dtype=execution.prepared)
    networks, encoders = samplers.networks(sampler)
    if isinstance(sampler, KINDS):
        own = sampler.dtype if DTYPES[sampler.dtype] != torch.float32 else ""
        return Timed(sampler, columns, networks, encoders, dtype=own, separable=sampler.separable)
    return Timed(sampler, columns, networks, encoders, _caption(sampler))


def _caption(sampler: Sampler) -> str:
    of_classes = isinstance(sampler.encode, Conditioning) and sampler.encode.kind == "class"
    return "0" if of_classes else CAPTION


def is_timed(one: Timed) -> bool:
    """Whether there is something to time; if not, that is said."""
    if not isinstance(one.sampler, KINDS) or one.sampler.timeable:
        return True
    print(f"{one.name}: not timed: {one.sampler.description}", file=sys.stderr)
    return False


def with_behind(one: Timed, upsampling: upsample.Upsampling) -> Timed:
    """The same with an upsampler behind it. Raises UserError as ``samplers.Chained``."""
    chained = samplers.Chained(one.sampler, upsampling)
    networks, encoders = samplers.networks(chained)
    return replace(one, sampler=chained, networks=networks, encoders=encoders)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, metavar="FOLDER", help="<variant>/seed<N>")
    parser.add_argument("--small", type=Path, help="of upsamplers: image set of the pictures that they enlarge")
    parser.add_argument(
        "--upsampler",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="also measure all with this one behind them; several go one after the other",
    )
    parser.add_argument("--suite", required=True)
    parser.add_argument("--protocol", help=f"default: {', '.join(f'{p} on {d}' for d, p in NEWEST.items())}")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--compile", choices=MODES, default="none", help="mode of torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="weights of convolutions as NHWC")
    parser.add_argument("--device", type=device, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--threads", type=threads, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="rows (JSON lines)")
    args = parser.parse_args()
    protocol = protocols.load_speed(args.protocol or NEWEST[args.device.type])
    columns = {run: columns_of(run, args.suite) for run in args.runs}  # mistakes show before the minutes of measuring
    check_writable(args.out.parent)
    torch.set_num_threads(args.threads)
    execution = Execution(args.device, args.dtype, args.compile, args.channels_last)
    otherwise = execution != Execution(args.device) or args.upsampler
    if bound := [run for run in args.runs if otherwise and bind.read(run)]:
        raise UserError(
            f"{bound[0]}: pretrained models are timed as they are configured: leave --dtype, --compile, "
            "--channels-last and --upsampler to other runs"
        )
    here = provenance.collect(str(args.device), args.threads)
    stage = [timed_run(run, columns[run], execution, args.small) for run in args.runs]
    stage = [one for one in stage if is_timed(one)]
    timed = [*stage]
    # Each once, if it is applied twice.
    loaded = {run: upsample.load(run, args.device, dtype=execution.prepared) for run in args.upsampler}
    for run in args.upsampler:
        stage = [with_behind(one, loaded[run]) for one in stage]
        timed += stage
    records.write(args.out, measure(timed, protocol, {name: here[name] for name in runs.MACHINE}, execution))


if __name__ == "__main__":
    command(main)
