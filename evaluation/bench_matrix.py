"""How fast the Fréchet step is, side by side with clean-fid's, from cached features in one process.

    OMP_NUM_THREADS=1 python -m evaluation.bench_matrix --images 30000 --width 2048

Two steps are timed, turn by turn: the distance from given means and covariances, and the same with both covariances.
The features are drawn with a seed: rectified normal ones, correlated, with variances that fall off as Inception's do.
CPU seconds add up over threads and say the same beside other work; wall seconds are what one waits.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np

from evaluation.metrics.frechet import Statistics, distance_of_moments, moments
from gigagan.errors import UserError, command
from gigagan.options import positive

GOALS = {"distance alone": 5.0, "with covariances": 2.5}
"""How many times faster than clean-fid each step is to be."""
TOLERANCE = 1e-6  # relative, between the two values

Step = Callable[[], float]
Seconds = tuple[float, float]  # CPU and wall


def draw(images: int, width: int, seed: int) -> np.ndarray:
    """Features float32 [images, width]; sets of different seeds differ in distribution, too."""
    mixing = np.linalg.qr(np.random.default_rng(0).standard_normal((width, width)))[0].astype(np.float32)
    scales = np.exp(-np.arange(width, dtype=np.float32) * (8 + 0.2 * seed) / width)
    features = np.random.default_rng(seed + 1).standard_normal((images, width), dtype=np.float32)
    features *= scales
    features = features @ mixing
    features += 0.2 + 0.05 * seed
    return np.maximum(features, 0, out=features)


def steps(a: np.ndarray, b: np.ndarray) -> dict[str, tuple[Step, Step]]:
    """By the name of the step, ours and clean-fid's."""
    from cleanfid.fid import frechet_distance

    def statistics(features: np.ndarray) -> Statistics:  # as clean-fid's fid_folder has it
        return np.mean(features, axis=0), np.cov(features, rowvar=False)

    given = (*moments(a), *moments(b))
    return {
        "distance alone": (lambda: distance_of_moments(*given), lambda: frechet_distance(*given)),
        "with covariances": (
            lambda: distance_of_moments(*moments(a), *moments(b)),
            lambda: frechet_distance(*statistics(a), *statistics(b)),
        ),
    }


def timed(step: Step) -> tuple[float, Seconds]:
    """What a step gives, and how long it takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = float(step())
    return value, (time.process_time() - cpu, time.perf_counter() - wall)


def compare(a: np.ndarray, b: np.ndarray, rounds: int) -> list[str]:
    """The lines of the table.

    Raises UserError where the two values differ by more than TOLERANCE.
    """
    lines = [f"{'step':<18}{'who':<11}{'CPU s':>8}{'wall s':>8}  value"]
    for name, pair in steps(a, b).items():
        taken: tuple[list[Seconds], list[Seconds]] = ([], [])
        values = [0.0, 0.0]
        for _ in range(rounds):
            for i, step in enumerate(pair):
                values[i], seconds = timed(step)
                taken[i].append(seconds)
        ours, theirs = ([median(column) for column in zip(*of, strict=True)] for of in taken)
        for who, (cpu, wall), value in (("ours", ours, values[0]), ("clean-fid", theirs, values[1])):
            lines.append(f"{name:<18}{who:<11}{cpu:>8.2f}{wall:>8.2f}  {value:.10g}")
        apart = abs(values[0] - values[1]) / abs(values[1])
        if apart > TOLERANCE:
            raise UserError(f"{name}: ours is {values[0]:.10g}, clean-fid's {values[1]:.10g}: one of them is wrong")
        ratio = theirs[0] / ours[0]
        lines.append(
            f"{name:<18}{'ratio':<11}{ratio:>8.1f}{theirs[1] / ours[1]:>8.1f}  values differ by {apart:.1e}; "
            f"wanted {GOALS[name]:g}: {'reached' if ratio >= GOALS[name] else 'missed'}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.bench_matrix", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--images", type=positive, default=30_000, help="on either side")
    parser.add_argument("--width", type=positive, default=2048, help="of the features")
    parser.add_argument("--rounds", type=positive, default=1, help="medians are of so many")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid calls sqrtm in the way of SciPy before 1.18
        print("\n".join(compare(draw(args.images, args.width, 0), draw(args.images, args.width, 1), args.rounds)))


if __name__ == "__main__":
    command(main)
