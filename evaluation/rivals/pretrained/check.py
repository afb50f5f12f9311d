"""Look at pretrained models without loading them: folders, parts, pickles, steps; say what would run.

python -m evaluation.rivals.pretrained.check --models models --settings pretrained.yaml
python -m evaluation.rivals.pretrained.check --models models --settings pretrained.yaml sd15_50 sd_turbo_1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evaluation.rivals.pretrained import samplers
from evaluation.rivals.pretrained.settings import pick, read
from gigagan.errors import UserError, command


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.rivals.pretrained.check", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of entries; none: all")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="where the models' folders are")
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE.yaml", help="the entries")
    args = parser.parse_args()
    wrong = []
    for settings in [pick(args.settings, name) for name in args.names] or read(args.settings).values():
        try:
            found = samplers.look(settings, args.models)
            print(f"{settings.name}: {found.description}; sha256 {found.sha}")
        except UserError as e:
            wrong.append((settings.name, e.message))
            print(f"{settings.name}: {e.message}")
    if wrong:
        raise UserError(f"{len(wrong)} cannot be run: {', '.join(name for name, _ in wrong)}")


if __name__ == "__main__":
    command(main)
