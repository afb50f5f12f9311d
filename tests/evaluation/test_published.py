from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluation import published
from evaluation.published import METRICS, SURE, load
from gigagan.errors import UserError

SMALL = """
sources:
  paper: {name: Paper, arxiv: "2303.05511"}
  thread: {name: Thread}
protocols:
  fid: 30,000 captions
  cosine: cosine
sets:
  first:
    about: {source: paper, table: Table 2, data: COCO 2014, resolution: 256, sure: image}
    measured: {fid: fid, clip_score: cosine, params_m: cosine}
    rows:
      - {method: A, fid: 9.00, clip_score: 0.30, params_m: 0.9B}
      - {method: B, resolution: 512, fid: [8.1, thread], clip_score: –}
"""


def small(tmp_path: Path, old: str = "", new: str = "") -> Path:
    """The file above with one thing in it replaced."""
    assert old in SMALL
    path = tmp_path / "published.yaml"
    path.write_text(SMALL.replace(old, new, 1) if old else SMALL, encoding="utf-8")
    return path


def value(table: str, method: str, metric: str, setting: str = "") -> float:
    rows = [row for row in published.table(table).rows if (row.method, row.setting) == (method, setting)]
    number = rows[0].numbers[metric]
    assert number is not None
    return number.value


# ---------------------------------------------------------------------------------------------- what is committed


def test_every_number_says_where_it_stands_how_it_was_made_and_how_sure_it_is() -> None:
    numbers = [(row, n) for of in published.tables().values() for row in of.rows for n in row.numbers.values() if n]
    assert len(numbers) > 500
    for row, number in numbers:
        assert row.source.name
        assert row.table
        assert number.protocol
        assert number.sure in SURE
        assert number.metric in METRICS
        assert number.value > 0
        assert row.data or METRICS[number.metric].kind != "quality"


def test_what_was_not_recovered_is_absent_rather_than_guessed() -> None:
    known = {row.method: set(row.numbers) for row in published.table("table4").rows}
    assert "params_m" in known["GigaGAN Upsampler"]
    assert "params_m" not in known["Real-ESRGAN"] | known["SD Upscaler"]
    assert {row.method: set(row.numbers) for row in published.table("tableA1").rows}["ADM-G-U"] == {"fid"}


@pytest.mark.parametrize(
    ("table", "method", "metric", "expected"),
    [
        ("table1", "StyleGAN2", "fid", 29.91),
        ("table1", "+ Multi-scale training", "clip_score", 0.3),
        ("table1", "+ Vision-aided GAN", "clip_score", 0.287),
        ("table1", "+ Scale-up (GigaGAN)", "params_m", 652.5),
        ("table2", "GigaGAN", "fid", 9.09),
        ("table2", "GigaGAN", "kimg", 980_000),
        ("table2", "SD v1.5", "params_m", 900),
        ("table2", "LDM", "inference_s", 9.4),
        ("table3", "SD-distilled-8", "fid", 26.9),
        ("table4", "GigaGAN Upsampler", "patch_fid", 8.9),
        ("table5", "GigaGAN", "inception_score", 191.5),
        ("tableA1", "StyleGAN-XL", "inception_score", 297.62),
        ("official", "GigaGAN", "clip_score", 0.33),
        ("stylegan_t_64", "StyleGAN-T", "fid", 7.3),
        ("stylegan_t_256", "StyleGAN-T", "fid", 13.9),
    ],
)
def test_numbers_are_the_papers(table: str, method: str, metric: str, expected: float) -> None:
    assert value(table, method, metric) == expected


def test_the_ladder_is_not_monotone_and_nobody_has_made_it_so() -> None:
    fids = [row.numbers["fid"].value for row in published.table("table1").rows]
    assert len(fids) == 12
    assert fids[1] > fids[0]  # larger is worse
    assert fids[9] > fids[8]  # multi-scale training leaves FID as it is
    assert [row.method for row in published.table("table1").rows if row.branch] == [
        "+ Larger (5.7×)", "+ Matching-aware D",
    ]  # fmt: skip
    steps = [row.numbers["fid"].value for row in published.table("table3").rows][:4]
    assert steps[1] < steps[2] < steps[3] < steps[0]


def test_contradicting_values_all_stand_under_their_own_source() -> None:
    found = {(row.source.name, number.printed) for row, number in published.find("SD v1.5", "fid")}
    assert found == {
        ("GigaGAN", "9.62"), ("DMD", "8.78"), ("DMD", "13.45"), ("DMD2", "8.59"), ("f-distill", "8.59"),
        ("f-distill", "7.21"), ("Diffusion2GAN", "8.74"),
    }  # fmt: skip
    assert value("official", "GigaGAN", "fid") != value("table2", "GigaGAN", "fid")
    assert value("dmd_older", "LDM", "inference_s") != value("table2", "LDM", "inference_s")


def test_notes_state_no_score_that_has_no_entry() -> None:
    printed = {n.printed for of in published.tables().values() for r in of.rows for n in r.numbers.values() if n}
    for of in published.tables().values():
        for number in re.findall(r"(?<![\w,.])\d+\.\d+", of.note.replace("v1.5", "")):
            assert number in printed, f"{of.name}: {number}"


def test_printable_tables_are_the_papers() -> None:
    assert published.printable() == ["table1", "table2", "table3", "table4", "table5", "tableA1"]
    with pytest.raises(UserError, match="no table 'tabel1' in published"):
        published.table("tabel1")


def test_no_protocol_and_no_source_is_left_over() -> None:
    from gigagan.files import read_yaml

    found = read_yaml(published.FILE)
    of_rows = [row for of in found["sets"].values() for row in of["rows"]]
    used = {how for of in found["sets"].values() for how in of["measured"].values()} | {
        r.get("protocol") for r in of_rows
    }
    assert set(found["protocols"]) == used - {None}
    named = {of["about"]["source"] for of in found["sets"].values()} | {row.get("source") for row in of_rows}
    assert set(found["sources"]) == named - {None}


# ----------------------------------------------------------------------------------------------------- the loader


def test_values_are_kept_as_printed_and_in_the_metrics_unit(tmp_path: Path) -> None:
    a, b = load(small(tmp_path))["first"].rows
    assert (a.numbers["fid"].printed, a.numbers["fid"].value) == ("9.00", 9.0)
    assert (a.numbers["params_m"].printed, a.numbers["params_m"].value) == ("0.9B", 900.0)
    assert (a.resolution, b.resolution) == (256, 512)
    assert (a.numbers["fid"].sure, b.numbers["fid"].sure) == ("image", "thread")
    assert b.numbers["clip_score"] is None  # the source's dash
    assert "params_m" not in b.numbers  # not recovered
    assert str(a.source) == "Paper (arXiv 2303.05511)"
    assert a.numbers["fid"].protocol == "30,000 captions"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fid: 9.00", "fidd: 9.00", "published.yaml: first: A: no field or metric 'fidd' (did you mean 'fid'?)"),
        ("fid: 9.00", "ssim: 0.7", "first: A: ssim: its set does not say how it was measured"),
        ("fid: 9.00", "fid: about 9", "first: A: fid: must be a number, or –, not 'about 9'"),
        ("fid: 9.00", "fid: 9.00s", "first: A: fid: must be a number"),
        ("fid: 9.00", "fid: {a: 1}", "first: A: fid: must be a number"),
        ("0.9B", "900", "first: A: params_m: must be a number with M or B, or –, not '900'"),
        ("[8.1, thread]", "[8.1]", "first: B: fid: must be a value, or [value, sure]"),
        ("[8.1, thread]", "[8.1, memory]", "first: B: fid: no surety 'memory'"),
        ("sure: image", "sure: recalled", "no surety 'recalled'"),
        (", sure: image", "", "first: about: lacks sure"),
        (" data: COCO 2014,", "", "first: about: lacks data, the images that were scored"),
        ("source: paper", "source: papper", "first: no source 'papper' (did you mean 'paper'?)"),
        ("fid: fid,", "fid: fidd,", "first: no protocol 'fidd' (did you mean 'fid'?)"),
        ("fid: fid,", "fidd: fid,", "first: measured: no field or metric 'fidd' (did you mean 'fid'?)"),
        ("method: A, ", "", "first: ?: lacks method"),
        ("method: B, resolution: 512", "method: A", "first: A: fid stands twice: tell them apart"),
        ("resolution: 512", "resolution: large", "first: B: resolution must be a whole number, not 'large'"),
        ("resolution: 512", "branch: no", "first: B: branch must be true, or absent"),
        ("- {method: A, fid: 9.00, clip_score: 0.30, params_m: 0.9B}", "- A", "first: ?: must have fields"),
        ("- {method: A, fid: 9.00, clip_score: 0.30, params_m: 0.9B}", "- {method: A}", "first: A: has no number"),
        ("sets:", "speeds: [speed]\nsets:", "speeds: no protocol 'speed' (did you mean 'speed@2'?)"),
        ("sets:", "speeds: speed@1\nsets:", "speeds must be a list of names"),
        ("{method: A, ", "{method: A, ours: {a: b}, ", "first: A: ours must be a list of names"),
        ("    rows:", "    controlled: {suite: a, protocols: [b]}\n    rows:", "first: controlled: lacks note"),
        ("    rows:", "    controlled: {suite: a, protocols: [b], note: c}\n    rows:", "protocols: no protocol 'b'"),
        ("    rows:", "    ours: [somehow]\n    rows:", "first: ours: no protocol 'somehow'"),
        ("    rows:", "    columns: {FID: fidd}\n    rows:", "first: column FID: no metric or field 'fidd'"),
        ("    measured:", "    mesured:", "first: no field or metric 'mesured' (did you mean 'measured'?)"),
        ("  fid: 30,000 captions", "  fid:", "protocols: every field must have a text"),
        ("{name: Thread}", "{nam: Thread}", "thread: no field or metric 'nam' (did you mean 'name'?)"),
        ("sets:", "stes:", "no field or metric 'stes' (did you mean 'sets'?)"),
        ("clip_score: 0.30", "fid: 1", "'fid' stands twice"),
    ],
)
def test_a_mistake_is_one_line_with_its_file_and_entry(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        load(small(tmp_path, old, new))
    assert said in found.value.message
    assert "published.yaml" in found.value.message
    assert "\n" not in str(found.value)


def test_a_row_may_be_one_of_ours_or_several_and_speeds_belong_to_tables_with_times(tmp_path: Path) -> None:
    a, _ = load(small(tmp_path, "method: A,", "method: A, ours: gigagan,"))["first"].rows
    assert a.ours == ("gigagan",)
    a, b = load(small(tmp_path, "method: A,", "method: A, ours: [gigagan, rivals/gigagan],"))["first"].rows
    assert (a.ours, b.ours) == (("gigagan", "rivals/gigagan"), ())
    assert load(small(tmp_path, "sets:", "speeds: [speed@1]\nsets:"))["first"].speeds == ()
    assert published.table("table3").speeds == published.table("table2").speeds != ()
    assert published.table("table1").speeds == published.table("tableA1").speeds == ()


def test_one_number_in_two_sets_of_one_table_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path)
    again = SMALL[SMALL.index("  first:") :].replace("first", "second")
    path.write_text(SMALL + again, encoding="utf-8")
    with pytest.raises(UserError, match="second: A: fid stands in first too: tell them apart"):
        load(path)
