"""README.md and results/README.md show what the committed rows say."""

from pathlib import Path

import pytest

from evaluation import readme
from gigagan.errors import UserError

ROOT = Path(__file__).parent.parent.parent
RECORDS, GALLERY = ROOT / "results" / "records", ROOT / "results" / "gallery"
VARIANTS = str(ROOT / "ablations" / "variants.yaml")


def test_the_front_page_shows_the_committed_rows():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.table(RECORDS, readme.SHOWN, VARIANTS, short=True).strip() in page


def test_the_front_page_shows_scores_without_speeds_and_intervals_of_one_run():
    short, whole = (readme.table(RECORDS, readme.SHOWN, VARIANTS, short) for short in (True, False))
    for part in ("latency", "throughput", "shuffled", "[", "captions of one run"):
        assert part in whole
        assert part not in short
    row = next(line for line in short.splitlines() if line.startswith("| GigaGAN |"))
    for cell in row.split(" | ")[1:]:
        assert cell.rstrip(" |") in whole


def test_every_suite_with_rows_is_on_the_results_page():
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    suites = [path.stem for path in RECORDS.glob("*.jsonl")]
    assert suites
    for suite in suites:
        assert readme.table(RECORDS, suite, VARIANTS).strip() in page


def test_pictures_that_are_shown_exist():
    for page, base in ((ROOT / "README.md", ROOT), (ROOT / "results" / "README.md", ROOT / "results")):
        shown = [part.split(")")[0] for part in page.read_text(encoding="utf-8").split("](") if ".png)" in part]
        assert shown
        assert all((base / name).is_file() for name in shown)


def test_only_what_stands_between_the_marks_changes():
    page = f"a\n{readme.BEGIN}\nold\n{readme.END}\nz\n"
    assert readme.front(page, "new") == f"a\n{readme.BEGIN}\n\nnew\n\n{readme.END}\nz\n"
    with pytest.raises(UserError, match="marks"):
        readme.front("nothing", "new")
