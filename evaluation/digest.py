"""One hash of a result set, to be printed beside its numbers.

    python -m evaluation.records digest                            # every row of results/records/*.jsonl
    python -m evaluation.records digest --suite demo
    python -m evaluation.records digest results/demo/metrics.jsonl

It is the SHA-256 of the rows' own SHA-256 in hexadecimal, sorted, each followed by a newline. A row's own is that of
``records.content``: every field but ``id``, as Python's ``json.dumps(..., sort_keys=True)`` writes them. So it changes
with any value, interval, protocol, recipe, machine or date of any row, and with a row more or less; it does not change
with the order of rows, their division into files, line ends or spaces. What stands beside the rows (pictures, tables,
folders) takes no part.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation import records
from evaluation.records import Row
from gigagan.errors import UserError, nearest

COVERED = "every field of each row but its id; no order, no layout of files, nothing beside the rows"


def digest(rows: Iterable[Row]) -> str:
    """64 hex digits, the same for the same rows in any order.

    Raises:
        UserError: no rows, two measurements of the same thing, or an id that is not its row's.
    """
    seen: dict[tuple[object, ...], str] = {}
    for row in rows:
        if "id" in row and row["id"] != records.identity(row):
            raise UserError(
                f"{records.describe(row)} was edited by hand: its id is {row['id']}, its content "
                f"{records.identity(row)}: restore it"
            )
        if records.key(row) in seen:
            raise UserError(f"two rows for {records.describe(row)}: leave one of them out")
        seen[records.key(row)] = hashlib.sha256(records.content(row)).hexdigest()
    if not seen:
        raise UserError("no rows: a digest of nothing says nothing")
    return hashlib.sha256("".join(f"{own}\n" for own in sorted(seen.values())).encode()).hexdigest()


def report(paths: Sequence[str | Path], suite: str = "") -> str:
    """The digest of some files' rows, or of one suite's among them, and in words what it covers.

    Raises UserError as ``digest`` and ``records.read``, and for a suite without rows.
    """
    rows, of_files = [], 0
    for path in paths:
        own = records.read([path])
        if suite:
            own = [row for row in own if row["suite"] == suite]
        rows += own
        of_files += bool(own)
    if suite and not rows:
        known = {row["suite"] for row in records.read(paths)}
        raise UserError(f"no rows of suite {suite!r}{nearest(suite, known) if known else ': the files are empty'}")
    named = ", ".join(f"{name} {n}" for name, n in sorted(Counter(row["suite"] for row in rows).items()))
    files = f"{of_files} file{'s' * (of_files != 1)}"
    return f"sha256 {digest(rows)}\n{len(rows)} rows of {files} ({named}): {COVERED}"
