"""How fast our GigaGAN draws and trains on a CPU beside lucidrains' gigagan-pytorch, at equal size.

    OMP_NUM_THREADS=1 python -m evaluation.bench_lucidrains --out results/records/bench_lucidrains.json

That package goes, once, into an environment of its own under ``--env``, which has nothing else of its own but what it
needs beyond ours: both sides compute with the same torch. Each side is a process of its own that is asked over a pipe
to time one call at a time, in turn and in random order, so that whatever else the machine does hits both alike. A
ratio is the median over rounds of ours / theirs within a round, in CPU seconds, which say the same beside other work;
its 95 % interval is that of order statistics. Wall seconds stand beside it.

Equal: the picture's side; channels, kernels per adaptive convolution (N) and convolutions per level; widths of z and w;
the mapping's depth; levels with self- and cross-attention, MLP width; T's depth, its input (features of as many tokens,
handed over directly: no CLIP runs on either side) and width; batch, threads, fp32, and within 5 % the parameters of
G and of D: their first block is narrower, as they have one convolution more at 4 px, and so are their D's coarsest
levels, whose predictors are larger. Their attention is 64 channels wide, ours as wide as its level (64 or 128). A
sample is text features in, pictures out, with T; of a known prompt, T's output is given. A training step is one of D
and one of G on one batch of given pictures, with the matching loss and without CLIP's or a vision-aided one, AdamW and
averaged weights; a penalty counts by its own side's interval: theirs on real and generated pictures every 4 steps, R1
on real ones every 16 in ours.

Not equal, as each is what its authors train: ours has noise, bias and demodulation as StyleGAN2 does, toRGB without a
blur, D's levels as passes of their own with predictions after every layer, two T's with the end token as t_global;
theirs a blur after each upsampling, an auxiliary reconstruction in D, levels added into D's trunk, 3 x 3 predictors,
dot-product attention in G.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gigagan import provenance
from gigagan.errors import UserError, command
from gigagan.files import write_json, write_text
from gigagan.options import positive, threads

PACKAGES = (
    "gigagan-pytorch==0.3.0", "beartype==0.23.1", "einops==0.8.2", "ema-pytorch==0.8.3", "kornia==0.9.0",
    "kornia-rs==0.2.0", "numerize==0.12",
)  # fmt: skip
"""Theirs, and what it imports that we do not depend on. It asks for open_clip < 3, which no call here reaches."""
SIDES = ("ours", "theirs")
GOALS = {"sample": 1 / 3, "known prompt": 1 / 3, "training step": 1 / 2}
"""By what is timed, the share of their time that ours may take at most."""
TOKENS = 77
HEAD_WIDTH = 64
APART = 0.05
"""By how much the generators' parameters may differ, relative."""


@dataclass(frozen=True)
class Size:
    """What both sides are built to."""

    resolution: int  # px
    channel_base: int  # channels at r px: min(base / r, channel_max)
    kernels: int  # N, in G
    attention: tuple[int, int]  # px
    critic_max: int  # channel_max of their D
    channel_max: int = 256
    first: int = 160  # channels of their constant
    style: int = 256  # channels of z and w
    mapping_depth: int = 4
    text_width: int = 256
    text_depth: int = 2


SIZES = (
    Size(resolution=32, channel_base=1024, kernels=4, attention=(8, 16), critic_max=200),
    Size(resolution=64, channel_base=2048, kernels=2, attention=(16, 32), critic_max=176),
)
BATCHES = (1, 8)
TRAINED = 8
"""Pictures of a training step."""

STEPS = ("step", "penalised")

Job = Callable[[], Any]
Counts = dict[str, int]


# ------------------------------------------------------------------------------------------------------- the two sides


def _pictures(size: Size) -> Any:
    import torch

    return torch.rand(TRAINED, 3, size.resolution, size.resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _features(size: Size) -> Any:
    import torch

    return torch.randn(max(*BATCHES, TRAINED), TOKENS, size.text_width, generator=torch.Generator().manual_seed(1))


def _count(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def ours(size: Size) -> tuple[Counts, dict[str, Job], int]:
    """Parameters by network, what can be timed by name, and every how many steps there is a penalty."""
    import torch

    from gigagan.clip import Clips
    from gigagan.config import parse_overrides
    from gigagan.inference import prepare
    from gigagan.networks.text import TextFeatures
    from gigagan.sampling import GeneratorSampler
    from gigagan.training.batches import Batch
    from gigagan.training.ema import EMA
    from gigagan.training.phases import GigaGAN

    sides = ",".join(map(str, size.attention))
    shared = {
        "channel_base": size.channel_base, "channel_max": size.channel_max, "blocks": 1,
        "attention_resolutions": sides, "attention_depth": 1,
    }  # fmt: skip
    fields = {
        "data.resolution": size.resolution, "text.depth": size.text_depth, "text.head_width": HEAD_WIDTH,
        "attention.head_width": HEAD_WIDTH, "generator.z_dim": size.style, "generator.w_dim": size.style,
        "generator.mapping_depth": size.mapping_depth, "generator.kernels": size.kernels, "generator.first_convs": 2,
        "loss.clip_weight": 0, "vision.weight": 0, "train.batch": TRAINED,
        **{f"{network}.{name}": value for network in ("generator", "discriminator") for name, value in shared.items()},
    }  # fmt: skip
    config = parse_overrides([f"{path}={value}" for path, value in fields.items()])

    class Clip:
        text_width = size.text_width

    gan = GigaGAN(config, Clips(Clip(), None, None), 0, torch.device("cpu"))
    phases, ema = gan.phases(), EMA(gan.generator, config.train)
    tokens = _features(size)
    text = TextFeatures(tokens, torch.full((len(tokens),), TOKENS - 1))
    seeds = list(range(TRAINED))
    batch = Batch(
        _pictures(size), text[:TRAINED], text[:TRAINED][seeds[::-1]], torch.ones(TRAINED), torch.eye(TRAINED) > 0, seeds
    )

    def step(penalised: bool) -> None:
        for phase in phases:
            if phase.name == "r1" and not penalised:
                continue
            others = [p for other in phases if other.network is not phase.network for p in other.network.parameters()]
            for parameter in others:
                parameter.requires_grad_(False)
            phase.optimizer.zero_grad(set_to_none=True)
            sum(phase.loss(batch, torch.empty(TRAINED, 0)).values()).backward()
            for parameter in others:
                parameter.requires_grad_(True)
            phase.optimizer.step()
        ema.update(TRAINED, TRAINED)

    sampler = GeneratorSampler(prepare(copy.deepcopy(ema.network)), None, torch.device("cpu"))
    known = {n: sampler.generator.text(text[:n]) for n in BATCHES}

    def draw(n: int) -> Any:
        z, noise = sampler.draw(seeds[:n])
        style = sampler.style(z, known[n])
        with torch.inference_mode():
            return sampler.generator.synthesise([style] * len(sampler.generator.levels), noise)[0]

    jobs: dict[str, Job] = {"step": lambda: step(False), "penalised": lambda: step(True)}
    for n in BATCHES:
        jobs[f"sample {n}"] = lambda n=n: sampler.generate(text[:n], seeds[:n])
        jobs[f"known prompt {n}"] = lambda n=n: draw(n)
    return {"G": _count(gan.generator), "D": _count(gan.discriminator)}, jobs, config.loss.r1_interval


def theirs(size: Size) -> tuple[Counts, dict[str, Job], int]:
    """The same of lucidrains' package."""
    import tempfile

    import torch
    from gigagan_pytorch.gigagan_pytorch import Discriminator, Generator, GigaGAN, TextEncoder
    from gigagan_pytorch.open_clip import OpenClipAdapter

    class Features(OpenClipAdapter):
        """Stands where a CLIP would: hands over given features by the caption's number."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self._dim_latent = size.text_width

        def embed_texts(self, texts: list[str]) -> tuple[Any, Any]:
            return tokens[: len(texts), 0], tokens[[int(text) for text in texts]]

    def encoder() -> Any:
        heads = size.text_width // HEAD_WIDTH
        return TextEncoder(
            dim=size.text_width, depth=size.text_depth, clip=Features(), dim_head=HEAD_WIDTH, heads=heads
        )

    tokens = _features(size)
    capacity = size.channel_base // size.resolution // 2
    shared = {"image_size": size.resolution, "dim_capacity": capacity}
    generator = Generator(
        **shared,
        dim_max=size.channel_max,
        dim_latent=size.first,
        style_network={"dim": size.style, "depth": size.mapping_depth, "dim_text_latent": size.text_width},
        text_encoder=encoder(),
        self_attn_resolutions=size.attention,
        cross_attn_resolutions=size.attention,
        self_attn_dim_head=HEAD_WIDTH,
        self_attn_heads=1,
        cross_attn_dim_head=HEAD_WIDTH,
        cross_attn_heads=1,
        num_conv_kernels=size.kernels,
    )
    discriminator = Discriminator(
        **shared,
        dim_max=size.critic_max,
        text_encoder=encoder(),
        attn_resolutions=size.attention,
        attn_dim_head=HEAD_WIDTH,
        attn_heads=1,
        num_conv_kernels=1,
    )
    folder = tempfile.mkdtemp()  # it makes two folders that stay empty
    gan = GigaGAN(
        generator=generator,
        discriminator=discriminator,
        generator_contrastive_loss_weight=0.0,
        model_folder=f"{folder}/models",
        results_folder=f"{folder}/results",
    )
    captions = tuple(map(str, range(TRAINED)))
    batches = iter(lambda: (_pictures(size), list(captions)), None)

    def step(penalised: bool) -> None:
        gan.train_discriminator_step(dl_iter=batches, apply_gradient_penalty=penalised)
        gan.train_generator_step(dl_iter=batches, batch_size=TRAINED)
        gan.steps += 1

    with torch.inference_mode():
        known = {n: generator.text_encoder(text_encodings=tokens[:n]) for n in BATCHES}

    def draw(n: int, **text: Any) -> Any:
        generator.eval()
        with torch.inference_mode():
            return generator(noise=torch.randn(n, size.style), **text)

    def of_known(n: int) -> Any:
        return draw(n, **dict(zip(("global_text_tokens", "fine_text_tokens", "text_mask"), known[n], strict=True)))

    jobs: dict[str, Job] = {"step": lambda: step(False), "penalised": lambda: step(True)}
    for n in BATCHES:
        jobs[f"sample {n}"] = lambda n=n: draw(n, text_encodings=tokens[:n])
        jobs[f"known prompt {n}"] = lambda n=n: of_known(n)
    return {"G": _count(generator), "D": _count(discriminator)}, jobs, gan.apply_gradient_penalty_every


# ------------------------------------------------------------------------------------------------- workers and a round


def work(side: str, size: Size, n_threads: int) -> None:
    """A worker's life: says what it has, then answers every job's name on its input with the CPU and wall seconds of
    one call."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the packages print must not come between
    import torch

    torch.set_num_threads(n_threads)
    torch.manual_seed(0)
    counts, jobs, interval = {"ours": ours, "theirs": theirs}[side](size)
    about = {"counts": counts, "interval": interval, "torch": torch.__version__, "jobs": list(jobs)}
    print(json.dumps(about), file=answers)
    for line in sys.stdin:
        began = time.process_time(), time.perf_counter()
        jobs[line.strip()]()
        print(time.process_time() - began[0], time.perf_counter() - began[1], file=answers)


class Worker:
    """A process that times one call at a time.

    Attributes:
        about: parameters by network, the penalty's interval, its torch and its jobs.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.command = command
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.about: dict[str, Any] = json.loads(self._answer())

    def __call__(self, job: str) -> tuple[float, float]:
        """CPU and wall seconds of one call. Raises UserError where the process has ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer, either
            print(job, file=self.process.stdin, flush=True)
        cpu, wall = map(float, self._answer().split())
        return cpu, wall

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"{' '.join(self.command)}: ended with {self.process.wait()}: see its message above")
        return line

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        self.process.kill()
        self.process.communicate()


Seconds = dict[str, dict[str, np.ndarray]]
"""side -> job -> CPU and wall seconds [rounds, 2]"""


def take_turns(
    workers: dict[str, Callable[[str], tuple[float, float]]], jobs: Iterable[str], warm_up: int, rounds: int
) -> Seconds:
    """Seconds of every job on every side, one call after the other; within a round, the sides of a job are neighbours,
    in random order."""
    dice, jobs = random.Random(0), list(jobs)
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {side: {job: [] for job in jobs} for side in workers}
    for turn in range(-warm_up, rounds):
        for job in jobs:
            for side in dice.sample(list(workers), len(workers)):
                seconds = workers[side](job)
                if turn >= 0:
                    taken[side][job].append(seconds)
    return {side: {job: np.array(times) for job, times in of.items()} for side, of in taken.items()}


def with_share_of_penalty(seconds: dict[str, np.ndarray], interval: int) -> dict[str, np.ndarray]:
    """``step`` and ``penalised`` as the one time that a training step takes on average, beside all others."""
    plain, penalised = seconds["step"], seconds["penalised"]
    others = {job: times for job, times in seconds.items() if job not in STEPS}
    return others | {f"training step {TRAINED}": plain + (penalised - plain) / interval}


def median_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median and its 95 % interval by order statistics, so without a distribution."""
    n, reach = len(values), 1.96 * np.sqrt(len(values)) / 2
    low, high = np.sort(values)[[max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))]]
    return float(np.median(values)), float(low), float(high)


def compare(size: Size, seconds: Seconds) -> list[dict[str, Any]]:
    """One row a job: milliseconds on either side, their ratio round by round, and what it was wanted to be."""
    rows = []
    for job, mine in seconds["ours"].items():
        what, batch = job.rsplit(" ", 1)
        row: dict[str, Any] = {"what": what, "resolution": size.resolution, "batch": int(batch), "rounds": len(mine)}
        for side in SIDES:
            cpu, wall = 1e3 * np.median(seconds[side][job], axis=0)
            row |= {f"{side}_cpu_ms": round(cpu, 2), f"{side}_wall_ms": round(wall, 2)}
        ratio = median_with_interval((mine / seconds["theirs"][job])[:, 0])
        row |= dict(zip(("ratio", "low", "high"), (round(value, 4) for value in ratio), strict=True))
        rows.append(row | {"wanted": round(GOALS[what], 4)})
    return rows


# ----------------------------------------------------------------------------------------------------- the environment


def environment(folder: Path) -> Path:
    """The Python of theirs, made where it is not there yet.

    Raises UserError where pip cannot install the packages.
    """
    python, done = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join(PACKAGES) + "\n"
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"installing {PACKAGES[0]} into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *PACKAGES]
    if subprocess.run(pip, stdout=sys.stderr).returncode:
        raise UserError(f"pip could not install {PACKAGES[0]} into {folder}: see above; give it a network or a mirror")
    (site,) = folder.glob("lib/python*/site-packages")
    # After its own packages, ours: above all the same torch.
    write_text(site / "host.pth", f"{Path(importlib.metadata.distribution('torch').locate_file(''))}\n")
    write_text(done, wanted)
    return python


def start(side: str, python: Path, size: Size, n_threads: int) -> Worker:
    root = Path(__file__).resolve().parent.parent
    variables = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(n_threads)}
    asked = ["--worker", side, str(size.resolution), "--threads", str(n_threads)]
    return Worker([str(python), "-m", "evaluation.bench_lucidrains", *asked], variables)


def check_equal(size: Size, counts: dict[str, Counts]) -> None:
    """Raises UserError where the two are not of one size."""
    for network, mine in counts["ours"].items():
        other = counts["theirs"][network]
        if abs(mine - other) > APART * other:
            found = f"{mine:,} parameters in ours, {other:,} in theirs"
            raise UserError(f"{size.resolution} px: {network} has {found}: they are not of one size")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.bench_lucidrains", description=(__doc__ or "").split("\n")[0]
    )
    by_side = {str(size.resolution): size for size in SIZES}
    parser.add_argument("--sizes", nargs="+", choices=by_side, default=list(by_side), metavar="PX", help="of pictures")
    parser.add_argument("--rounds", type=positive, default=25, help="of samples")
    parser.add_argument("--warm-up", type=positive, default=2, help="rounds before those")
    parser.add_argument("--steps", type=positive, default=5, help="rounds of training steps, after a first one")
    parser.add_argument("--threads", type=threads, default=1)
    parser.add_argument("--env", type=Path, default=Path("runs/lucidrains"), help="theirs; made if it is not there")
    parser.add_argument("--out", type=Path, help="a record (JSON)")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "PX"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker[0], by_side[args.worker[1]], args.threads)
    pythons = {"ours": Path(sys.executable), "theirs": environment(args.env.absolute())}
    record: dict[str, Any] = {
        **provenance.collect("cpu", args.threads), "packages": PACKAGES, "tokens": TOKENS, "sizes": [], "rows": []
    }  # fmt: skip
    for size in map(by_side.__getitem__, args.sizes):
        with ExitStack() as stack:
            workers = {
                side: stack.enter_context(start(side, python, size, args.threads)) for side, python in pythons.items()
            }
            about = {side: worker.about for side, worker in workers.items()}
            counts = {side: about[side]["counts"] for side in SIDES}
            check_equal(size, counts)
            drawn = [job for job in about["ours"]["jobs"] if job not in STEPS]
            seconds = take_turns(workers, drawn, args.warm_up, args.rounds)
            for side, times in take_turns(workers, STEPS, 1, args.steps).items():
                seconds[side] |= times
        seconds = {side: with_share_of_penalty(of, about[side]["interval"]) for side, of in seconds.items()}
        intervals = {side: about[side]["interval"] for side in SIDES}
        record["sizes"].append({**asdict(size), "parameters": counts, "penalty_every": intervals})
        record["rows"] += compare(size, seconds)
        show(size, counts, record["rows"])
    if args.out:
        write_json(args.out, record)


def show(size: Size, counts: dict[str, Counts], rows: list[dict[str, Any]]) -> None:
    for network in ("G", "D"):
        said = ", ".join(f"{counts[side][network] / 1e6:.2f}M in {side}" for side in SIDES)
        print(f"{size.resolution} px: {network} has {said}")
    print(f"{'CPU ms':<15}{'batch':>6}{'ours':>10}{'theirs':>11}{'ratio':>8}  95 % interval")
    for row in (row for row in rows if row["resolution"] == size.resolution):
        verdict = "reached" if row["high"] <= row["wanted"] else "missed"
        times = f"{row['ours_cpu_ms']:>10.1f}{row['theirs_cpu_ms']:>11.1f}{row['ratio']:>8.3f}"
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['what']:<15}{row['batch']:>6}{times}  {interval}; wanted {row['wanted']:.3f}: {verdict}")
    sys.stdout.flush()


if __name__ == "__main__":
    command(main)
