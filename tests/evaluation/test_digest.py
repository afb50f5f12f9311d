from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import digest, records
from gigagan import files
from gigagan.errors import UserError

ROOT = Path(__file__).parents[2]


def test_it_is_what_the_docstring_says(make_row) -> None:
    rows = [make_row(seed=seed) for seed in (0, 1)]
    own = sorted(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest() for row in rows)
    assert digest.digest(rows) == hashlib.sha256(f"{own[0]}\n{own[1]}\n".encode()).hexdigest()


def test_order_files_and_layout_do_not_matter(tmp_path: Path, make_suite) -> None:
    rows = make_suite(seeds=2)
    one, two, three = (tmp_path / f"{name}.jsonl" for name in "abc")
    files.write_jsonl(one, rows)
    expected = digest.report([one]).splitlines()[0]
    random.Random(0).shuffle(rows)
    files.write_jsonl(two, rows[::2])
    lines = [json.dumps(dict(reversed(row.items())), separators=(" ,  ", ":\t")) for row in rows[1::2]]
    three.write_bytes("\r\n\r\n".join(lines).encode())  # and no newline at the end
    assert digest.report([three, two]).splitlines()[0] == expected
    records.add([one], tmp_path / "records")  # which gives them ids
    assert digest.report([tmp_path / "records" / "demo.jsonl"]).splitlines()[0] == expected


def test_every_value_matters(make_row) -> None:
    rows = [make_row(seed=seed, batch=1) for seed in (0, 1)]
    found = {digest.digest(rows), digest.digest(rows[:1])}
    assert len(found) == 2
    for name, value in rows[1].items():
        old = value if value is not None else 0.0
        changed = (not old) if isinstance(old, bool) else f"{old}x" if isinstance(old, str) else old + 1e-9
        found.add(digest.digest([rows[0], rows[1] | {name: changed}]))
        found.add(digest.digest([rows[0], {k: v for k, v in rows[1].items() if k != name}]))
    assert len(found) == 2 + 2 * len(rows[1])


def test_duplicates_edited_rows_and_nothing_are_refused(tmp_path: Path, make_row) -> None:
    with pytest.raises(UserError, match="two rows for demo/gigagan seed 0 fd"):
        digest.digest([make_row(), make_row(value=41.0)])
    row = make_row() | {"id": records.identity(make_row())}
    assert digest.digest([row]) == digest.digest([make_row()])
    with pytest.raises(UserError, match="edited by hand"):
        digest.digest([row | {"value": 39.0}])
    with pytest.raises(UserError, match="no rows"):
        digest.digest([])
    path = tmp_path / "rows.jsonl"
    files.write_jsonl(path, [make_row()])
    with pytest.raises(UserError, match="two rows"):
        digest.report([path, path])
    with pytest.raises(UserError, match=r"no rows of suite 'dmeo' \(did you mean 'demo'"):
        digest.report([path], "dmeo")


def test_one_suite_among_others(tmp_path: Path, make_row) -> None:
    path = tmp_path / "rows.jsonl"
    files.write_jsonl(path, [make_row(), make_row(suite="smoke"), make_row(suite="smoke", seed=1)])
    first, second = digest.report([path], "smoke").splitlines()
    assert first == f"sha256 {digest.digest([make_row(suite='smoke'), make_row(suite='smoke', seed=1)])}"
    assert second.startswith("2 rows of 1 file (smoke 2): every field of each row but its id")


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "evaluation.records", "digest", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_the_command(tmp_path: Path) -> None:
    done = run()
    paths = records.committed(ROOT / records.FOLDER)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"sha256 {digest.digest(records.read(paths))}"
    assert f"rows of {len(paths)} files (demo " in done.stdout
    assert "torch" not in done.stderr
    other = run("--folder", str(tmp_path))
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1].startswith(f"error: no rows (*.jsonl) in {tmp_path}: ")


def test_folders_beside_the_rows_take_no_part(tmp_path: Path, make_row) -> None:
    files.write_jsonl(tmp_path / "demo.jsonl", [make_row()])
    (tmp_path / "curves.jsonl").mkdir()
    files.write_jsonl(tmp_path / "curves" / "demo.jsonl", [make_row()])
    assert records.committed(tmp_path) == [tmp_path / "demo.jsonl"]
