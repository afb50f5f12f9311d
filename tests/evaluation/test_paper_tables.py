from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation import paper_tables, published, suites
from evaluation.paper_tables import Sheet, csv_text, latex, markdown
from evaluation.records import Row
from evaluation.summary import Variant, read_variants
from gigagan import files
from gigagan.errors import UserError
from tests.evaluation.conftest import RIVALS

PAPER = {"suite": "paper", "dataset": "shards", "params_m": 1011.6, "kimg": 980_000.0}


VARIANTS = str(Path(__file__).parents[2] / "ablations/variants.yaml")


def sheet(name: str, rows: list[Row] | None = None) -> Sheet:
    return Sheet(published.table(name), rows or [])


def of(body: list[list[str]], label: str) -> list[str]:
    """The row of a method."""
    return next(row for row in body if label in row[:2])


def cells(text: str) -> list[list[str]]:
    """A Markdown table's rows, heading first, without the caption."""
    lines = [line for line in text.split("\n\n")[0].splitlines() if not line.startswith(("| :--", "| --:"))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def coco_rows(make_row: Callable[..., Row]) -> list[Row]:
    """Two seeds of the full model, one of another variant, under Table 2's protocol; and the speed of a third."""
    protocol = published.table("table2").ours[0]
    rows = [
        make_row(metric="fid", value=12.0 + seed, seed=seed, protocol=protocol, variant="laion_64", **PAPER)
        for seed in (0, 1)
    ]
    rows.append(make_row(metric="fid", value=20.0, protocol=protocol, variant="no_attention", **PAPER))
    for variant in ("laion_64", "no_ms_io"):
        speed = {"metric": "latency_end_to_end_ms", "protocol": "speed@1", "batch": 1, "variant": variant}
        rows.append(make_row(value=45.0, low=44.0, high=46.0, **speed, **PAPER))
    return rows


# ---------------------------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize("name", published.printable())
def test_every_table_has_the_papers_rows_and_columns_with_ours_blank_where_nothing_was_run(name: str) -> None:
    of = published.table(name)
    head, *body = cells(markdown(sheet(name)))
    shown = [re.sub("\u00a0[↑↓]", "", cell.split("<br>")[0]) for cell in head]
    assert shown[: len(of.columns)] == list(of.columns)
    assert [row[list(of.columns.values()).index("label")].removeprefix("&emsp;").replace("\\", "") for row in body] == [
        entry.label for entry in of.rows
    ]
    assert {len(row) for row in body} == {len(head)}
    assert {cell for row in body for cell in row[len(of.columns) :]} == {""}
    assert "Ours are blank" in markdown(sheet(name))


def test_values_are_printed_as_the_paper_prints_them() -> None:
    body = {row[1]: row for row in cells(markdown(sheet("table2")))[1:]}
    assert body["DALL-E"][:7] == ["256", "DALL-E", "AR", "12.0B", "1.54B", "27.50", "–"]
    assert body["GigaGAN"][:7] == ["512", "GigaGAN", "GAN", "1.0B", "0.98B", "9.09", "0.13s"]
    assert body[r"SD-v1.5\*"][3] == "0.9B"
    ladder = cells(markdown(sheet("table1")))[1:]
    assert [row[0] for row in ladder if row[0].startswith("&emsp;")] == [
        "&emsp;+ Larger (5.7×)", "&emsp;+ Matching-aware D",
    ]  # fmt: skip
    assert ladder[9][2] == "0.300"


def test_what_no_source_has_is_a_question_mark_and_mixed_readings_are_marked() -> None:
    text = markdown(sheet("table4"))
    assert cells(text)[1][:3] == ["Real-ESRGAN", "?", "0.06s<sup>c</sup>"]
    for said in ("a, read in the authors' repository", "d, one report's tables", "?: recovered from no source"):
        assert said in text
    assert "<sup>" not in markdown(sheet("table1"))
    assert "How sure the published values are: read in an image of the table itself." in markdown(sheet("table1"))


# ------------------------------------------------------------------------------------------------------------- ours


def test_ours_stand_beside_with_their_seeds_and_interval(coco_rows: list[Row]) -> None:
    head, *body = cells(markdown(sheet("table2", coco_rows)))
    assert head[7:] == [
        "n<br>ours, paper", "#Param.<br>ours, paper", "#Images<br>ours, paper",
        "FID-30k\u00a0↓<br>ours, paper<br>gigagan-coco30k@1", "Inf. time\u00a0↓<br>ours, paper<br>batch 1",
    ]  # fmt: skip
    assert of(body, "GigaGAN")[7:] == ["2", "1.01B", "0.98B", "12.50 ± 6.35", "0.0450s [0.0440s, 0.0460s] (n=1)"]
    assert {cell for row in body[:12] for cell in row[7:]} == {""}


def test_what_no_row_of_the_paper_is_stands_below_without_published_values(coco_rows: list[Row]) -> None:
    known = {"no_attention": Variant("no_attention", "no attention")}
    steps = [row | {"steps": 4} if row["variant"] == "no_attention" else row for row in coco_rows]
    own = Sheet(published.table("table2"), steps, known=known)
    body = cells(markdown(own))[1:]
    assert len(body) == 14
    assert body[-1] == ["", "no attention", "", "", "", "", "", "1", "1.01B", "0.98B", "20.00", ""]
    assert (own.below[0].steps, own.below[0].ours) == (4, ("paper/no_attention",))
    assert [row["method"] for row in lines(csv_text(own))[-3:]] == ["no attention"] * 3
    assert lines(csv_text(own))[-1]["published_protocol"] == lines(csv_text(own))[-1]["printed"] == ""
    text = latex(own)
    assert text.index("GigaGAN") < text.rindex(r"\midrule") < text.index("no attention")
    elsewhere = [row | {"suite": "coco64"} for row in coco_rows if row["variant"] == "no_attention"]
    body = cells(markdown(Sheet(published.table("table2"), [*coco_rows, *elsewhere], known=known)))[1:]
    assert len(body) == 14  # one line for one variant, with the columns of both suites
    assert body[-1].count("20.00") == 2


def test_a_suite_shows_the_first_of_several_that_are_the_same_thing_and_the_other_below(make_row) -> None:
    more = {"metric": "fid", "protocol": published.table("table3").ours[0]}
    both = [make_row(variant="laion_64", value=20.0, suite="rivals", **more)]
    both.append(make_row(variant="gigagan", value=30.0, suite="rivals", **more))
    for rows, shown in ((both, "20.0"), (both[1:], "30.0")):
        own = sheet("table3", rows)
        assert of(cells(markdown(own))[1:], "GigaGAN")[6] == shown
        assert [entry.ours for entry in own.below] == ([("rivals/gigagan",)] if len(rows) == 2 else [])


# ----------------------------------------------------------------------------------- a suite that compares by itself


def test_the_controlled_comparison_has_columns_of_its_own_beside_models_of_as_many_steps(make_rivals) -> None:
    rows, known = make_rivals(), read_variants(VARIANTS)
    own = Sheet(published.table("table3"), rows, known=known)
    head, *body = cells(markdown(own))
    assert head[9:] == [
        "n<br>ours, rivals", "FD\u00a0↓<br>ours, rivals<br>scenes@2", "CLIP score\u00a0↑<br>ours, rivals<br>scenes@2",
        "latency with text, ms\u00a0↓<br>ours, rivals<br>batch 1",
    ]  # fmt: skip
    value = {(row["variant"], row["metric"]): row["value"] for row in rows if row["protocol"] != "scenes-blind@1"}
    for label, variant in (
        *((f"SD-distilled-{k}", f"diffusion_distilled_{k}") for k in (2, 4, 8, 16)),
        ("GigaGAN", "gigagan"),
        ("Diffusion, guided, 4 steps", "diffusion_teacher_4"),  # of no row: below, to be seen beside its student
    ):
        row = of(body, label)
        assert row[1] == next(str(r["steps"]) for r in rows if r["variant"] == variant)
        assert row[5:9] == [""] * 4  # not a column of the paper's, nor under its heading
        assert float(row[10].replace(",", "")) == pytest.approx(value[variant, "fd"], abs=0.06)
        assert float(row[12]) == pytest.approx(value[variant, "latency_end_to_end_ms"], abs=0.006)
    assert [row[0] for row in body].index("SD-distilled-2") == 0
    assert len(body) == 5 + 13
    assert "FID" not in "".join(head[9:])
    text = " ".join(own.caption())
    for said in ("Ours are blank", "beside models of as many steps, suite rivals: small models", "no FID",
                 "is not the paper's baseline", "Suite rivals on scenes"):  # fmt: skip
        assert said in text
    csv_rows = [row for row in lines(csv_text(own)) if row["suite"] == "rivals"]
    assert len(csv_rows) == 18 * 3
    assert {row["published"] for row in csv_rows} == {""}
    assert r"\multicolumn{4}{c}{ours, rivals}" in latex(own)


def test_the_suite_of_the_controlled_comparison_exists_and_is_scored_so() -> None:
    of = published.table("table3").controlled
    assert {*of.protocols} <= {*suites.suite(of.suite).protocols}
    named = {name for entry in published.table("table3").rows for name in entry.ours}
    assert {"diffusion_distilled_4", "rivals/gigagan"} <= named
    assert {*RIVALS} == {*suites.suite(of.suite).variants}  # what the tests here take it to be


def test_times_of_several_devices_never_share_a_column(make_rivals) -> None:
    rows = make_rivals()
    there = [row | {"device": "Some GPU", "value": 1.5} for row in rows if row["metric"] == "latency_end_to_end_ms"]
    some = [row for row in there if row["variant"] == "gigagan"]
    head, *body = cells(markdown(sheet("table3", [*rows, *some])))
    assert [cell.split("<br>")[-1] for cell in head[-2:]] == ["Some CPU, batch 1", "Some GPU, batch 1"]
    assert of(body, "GigaGAN")[-2:] == ["8.00", "1.50"]
    assert of(body, "SD-distilled-4")[-1] == ""


def test_without_rows_of_that_suite_there_is_no_column_of_it(make_rivals) -> None:
    others = [row | {"suite": "demo"} for row in make_rivals()]
    assert markdown(sheet("table3", others)) == markdown(sheet("table3"))


def test_caption_says_what_is_whose(coco_rows: list[Row]) -> None:
    text = " ".join(sheet("table2", coco_rows).caption())
    for said in (
        "Table 2 of GigaGAN (arXiv 2303.05511)",
        "FID-30k: zero-shot, 30,000 captions",
        "Ours: Suite paper on shards",
        "Training seeds: 0, 1.",
        "gigagan-coco30k@1 (aaaaaaaaaaaa)",
        "± is half the 95 % t-interval over training seeds",
        "Our times are from text to picture",
        "Rows without published values are measured here and are no row of the paper.",
        "No test compares ours with the published values.",
    ):
        assert said in text
    assert "Ours are blank" not in text
    assert "nothing is compared" not in text


def test_other_protocols_and_speeds_alone_stay_out(make_row: Callable[..., Row], make_suite) -> None:
    speed = make_row(metric="latency_end_to_end_ms", value=5.0, protocol="speed@1", batch=1)
    other = make_row(metric="fid", value=5.0, protocol="photos-inception@1")
    for name in published.printable():
        assert not sheet(name, [*make_suite(), speed, other]).summaries


def test_suites_have_columns_of_their_own(coco_rows: list[Row]) -> None:
    coco64 = [row | {"suite": "coco64", "value": 50.0} for row in coco_rows if row["metric"] == "fid"]
    head, *body = cells(markdown(sheet("table2", [*coco_rows, *coco64])))
    assert sum("ours, coco64" in cell for cell in head) == sum("ours, paper" in cell for cell in head) == 5
    assert of(body, "GigaGAN")[7:12] == ["2", "1.01B", "0.98B", "50.00 ± 0.00", ""]


def test_what_a_suite_says_of_its_data_stands_in_the_caption(coco_rows: list[Row]) -> None:
    own = Sheet(published.table("table2"), coco_rows, {"paper": "Trained on other data.", "demo": "On scenes."})
    assert "Trained on other data." in markdown(own)
    assert "On scenes." not in markdown(own)


def test_a_run_is_a_row_of_the_paper_in_the_suite_that_is_named_alone(make_row: Callable[..., Row]) -> None:
    """The suite ``paper`` calls Table 1's last rung before Scale-up ``gigagan``; elsewhere that is another model."""
    more = {"metric": "fid", "protocol": published.table("table1").ours[0]}
    for suite, shown in (("paper", "13.00"), ("coco64", "")):
        rows = [
            make_row(value=13.0, **more, suite=suite),
            make_row(value=30.0, variant="stylegan2", **more, suite=suite),
        ]
        body = cells(markdown(sheet("table1", rows)))[1:]
        last = next(row for row in body if "Vision-aided" in row[0])
        assert shown in " ".join(last[4:])
        assert ("13.00" in " ".join(last[4:])) == bool(shown)


def test_two_versions_of_a_protocol_never_share_a_column(coco_rows: list[Row]) -> None:
    rows = [row | {"protocol_sha": "bbbbbbbbbbbb"} if row["seed"] == 1 else row for row in coco_rows]
    head, *body = cells(markdown(sheet("table2", rows)))
    fids = [i for i, cell in enumerate(head) if cell.startswith("FID-30k") and "ours" in cell]
    assert ["aaaaaa" in head[fids[0]], "bbbbbb" in head[fids[1]]] == [True, True]
    assert [of(body, "GigaGAN")[i] for i in fids] == ["12.00 (n=1)", "13.00 (n=1)"]


def test_a_judge_that_has_trained_the_run_is_marked(make_row: Callable[..., Row]) -> None:
    more = {"protocol": published.table("table1").ours[0], "variant": "clip_loss", "judge_trained": True}
    rows = [make_row(metric="fid", value=15.0, **more), make_row(metric="clip_score", value=0.28, **more)]
    text = markdown(sheet("table1", rows))
    assert cells(text)[9][-2] == "0.280 †"
    assert "has also trained the run" in text


def test_two_values_of_one_seed_are_refused(coco_rows: list[Row]) -> None:
    with pytest.raises(UserError, match="two values of paper/laion_64 seed 0 fid"):
        sheet("table2", [*coco_rows, coco_rows[0] | {"device": "another"}])


def test_a_set_without_columns_is_no_table() -> None:
    with pytest.raises(UserError, match="speeds has no columns"):
        sheet("speeds")


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [(27.69, "params_m", "27.7M"), (0.5213, "params_m", "0.521M"), (900.0, "params_m", "0.90B"),
     (652.5, "params_m", "652.5M"), (980_000.0, "kimg", "0.98B"), (28.0, "kimg", "0.028M")],
)  # fmt: skip
def test_sizes_are_written_as_papers_write_them(value: float, metric: str, expected: str) -> None:
    assert paper_tables._sized(value, metric) == expected


# -------------------------------------------------------------------------------------------------------- CSV, LaTeX


def test_csv_has_unrounded_values_in_the_published_unit_and_nothing_for_what_was_not_run(coco_rows: list[Row]) -> None:
    found = lines(csv_text(sheet("table2", coco_rows)))
    assert len(found) == 13 * 4 + 3  # and what no row of the paper is
    by = {(entry["method"], entry["metric"]): entry for entry in found}
    fid = by["GigaGAN", "fid"]
    assert (fid["published"], fid["ours"], fid["n"], fid["sure"]) == ("9.09", "12.5", "2", "image")
    assert (fid["protocol"], fid["suite"], fid["interval_over"]) == ("gigagan-coco30k@1", "paper", "seeds")
    assert float(by["GigaGAN", "inference_s"]["ours"]) == pytest.approx(0.045)
    assert "Some CPU" in by["GigaGAN", "inference_s"]["setting"]
    assert (by["GigaGAN", "kimg"]["published"], by["GigaGAN", "kimg"]["ours"]) == ("980000.0", "980000.0")
    assert by["LAFITE", "kimg"]["published"] == ""
    assert by["LAFITE", "kimg"]["printed"] == "–"
    assert {entry["ours"] for entry in found[:-3] if entry["method"] != "GigaGAN"} == {""}
    unknown = next(e for e in lines(csv_text(sheet("tableA1"))) if (e["method"], e["metric"]) == ("ADM-G-U", "recall"))
    assert (unknown["published"], unknown["printed"]) == ("", "?")


def test_odd_labels_are_escaped_in_every_format() -> None:
    of = published.table("table3")
    odd = replace(of, rows=(replace(of.rows[0], label=r"50 % & $x_1$ | <b> *c* [d](e)"), *of.rows[1:]))
    text = markdown(Sheet(odd, []))
    assert r"50 % & $x\_1$ \| \<b\> \*c\* [d]\(e)" in text
    assert {len(row) for row in cells(text)} == {9}
    assert r"50 \% \& \$x\_1\$ \textbar{} \textless{}b\textgreater{} *c* {[}d{]}(e)" in latex(Sheet(odd, []))


def test_latex_compiles_blank_and_filled(coco_rows: list[Row], tmp_path: Path) -> None:
    texts = [latex(sheet(name)) for name in published.printable()]
    for text in texts:
        text.encode("ascii")
        assert r"\toprule" in text
    marked = [row | {"judge_trained": True} for row in coco_rows]
    texts.append(latex(sheet("table2", marked)).replace("tab:paper-table2", "tab:filled"))
    assert r"\quad + Larger (5.7$\times$) & 34.07 & 0.223 & 158.9M &  &  &  &  \\" in texts[0]
    assert r"\multicolumn{4}{c}{published}" in texts[1]
    assert r"\cmidrule(lr){4-7} \cmidrule(lr){8-12}" in texts[1]
    assert r"8.60\rlap{$^{b}$}" in texts[3]
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here")
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text("\n".join([head, *texts, r"\end{document}"]))
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_command(coco_rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    rows, out = tmp_path / "paper.jsonl", tmp_path / "out"
    files.write_jsonl(rows, coco_rows)
    outs = [f for s in ("md", "csv", "tex") for f in (f"--out-{s}", str(out / f"table2.{s}"))]
    monkeypatch.setattr("sys.argv", ["paper_tables", "table2", "--records", str(rows), *outs])
    paper_tables.main()
    assert {path.name for path in out.iterdir()} == {"table2.md", "table2.csv", "table2.tex"}
    assert (out / "table2.md").read_text() == markdown(sheet("table2", coco_rows))
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["paper_tables", "table2"])
    paper_tables.main()
    assert capsys.readouterr().out == markdown(sheet("table2"))
    monkeypatch.setattr("sys.argv", ["paper_tables", "table6"])
    with pytest.raises(UserError, match="no table 'table6'"):
        paper_tables.main()
