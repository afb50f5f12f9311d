"""README.md and results/README.md show what the committed records say."""

import shutil
from pathlib import Path

import pytest

from evaluation import readme, records
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


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """What the page is made from, and nothing that it makes; the working folder."""
    shutil.copytree(RECORDS, tmp_path / "results/records")
    for path in GALLERY.glob("*.png"):
        if any(path.stem.endswith(f"_{name}") for name in readme.EDITS if name != readme.CURVE):
            (tmp_path / "results/gallery").mkdir(exist_ok=True)
            shutil.copy2(path, tmp_path / "results/gallery")
    page = readme.front((ROOT / "README.md").read_text(encoding="utf-8"), "to be made")
    (tmp_path / "README.md").write_text(page, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["readme", "--variants", VARIANTS])
    return tmp_path


def test_every_table_and_plot_comes_from_the_records_byte_for_byte(copy):
    readme.main()
    for name in ("README.md", "results/README.md"):
        assert (copy / name).read_bytes() == (ROOT / name).read_bytes(), name
    made = {path.name: path for path in (copy / "results/gallery").iterdir()}
    assert made.keys() == {path.name for path in GALLERY.iterdir()}
    for name, path in made.items():
        assert path.read_bytes() == (GALLERY / name).read_bytes(), name


def test_rows_of_another_recipe_than_the_committed_curves_stop_the_page(copy):
    path = copy / "results/records/demo.jsonl"
    rows = records.read([path])
    records.write(path, [row | {"recipe_sha": "another"} if row["recipe_sha"] else row for row in rows])
    with pytest.raises(UserError, match=r"curves/demo\.jsonl: gigagan seed 0 is of another run \(recipe_sha "):
        readme.main()
    assert "to be made" in (copy / "README.md").read_text(encoding="utf-8")


def test_what_was_not_kept_of_a_suite_is_said(copy):
    gallery = copy / "results/gallery"
    (gallery / "photos_training_curves.png").write_bytes(b"of before")
    shutil.rmtree(copy / "results/records/curves")
    (copy / "results/records/pictures/photos.zip").unlink()
    text = readme.section(copy / "results/records", gallery, "photos", VARIANTS)
    assert "Not kept of its runs: grid and training curves." in text
    assert "photos_bars.png" in text
    assert "photos_training_curves.png" not in text
    assert not (gallery / "photos_training_curves.png").exists()


def test_pictures_takes_in_what_plots_need_and_copies_edits(copy, monkeypatch):
    monkeypatch.setattr("sys.argv", ["readme", "--variants", VARIANTS, "--pictures", "demo"])
    taken = []
    monkeypatch.setattr(readme.plotted, "add", lambda *given: taken.append(given))
    edits = copy / "results/demo/edits"
    edits.mkdir(parents=True)
    with pytest.raises(UserError, match=r"edits/truncation\.png is missing"):
        readme.main()
    for name in readme.EDITS:
        shutil.copy2(GALLERY / f"demo_long_{name}.png", edits / f"{name}.png")
    readme.main()
    assert taken[-1] == ("demo", Path("runs/demo"), Path("results/records"))
    assert (copy / "results/gallery/demo_mix.png").is_file()
    assert not (copy / "results/gallery/demo_truncation_curve.png").exists()  # no points: no curve
    assert "gallery/demo_mix.png" in (copy / "results/README.md").read_text(encoding="utf-8")


def test_only_what_stands_between_the_marks_changes():
    page = f"a\n{readme.BEGIN}\nold\n{readme.END}\nz\n"
    assert readme.front(page, "new") == f"a\n{readme.BEGIN}\n\nnew\n\n{readme.END}\nz\n"
    with pytest.raises(UserError, match="marks"):
        readme.front("nothing", "new")
