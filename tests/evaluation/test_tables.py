from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evaluation import tables
from evaluation.records import Row
from evaluation.summary import Line, Summary, read_notes, read_variants, summarise
from gigagan import files
from gigagan.errors import UserError


def of(rows: list[Row], variants: str = "") -> Summary:
    return summarise(rows, "demo", read_variants(variants))


def line(summary: Summary, variant: str) -> Line:
    return next(line for line in summary.lines if line.variant.name == variant)


def test_rows_are_ordered_real_full_variants_untrained(make_suite, variants_file) -> None:
    rows = make_suite() + [r | {"variant": "diffusion_teacher"} for r in make_suite() if r["variant"] == "no_attention"]
    assert [line.variant.name for line in of(rows, variants_file).lines] == [
        "real", "gigagan", "no_adaptive_kernels", "no_attention", "no_ms_io", "no_matching_loss", "diffusion_teacher",
        "untrained",
    ]  # fmt: skip


def test_other_protocols_and_other_devices_never_share_a_column(make_row) -> None:
    fd = [make_row(), make_row(seed=1, protocol_sha="dddddddddddd", protocol="scenes@2")]
    speed = [
        make_row(metric="latency_ms", protocol="speed@1", seed=s, device=d, batch=1)
        for s, d in ((0, "CPU"), (1, "GPU"))
    ]
    summary = of(fd + speed)
    assert [len(c.cells) for c in summary.lines] == [4]
    assert all(cell.value.n == 1 for cell in summary.lines[0].cells.values())
    names = [tables.heading(column, summary.columns) for column in summary.columns]
    assert names[:2] == [("FD\u00a0↓", "scenes@2 aaaaaa"), ("FD\u00a0↓", "scenes@2 dddddd")]
    assert names[2:] == [("latency, ms\u00a0↓", "CPU, batch 1"), ("latency, ms\u00a0↓", "GPU, batch 1")]


def test_two_values_for_one_seed_are_refused(make_row) -> None:
    with pytest.raises(UserError, match="two values of demo/gigagan seed 0 fd"):
        of([make_row(), make_row(device="another")])


def test_one_seed_shows_the_captions_interval_and_separates_nothing(make_suite, variants_file) -> None:
    summary = of(make_suite(seeds=1), variants_file)
    text = tables.markdown(summary)
    assert "[low, high] is a 95 % interval over 1,000 captions of one run, not over seeds." in text
    assert "±" not in text
    assert "**no" not in text
    assert not any(cell.significant for row in summary.lines for cell in row.cells.values())
    assert text.count("| not separable at n=1 |") == 4
    assert "at least 8 seeds each" in text
    assert "the largest loss of all" in text
    shape = next(c for c in summary.columns if c.metric == "shape_accuracy")
    value, difference, bold = tables.cell_text(line(summary, "no_attention"), shape)
    assert re.fullmatch(r"\d\d\.\d \[\d\d\.\d, \d\d\.\d\]", value)
    assert re.fullmatch(r"−\d\d\.\d", difference)
    assert not bold


def test_an_interval_over_images_is_named_apart_from_one_over_captions(make_row) -> None:
    rows = [make_row(low=38.0, high=42.0), make_row(metric="clip_score", value=0.3, low=0.29, high=0.31)]
    text = tables.markdown(of(rows))
    assert "[low, high] is a 95 % interval over 1,000 captions of one run, not over seeds." in text
    assert "[low, high] of FD is a 95 % interval over 1,000 images of one run, not over seeds." in text


def test_eight_seeds_separate_what_differs_and_only_that(make_suite, variants_file) -> None:
    summary = of(make_suite(seeds=8), variants_file)
    fd = summary.find("fd")[0]
    worse, same = line(summary, "no_attention").cells[fd], line(summary, "no_ms_io").cells[fd]
    assert worse.significant
    assert not worse.better(fd)
    assert not same.significant
    value, difference, bold = tables.cell_text(line(summary, "no_attention"), fd)
    assert "±" in value
    assert difference.startswith("+")
    assert bold
    assert tables.finding(summary, line(summary, "no_attention")).startswith(
        "worse: FD (scenes@2), FD (scenes-blind@1)"
    )
    assert tables.finding(summary, line(summary, "no_ms_io")) == "not separable at n=8"
    assert f"**{difference}**" in tables.markdown(summary)
    assert "at least 8 seeds" not in tables.markdown(summary)


def test_seven_seeds_are_too_few_for_four_variants(make_suite) -> None:
    summary = of(make_suite(seeds=7))
    assert not any(cell.significant for row in summary.lines for cell in row.cells.values())
    assert "With n=7 no difference can be told from chance" in tables.markdown(summary)


def test_missing_seeds_are_paired_and_shown(make_suite) -> None:
    rows = [
        r for r in make_suite(seeds=3) if not (r["variant"] == "no_ms_io" and r["metric"] == "fd" and r["seed"] == 1)
    ]
    rows = [r for r in rows if not (r["variant"] == "gigagan" and r["metric"] == "fd" and r["seed"] == 0)]
    summary = of(rows)
    fd = summary.find("fd")[0]
    value, difference, _ = tables.cell_text(line(summary, "no_ms_io"), fd)
    assert value.endswith("(n=2)")
    assert difference.endswith("(n=1)")


def test_without_the_full_model_nothing_is_compared(make_suite) -> None:
    text = tables.markdown(of([r for r in make_suite() if r["variant"] != "gigagan"]))
    assert "nothing is compared" in text
    assert "not separable" not in text


def test_a_diverged_run_is_shown_as_such(make_suite) -> None:
    rows = make_suite(seeds=2)
    for row in rows:
        if row["variant"] == "no_ms_io" and row["metric"] == "fd" and row["seed"] == 1:
            row["value"] = float("nan")
    assert tables.markdown(of(rows)).count("not finite") == 2


def test_caption_says_where_the_numbers_are_from(make_suite) -> None:
    rows = make_suite(seeds=2)
    rows[3]["git_dirty"] = True
    text = " ".join(tables.caption(of(rows)))
    seen = ["1,000 images per run", "Training seeds: 0, 1.", "scenes@2 (aaaaaaaaaaaa)", "scenes-blind@1 (bbbbbbbbbbbb)"]
    for words in [*seen, "Some CPU, fp32, 1 thread", "2026-01-02", "0123456789", "uncommitted changes"]:
        assert words in text


def test_markdown_is_one_table_however_odd_the_labels(make_suite, tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text('no_attention: {label: "a|b <i>*c*</i>\\n[d](e)", expect: "x | y"}\n')
    text = tables.markdown(of(make_suite(), str(path)))
    assert r"a\|b \<i\>\*c\*\</i\> [d]\(e)" in text
    body = text.split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in body} == {len(re.findall(r"(?<!\\)\|", body[0]))}


def with_costs(rows: list[Row], **of_variants: dict[str, float]) -> list[Row]:
    return [row | of_variants.get(row["variant"], of_variants["others"]) for row in rows]


def test_steps_and_operations_have_columns_only_where_runs_differ_in_them(make_suite) -> None:
    one = {"train_tflop": 120.5, "steps": 1, "nfe": 1}
    rows = [row for row in make_suite() if row["variant"] in ("gigagan", "no_ms_io", "untrained")]
    alike = with_costs(rows, others=one)
    assert of(alike).costs == of(rows).costs == ["params_m", "kimg", "minutes"]
    assert tables.markdown(of(alike)) == tables.markdown(of(rows))
    assert tables.latex(of(alike)) == tables.latex(of(rows))
    several = of(with_costs(rows, others=one, no_ms_io={"train_tflop": 90.25, "steps": 4, "nfe": 8}))
    assert several.costs == ["params_m", "kimg", "minutes", "train_tflop", "steps", "nfe"]
    head, *body = [row.split(" | ") for row in tables.markdown(several).split("\n\n")[0].splitlines()]
    assert head[-3:] == ["training, TFLOP", "steps", "network evaluations |"]
    shown = {row[0].removeprefix("| "): row[-3:] for row in body}
    assert shown["no ms io"] == ["90.25", "4", "8 |"]
    assert shown["gigagan"] == ["120.5", "1", "1 |"]
    assert shown["Untrained generator"] == ["–", "1", "1 |"]  # its row repeats what its run took in the end
    assert "training, TFLOP & steps & network evaluations" in tables.latex(several)
    entry = next(e for e in csv.DictReader(io.StringIO(tables.csv_text(several))) if e["variant"] == "no_ms_io")
    assert (entry["train_tflop"], entry["steps"], entry["nfe"]) == ("90.25", "4", "8")
    only_steps = of(with_costs(rows, others=one, no_ms_io=one | {"steps": 2}))
    assert only_steps.costs[3:] == ["steps"]


def test_csv_has_the_unrounded_values(make_suite) -> None:
    rows = make_suite(seeds=8)
    summary = of(rows)
    entries = list(csv.DictReader(io.StringIO(tables.csv_text(summary))))
    assert len(entries) == sum(len(row.cells) for row in summary.lines)
    ours = next(e for e in entries if (e["variant"], e["metric"], e["protocol"]) == ("no_attention", "fd", "scenes@2"))
    cell = line(summary, "no_attention").cells[summary.find("fd")[0]]
    assert float(ours["value"]) == cell.value.value
    assert float(ours["p_holm"]) == cell.p
    assert ours["significant"] == "True"
    speed = next(e for e in entries if e["metric"] == "latency_ms")
    assert speed["setting"] == "Some CPU, fp32, 1 thread, batch 1"


def test_latex_is_escaped_and_compiles(make_suite, tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(r'no_attention: {label: "50 % & $x_1$ #{a} ~ ^ \\ [b]"}' + "\n")
    text = tables.latex(of(make_suite(seeds=2), str(path)))
    assert r"50 \% \& \$x\_1\$ \#\{a\} \textasciitilde{} \textasciicircum{} \textbackslash{} {[}b{]}" in text
    text.encode("ascii")
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here")
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{text}\n\\end{{document}}\n")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_of_many_variants_goes_on_over_pages_and_fits_each(make_rivals, tmp_path: Path) -> None:
    text = tables.latex(summarise(make_rivals(2), "rivals"))
    n = text.count(r"\begin{table*}")
    assert n == text.count(r"\end{table*}") == text.count("tabular}{lr") > 1  # 21 lines: a block of columns to a page
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{text}\n\\end{{document}}\n")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "too large for page" not in done.stdout


def test_variants_file(tmp_path: Path, variants_file: str) -> None:
    known = read_variants(variants_file)
    assert (known["no_ms_io"].label, known["no_matching_loss"].label) == ("no MS-I/O", "no matching loss")
    assert read_variants("") == {}
    with pytest.raises(UserError, match="no such file"):
        read_variants(str(tmp_path / "absent.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="must map"):
        read_variants(str(tmp_path / "list.yaml"))


def test_command(make_suite, variants_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tmp_path / "metrics.jsonl"
    files.write_jsonl(records, make_suite())
    arguments = ["tables", "--records", str(records), "--variants", variants_file, "--out", str(tmp_path / "tables")]
    monkeypatch.setattr("sys.argv", [*arguments, "--suite", "demo"])
    tables.main()
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"ablation.md", "ablation.csv", "ablation.tex"}
    monkeypatch.setattr("sys.argv", [*arguments, "--suite", "dmeo"])
    with pytest.raises(UserError, match="did you mean 'demo'"):
        tables.main()


def test_what_a_suite_says_of_its_data_stands_in_its_caption(make_suite, tmp_path: Path) -> None:
    (tmp_path / "variants.yaml").write_text("gigagan: {label: GigaGAN}\n")
    (tmp_path / "models.yaml").write_text("stylegan2: {label: StyleGAN2}\n")
    assert read_notes(str(tmp_path / "variants.yaml")) == read_notes("") == {}
    (tmp_path / "suites.yaml").write_text(
        "demo: {data: On other data\n   than the paper's.}\nbare: {about: x}\n.part: []\n"
    )
    assert read_variants(str(tmp_path / "variants.yaml"))["stylegan2"].label == "StyleGAN2"
    notes = read_notes(str(tmp_path / "variants.yaml"))
    assert notes == {"demo": "On other data than the paper's."}
    noted = summarise(make_suite(), "demo", note=notes["demo"])
    assert all(notes["demo"] in text.replace("\\", "") for text in (tables.markdown(noted), tables.latex(noted)))


def test_speeds_that_were_run_otherwise_never_share_a_column(make_row) -> None:
    ways = [{"dtype": "bf16"}, {"compile": "default"}, {"compile": "max-autotune"}, {"layout": "channels_last"}, {}]
    rows = [
        make_row(metric="latency_ms", protocol="speed@2", seed=seed, batch=1, **{"compile": "none", **way})
        for seed, way in enumerate(ways)
    ]
    summary = of(rows)
    assert [cell.value.n for cell in summary.lines[0].cells.values()] == [1] * len(ways)
    below = {tables.heading(column, summary.columns)[1] for column in summary.columns}
    compiled = {f"fp32, compiled ({mode}), batch 1" for mode in ("default", "max-autotune")}
    assert below == {"bf16, batch 1", "fp32, channels last, batch 1", "fp32, batch 1"} | compiled
    assert "fp32, 1 thread, compiled (default)" in tables.markdown(summary)


def test_of_a_sweep_each_models_best_throughput_is_shown_and_the_memory_of_one_picture(make_row) -> None:
    swept = {"gigagan": {1: 90.0, 8: 400.0, 32: 380.0}, "no_attention": {1: 100.0, 8: 420.0, 32: 500.0}}
    rows = [
        make_row(metric=metric, protocol="speed@2", variant=variant, batch=batch, value=value, **more)
        for variant, values in swept.items()
        for batch, value in values.items()
        for metric, more in (
            ("throughput_images_per_s", {"best": value == max(values.values())}),
            ("peak_memory_gb", {}),
        )
    ]
    summary = of(rows)
    (throughput,), (memory,) = summary.find("throughput_images_per_s"), summary.find("peak_memory_gb")
    assert tables.heading(throughput, summary.columns)[1] == "each at its best batch"
    full, other = line(summary, "gigagan"), line(summary, "no_attention")
    assert tables.cell_text(full, throughput)[0] == "400 at 8"
    assert tables.cell_text(other, throughput)[0] == "500 at 32"
    assert (full.cells[memory].value.value, other.cells[memory].value.value) == (90.0, 100.0)
    entries = csv.DictReader(io.StringIO(tables.csv_text(summary)))
    assert {(e["variant"], e["batch"]) for e in entries if e["metric"] == "throughput_images_per_s"} == {
        ("gigagan", "8"), ("no_attention", "32")}  # fmt: skip


def test_pictures_that_are_none_stand_in_the_caption(make_row) -> None:
    good = make_row(n_constant=0)
    assert "none, and are counted" not in tables.markdown(of([good]))
    bad = make_row(variant="no_attention", n_constant=1200, n_images=5000)
    some = make_row(variant="no_attention", n_constant=1200, metric="shape_accuracy", n_images=4000)
    timed = make_row(variant="no_ms_io", metric="latency_ms", n_constant=0, n_non_finite=3, n_images=100)
    told = tables.caption(of([good, bad, some, timed]))
    assert (
        "Pictures that are none, and are counted all the same (no_attention seed 0: of 5,000 1,200 of one colour "
        "throughout and 0 that held NaN or infinity; no_ms_io seed 0, while timed: of 100 0 of one colour throughout "
        "and 3 that held NaN or infinity)." in told
    )
