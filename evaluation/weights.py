"""Which pretrained weights protocols are scored with, and where they are.

    python -m evaluation.weights --protocols gigagan-64@1 --weights FOLDER    # checksums compared
    python -m evaluation.weights --protocols gigagan-64@1 vgg16 --quick       # sizes alone, and one more by its name

The files themselves are gigagan.pretrained's. The workflow asks this command before any work starts.
"""

from __future__ import annotations

import argparse

from evaluation import protocols
from evaluation.declared import needs
from evaluation.protocols import Protocol
from gigagan.errors import UserError, command
from gigagan.pretrained import KNOWN, find

OF_FEATURES = {
    "inception_pytorch": "inception-pytorch",
    "inception_tensorflow": "inception",
    "inception_patch": "inception",
    "inception_logits": "inception",
    "lpips": "vgg16",
    "lpips_diversity": "vgg16",
}
"""Whose weights features rest on that are not called after them."""


def wanted(protocol: Protocol) -> list[str]:
    """Those of gigagan.pretrained that a protocol is scored with."""
    features = {protocol.extractor, protocol.clip or ""}
    for metric in protocol.metrics:
        features |= {*needs(metric, protocol.extractor, protocol.clip)}
    return sorted({OF_FEATURES.get(name, name) for name in features} & KNOWN.keys())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.weights", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"also these: {', '.join(KNOWN)}")
    parser.add_argument("--protocols", default="", metavar="A,B", help="those that these are scored with")
    parser.add_argument("--weights", metavar="FOLDER", help="the user's own; else GIGAGAN_WEIGHTS or config.yaml's")
    parser.add_argument("--quick", action="store_true", help="compare sizes, not checksums")
    args = parser.parse_intermixed_args()
    chosen = [protocols.load(name) for name in args.protocols.split(",") if name]
    if not args.names and not chosen:
        raise UserError("say of which protocols (--protocols), or which weights")
    found, missing = {}, {}
    for name in sorted({*args.names, *(need for protocol in chosen for need in wanted(protocol))}):
        try:
            found[name] = find(name, args.weights, args.quick)
        except UserError as e:
            missing[name] = e.message
    if missing:
        (_, first), *others = missing.items()
        also = f"; also missing: {', '.join(KNOWN[name].file for name, _ in others)}"
        raise UserError(first + (also if others else ""))
    for name, path in found.items():
        print(f"{name}={path}")


if __name__ == "__main__":
    command(main)
