"""Features to record rows: what the protocols of a suite say of one image set.

    python -m evaluation.rows --features features.safetensors --images samples.zip \\
        --reference-features reference.safetensors --protocols scenes@2,scenes-blind@1 \\
        --suite demo --variant gigagan --seed 0 --run runs/demo/gigagan/seed0 --out metrics.jsonl

Reads what evaluation.features wrote and needs neither torch nor a model. The rows ``real``, ``bicubic`` and ``lanczos``
have no --run and no --seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evaluation import feature_file, protocols, records, runs
from evaluation.metrics import PAIRED, Inputs, measure
from evaluation.protocols import Protocol
from evaluation.records import Row
from gigagan.archive import read_images, read_prompts
from gigagan.data import captions, scenes
from gigagan.errors import UserError, command
from gigagan.files import sha256
from gigagan.options import from_0, natural

About = dict[str, Any]  # the header of a feature file


def score(protocol: Protocol, inputs: Inputs, about: About, reference: About, columns: Row) -> list[Row]:
    """The rows of one protocol; ``about`` and ``reference`` are the headers of the two feature files.

    Raises UserError where the protocol asks for other images or features than there are.
    """
    _check(protocol, inputs, about, reference)
    _check_pairs(protocol, inputs, about, reference, columns)
    data = reference["images"]
    more = {
        "dataset": data["dataset"],
        "resolution": data["resolution"],
        "protocol": protocol.name,
        "protocol_sha": protocols.sha(protocol, data, about["weights"] | reference["weights"]),
        **degenerate(about["n_constant"], about["images"]),
    }
    return [
        runs.row(columns, metric, value, **more)
        for name in protocol.metrics
        if not (name in PAIRED and columns["variant"] == records.REAL)  # the truth itself
        for metric, value in measure(name, inputs).items()
    ]


def degenerate(n_constant: int, about: Mapping[str, Any]) -> Row:
    """What rows say of pictures that are of one colour throughout, and of those that held NaN when they were drawn, as
    their archive says of itself; where there are any. They are scored as they are."""
    counted = {"n_constant": n_constant, "n_non_finite": about.get("n_non_finite", 0)}
    return {name: n for name, n in counted.items() if n}


def _check(protocol: Protocol, inputs: Inputs, about: About, reference: About) -> None:
    if "dataset" not in reference["images"]:
        raise UserError("the reference features are not of held-out images: make those with evaluation.reference")
    for used in filter(None, (protocol.extractor, protocol.clip)):
        versions = {about["weights"].get(used), reference["weights"].get(used)}
        if None in versions or len(versions) > 1:
            raise UserError(
                f"{protocol.name} needs features of one and the same {used!r} on both sides: "
                "extract both again with evaluation.features"
            )
    n, n_reference = len(inputs.features[protocol.extractor]), len(inputs.reference[protocol.extractor])
    if (n, n_reference) != (protocol.images, protocol.reference):
        raise UserError(
            f"{protocol.name} scores {protocol.images} images against {protocol.reference}, here are {n} and "
            f"{n_reference}: figures at other numbers do not compare (for those, write another protocol)"
        )
    if about["size"] != reference["size"]:
        raise UserError(f"images of {about['size']} px do not compare with a reference of {reference['size']} px")
    if protocol.clip and about["prefix"] != protocol.prefix:
        raise UserError(f"{protocol.name} wants features with --prefix {protocol.prefix!r}, not {about['prefix']!r}")


def _check_pairs(protocol: Protocol, inputs: Inputs, about: About, reference: About, columns: Row) -> None:
    paired = [name for name in protocol.metrics if name in PAIRED]
    if not paired or columns["variant"] == records.REAL:
        return
    if missing := [name for name in paired if name not in inputs.features]:
        option = "--lpips" if missing == ["lpips"] else "--truth"
        raise UserError(f"{protocol.name} needs {missing[0]}: extract the features again with {option}")
    if about["truth"] != reference["images"]:
        raise UserError(
            "the ground truth is of another data set than the reference: make both with evaluation.reference"
        )


def mark(protocol: Protocol, run: Path | None, weights: dict[str, str]) -> Row:
    """What the rows of a run say where a network of the protocol has trained it.

    Raises UserError for that unless the protocol marks such scores.
    """
    trained = runs.networks(run) if run else set()
    own = [name for name, sha in protocols.networks(protocol, weights).items() if sha in trained]
    if own and not protocol.marks:
        raise UserError(
            f"{run}: the {own[0]} that is to score this run has trained it: {protocol.name} wants another network"
        )
    return {"judge_trained": True} if own else {}


def _meanings(path: Path, dataset: str) -> list[str]:
    meaning = scenes.meaning if dataset == "scenes" else captions.meaning
    return [meaning(prompt["caption"]) for prompt in read_prompts(path)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.rows", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--features", type=Path, required=True, help="features of the images to score")
    parser.add_argument("--images", type=Path, required=True, help="those images")
    parser.add_argument("--reference-features", type=Path, required=True, help="features of the held-out reference")
    parser.add_argument("--protocols", required=True, help="names with versions, separated by commas")
    parser.add_argument("--suite", required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--seed", type=natural, help="training seed")
    parser.add_argument("--run", type=Path, help="folder of the run that made the images; none for real ones")
    parser.add_argument("--kimg", type=from_0, help="thousands of images trained, where a snapshot made the images")
    parser.add_argument("--out", type=Path, required=True, help="rows (JSON lines)")
    args = parser.parse_args()
    chosen = [protocols.load(name) for name in args.protocols.split(",")]
    columns = runs.columns(args.suite, args.variant, args.seed, args.run, args.kimg)
    features, about = feature_file.read(args.features)
    reference, about_reference = feature_file.read(args.reference_features)
    if about["images_sha256"] != sha256(args.images):
        raise UserError(f"{args.features} is not of {args.images}: extract the features again")
    meanings = _meanings(args.images, about_reference["images"].get("dataset", ""))
    rows = []
    for protocol in chosen:
        clip = protocol.clip or "judge"
        inputs = Inputs(partial(read_images, args.images), meanings, features, reference, protocol.extractor, clip)
        scored = score(protocol, inputs, about, about_reference, columns)
        own = mark(protocol, args.run, about["weights"] | about_reference["weights"])
        rows += [row | own for row in scored]
    records.write(args.out, rows)


if __name__ == "__main__":
    command(main)
