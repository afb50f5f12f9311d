"""Score any images against any reference, under a protocol.

    python -m evaluation.score --protocol gigagan-coco30k@1 --images fake_images --reference val2014 --weights weights
    python -m evaluation.score --protocol fid@1 --images samples.zip --reference reference.npz --json scores.json
    python -m evaluation.score --protocol gigagan-64@1 --reference reference.zip --save-reference reference.npz

Images are a folder, a zip or a tar; captions stand beside them (captions.txt with a line each in the natural order of
the names, a .txt of the same name, JSON lines) or in a file of their own (the same, a table, COCO's json). A reference
is as the images are, or statistics (.npz with mu and sigma, as clean-fid, pytorch-fid and StudioGAN write them).
``--protocol list`` says which protocols there are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from evaluation import protocols, records, runs, statistics_file
from evaluation.declared import EXTRACTORS, METRICS
from evaluation.image_sets import ImageSet
from gigagan import provenance
from gigagan.errors import UserError, command
from gigagan.files import check_writable, write_json
from gigagan.options import DEVICE_HELP, device, from_0, natural, positive, threads

DIRECTIONS = {True: "higher", False: "lower", None: ""}


def table(result: Any, images: ImageSet, reference: str) -> str:
    """What a scoring found and of what, in lines for a terminal."""
    protocol = result.protocol
    width, height = result.images.size
    made = f"{protocol.crop} crop, " if protocol.crop != "none" else ""
    made += f"{protocol.resize} to {protocol.side} px" if protocol.side else "as they are"
    resized = EXTRACTORS[protocol.extractor]
    about = {
        "protocol": f"{protocol.name} ({result.sha}): {protocol.title}",
        "images": f"{images.path}: {len(images):,} of {width}x{height} px",
        "reference": reference,
        "pictures": made,
    }
    if not reference:
        del about["reference"]
    if protocol.extractor != "none":
        about["features"] = protocol.extractor + (f", resized: {resized}" if resized != "none" else "")
    if result.captions_sha:
        known = protocols.list_of(images.captions or [])
        about["captions"] = f"sha256 {result.captions_sha[:12]}, {known.title if known else 'a list of its own'}"
    if protocol.clip:
        prefix = f', after "{protocol.prefix}"' if protocol.prefix else ""
        about["CLIP"] = f"{protocol.clip}{prefix}"
    lines = [f"{name:<9} {text}" for name, text in about.items()]
    heads = ("metric", "value", "95 % interval", "better", "images", "gate")
    rows = [heads] + [_row(result, metric, score) for metric, score in result.scores.items()]
    used = [column for column in range(len(heads)) if any(row[column] for row in rows[1:])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines.append("")
    for row in rows:
        cells = [row[c].ljust(widths[c]) if c in (0, 2, 3, 5) else row[c].rjust(widths[c]) for c in used]
        lines.append("  ".join(cells).rstrip())
    intervals: dict[str, list[str]] = {}
    for metric, score in result.scores.items():
        if score.low is not None:
            intervals.setdefault(METRICS[metric].interval, []).append(METRICS[metric].label)
    notes = [f"interval of {', '.join(labels)}: {interval}" for interval, labels in intervals.items()]
    biases: dict[str, list[str]] = {}
    for metric in result.scores:
        biases.setdefault(METRICS[metric].bias, []).append(METRICS[metric].label)
    notes += [f"bias of {', '.join(labels)}: {bias}" for bias, labels in biases.items() if bias != "none"]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _row(result: Any, metric: str, score: Any) -> tuple[str, ...]:
    about = METRICS[metric]
    unit = f" {about.unit}" if about.unit else ""
    interval = "" if score.low is None else f"{_digits(score.low, unit)} to {_digits(score.high, unit)}"
    gate = ""
    if (met := result.gate(metric)) is not None:
        low, high = result.protocol.gates[metric]
        gate = f"{'met' if met else 'MISSED'}: {low:.10g} to {high:.10g}"
    value = f"{_digits(score.value, unit)}{unit}"
    return about.label, value, interval, DIRECTIONS[about.higher_is_better], f"{score.n:,}", gate


def _digits(value: float, unit: str) -> str:
    if unit == " %":
        return f"{100 * value:.1f}"
    if abs(value) >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"


def as_json(
    result: Any, images: ImageSet, reference: Path | None, truth: Path | None, on: str, threads: int
) -> dict[str, Any]:
    """The same, unrounded, with everything that it rests on."""
    known = protocols.list_of(images.captions or []) if result.captions_sha else None
    return {
        "protocol": result.protocol.name,
        "protocol_sha": result.sha,
        "images": {"path": _written(images.path), "n": len(images), "size": list(result.images.size),
                   "sha256": result.images.sha, "n_constant": len(result.images.constant)},
        "reference": {"path": _written(reference), "n": result.reference.get("n"),
                      "sha256": result.reference["sha"] or None},
        "truth": {"path": _written(truth), "sha256": result.truth_sha or None},
        "captions": {"sha256": result.captions_sha or None, "list": known.name if known else None},
        "weights": result.weights,
        "scores": {
            metric: {
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "n_images": score.n,
                "higher_is_better": METRICS[metric].higher_is_better,
                "gate": result.protocol.gates.get(metric),
                "gate_met": result.gate(metric),
            }
            for metric, score in result.scores.items()
        },
        "warnings": result.warnings,
        "made": provenance.collect(str(device(on)), threads),
    }  # fmt: skip


def _written(path: Path | None) -> str | None:
    """A path as text; what of it is no UTF-8 is replaced."""
    return None if path is None else os.fsencode(path).decode("utf-8", "replace")


def _place(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty: name a file or a folder")
    return Path(text)


def rows(result: Any, images: ImageSet, args: argparse.Namespace) -> list[records.Row]:
    """The scores as record rows of a run, or of real images where there is none."""
    from evaluation.rows import degenerate, mark

    columns = runs.columns(args.suite, args.variant, args.seed, args.run, args.kimg)
    more = {
        "dataset": result.dataset,
        "resolution": result.side,
        "protocol": result.protocol.name,
        "protocol_sha": result.sha,
        **mark(result.protocol, args.run, result.weights),
        **degenerate(len(result.images.constant), images.about),
    }
    return [runs.row(columns, metric, score, **more) for metric, score in result.scores.items()]


def _data(reference: ImageSet | Path | None) -> dict[str, Any]:
    """What a suite's reference, as images or as statistics, says of its data."""
    if isinstance(reference, ImageSet):
        return reference.about
    return statistics_file.read(reference)[1].get("data", {}) if reference else {}


def _list() -> None:
    for name in protocols.names(speeds=False):
        print(f"{name:<38}{protocols.load(name).title}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation.score", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocol", required=True, help="name with version; list: say which there are")
    parser.add_argument("--images", type=_place, help="folder, zip or tar of the images to score")
    parser.add_argument("--reference", type=_place, help="folder, zip or tar of images, or their statistics (.npz)")
    parser.add_argument("--captions", type=_place, help="of the images, where they do not stand beside them")
    parser.add_argument("--truth", type=_place, help="ground truth of each image, in their order (PSNR, SSIM, LPIPS)")
    parser.add_argument("--weights", default=None, metavar="FOLDER", help="of pretrained weights; else config.yaml's")
    parser.add_argument("--judge", default="", help="CLIP that judges, for the suites' own protocols")
    parser.add_argument("--json", metavar="FILE", help="write the scores there, unrounded; - for standard output")
    parser.add_argument(
        "--save-reference", type=Path, metavar="FILE", help="the reference's statistics (.npz), to write"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep features there for the next time")
    parser.add_argument("--photographs", action="store_true", help="images may be of several sizes")
    parser.add_argument("--batch", type=positive, default=32, help="images at a time")
    parser.add_argument("--threads", type=threads, default=None, help="that decode and resize; else one for each core")
    parser.add_argument("--device", default="cpu", help=DEVICE_HELP)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write record rows (JSON lines); with the options below"
    )
    parser.add_argument("--suite", default="")
    parser.add_argument("--variant", default="")
    parser.add_argument("--seed", type=natural, help="training seed")
    parser.add_argument("--run", type=_place, help="folder of the run that made the images; none for real ones")
    parser.add_argument("--kimg", type=from_0, help="thousands of images trained, where a snapshot made the images")
    args = parser.parse_args()
    if args.protocol == "list":
        return args
    if not args.images and not (args.save_reference and not args.record and not args.json):
        raise UserError("--images is missing: a folder, a zip or a tar")
    if not args.reference and (args.save_reference or protocols.compares(protocols.load(args.protocol))):
        raise UserError("--reference is missing: a folder, a zip or a tar of images, or their statistics (.npz)")
    if args.record:
        if not args.suite or not args.variant:
            raise UserError("--record wants --suite and --variant")
        runs.check_whose(args.variant, args.seed, args.run)
    for name in ("json", "save_reference", "record"):
        if (path := getattr(args, name)) and str(path) != "-":
            if Path(path).is_dir():
                raise UserError(f"--{name.replace('_', '-')} {path}: is a folder, not a file to write")
            check_writable(Path(path).parent)
    if args.save_reference and args.save_reference.suffix != ".npz":
        raise UserError(f"--save-reference {args.save_reference}: its name must end in .npz")
    return args


def main() -> None:
    args = _options()
    if args.protocol == "list":
        _list()
        return
    protocol = protocols.load(args.protocol)
    images = ImageSet(args.images, args.captions) if args.images else None
    reference: ImageSet | Path | None = args.reference
    if args.reference and args.reference.suffix.lower() != ".npz":
        reference = ImageSet(args.reference)
    truth = ImageSet(args.truth) if args.truth else None
    if args.record and not protocol.dataset and not _data(reference):
        raise UserError(
            f"--record: {protocol.name} does not say what its reference is, nor does the reference: give an archive of "
            "evaluation.reference, or another protocol"
        )
    import torch

    from evaluation.scorer import Scorer

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scorer = Scorer(
        protocol, args.weights, args.judge, device(args.device), args.batch, args.threads or 0, args.cache,
        photographs=args.photographs,
    )  # fmt: skip
    if images is None:
        if not isinstance(reference, ImageSet):
            raise UserError("--save-reference: the reference is a file of statistics already")
        print(f"{args.save_reference}: {scorer.keep(reference, args.save_reference):,} images")
        return
    result = scorer(images, reference, truth, args.save_reference)
    for line in result.warnings:
        print(f"warning: {line}", file=sys.stderr)
    n = result.reference.get("n")
    told = f"{args.reference}: {f'{n:,} images' if n else 'statistics, of how many images they do not say'}"
    told = told if args.reference else ""
    if args.json:
        content = as_json(result, images, args.reference, args.truth, args.device, scorer.threads)
        if args.json == "-":
            print(json.dumps(content, indent=2, ensure_ascii=False))
        else:
            write_json(args.json, content)
    if args.json != "-":
        print(table(result, images, told))
    if args.record:
        records.write(args.record, rows(result, images, args))


if __name__ == "__main__":
    command(main)
