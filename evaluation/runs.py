"""What a record row says of the run it scores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from evaluation.metrics.score import Score
from evaluation.records import METRICS, RUNLESS, SCHEMA, Row, validate
from evaluation.rivals.pretrained.settings import FAMILY
from gigagan import provenance
from gigagan.errors import UserError

YOUNGER = ("train_tflop", "steps", "nfe")
"""What runs of earlier commits do not say of themselves."""

MACHINE = ("device", "threads", "git_sha", "git_dirty", "torch", "started")


def of_run(folder: Path, suite: str, variant: str, seed: int) -> Row:
    """The columns that a finished run gives. Raises UserError where it is not finished, or its files are damaged."""
    try:
        run, config = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "config.json"))
        # A figure is as clean as the code that trained and the code that scores.
        run["git_dirty"] = run["git_dirty"] or provenance.collect()["git_dirty"]
        return {
            "suite": suite,
            "variant": variant,
            "family": run.get("family", "gigagan"),  # rivals name theirs
            "seed": seed,
            # What a pretrained model has learned from is not known.
            "dataset": "" if run.get("family") == FAMILY else config["config"]["data"]["name"],
            **{name: run[name] for name in ("recipe_sha", "kimg", "params_m", "seconds", "dtype", *MACHINE)},
            **{name: run[name] for name in YOUNGER if name in run},
        }
    except FileNotFoundError as e:
        raise UserError(f"no {e.filename}: train the run to its end first") from None
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{folder}: run.json or config.json is damaged ({e!r}): train the run again") from None


def of_untrained(folder: Path, suite: str, variant: str, seed: int) -> Row:
    """The columns of a run folder that ``gigagan.train --untrained`` wrote: 0 kimg, and nothing else is claimed of it.
    What is said of such a model is its speed.

    Raises UserError where the folder is none, which is also that of a run that was cut short.
    """
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "weights.safetensors", framework="numpy") as file:
            images = json.loads((file.metadata() or {}).get("about", "{}")).get("images")
            n_weights = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
        if images != 0:
            raise UserError(f"no {folder / 'run.json'}: train the run to its end first")
        here = provenance.collect()
        return {
            "suite": suite,
            "variant": variant,
            "family": "gigagan",
            "seed": seed,
            "dataset": about["config"]["data"]["name"],
            "recipe_sha": about["recipe_sha"],
            "kimg": 0.0,
            "params_m": round(n_weights / 1e6, 6),
            "seconds": None,
            "git_dirty": about["provenance"]["git_dirty"] or here["git_dirty"],
        }
    except FileNotFoundError as e:
        raise UserError(f"{folder}: no run there, trained or untrained ({e})") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as e:
        raise UserError(f"{folder}: config.json or weights.safetensors is damaged ({e!r}): write it again") from None


def networks(folder: Path) -> set[str]:
    """Hashes of the frozen networks that took part in training a run. Raises UserError as ``of_run``."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {about.get("clip_sha", ""), *about.get("trained_by", ())} - {""}
    except (FileNotFoundError, ValueError, TypeError, AttributeError) as e:
        raise UserError(f"{folder}: config.json is missing or damaged ({e!r}): train the run again") from None


def of_nothing(suite: str, variant: str) -> Row:
    """The columns of a reference that no run made."""
    here = provenance.collect()
    nothing = dict.fromkeys(("seed", "recipe_sha", "kimg", "params_m", "seconds", "dtype"))
    return {
        "suite": suite,
        "variant": variant,
        "family": "reference",
        **nothing,
        **{name: here[name] for name in MACHINE},
    }


def check_whose(variant: str, seed: int | None, folder: Path | None) -> None:
    """Raises UserError unless a run and its seed are named, or for rows that no run made, neither."""
    if (variant in RUNLESS) != (folder is None) or (folder is None) != (seed is None):
        runless = ", ".join(map(repr, RUNLESS))
        raise UserError(f"--run and --seed belong to every variant but {runless}, which have neither")


def columns(suite: str, variant: str, seed: int | None, folder: Path | None, kimg: float | None) -> Row:
    """What rows say of a run, or of what no run made; ``kimg``: the run's snapshot that is scored, if it is one.

    Raises UserError as ``check_whose`` and ``of_run``.
    """
    check_whose(variant, seed, folder)
    if folder is None or seed is None:
        return of_nothing(suite, variant)
    found = of_run(folder, suite, variant, seed)
    return found if kimg is None else found | {"kimg": kimg, "seconds": None}


def row(columns: Row, metric: str, score: Score, **more: Any) -> Row:
    """A valid record row: ``columns`` of the run, the score, and whatever else is known (later ones win)."""
    return validate(
        {
            "schema": SCHEMA,
            "metric": metric,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "n_images": score.n,
            "higher_is_better": METRICS[metric].higher_is_better,
            **columns,
            **more,
        }
    )
