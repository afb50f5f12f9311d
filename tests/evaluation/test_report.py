from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation import report
from gigagan import files
from gigagan.errors import UserError

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects what a browser would load, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.words += text


@pytest.fixture
def make(tmp_path: Path, make_suite, variants_file, monkeypatch):
    def run(seeds: int = 1, variants: str = variants_file, gate: str = "") -> str:
        files.write_jsonl(tmp_path / "metrics.jsonl", make_suite(seeds))
        for name in report.FIGURES:
            files.write_text(tmp_path / "figures" / name, "<svg/>")
        figures, common = str(tmp_path / "figures"), ["--suite", "demo", "--records", str(tmp_path / "metrics.jsonl")]
        protocols = tmp_path / "protocols.yaml"
        protocols.write_text("scenes@2:\n  title: <b>Scenes</b>\n")
        arguments = [
            *common,
            "--figures",
            figures,
            "--variants",
            variants,
            "--protocols",
            str(protocols),
            "--gate",
            gate,
        ]
        monkeypatch.setattr("sys.argv", ["report", *arguments, "--out", str(tmp_path / "report.html")])
        report.main()
        return (tmp_path / "report.html").read_text()

    return run


def test_one_file_that_loads_nothing(make) -> None:
    page = Page(make())
    assert len([link for link in page.links if link.startswith("data:image/")]) == len(report.FIGURES)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not page.tags & {"script", "link", "iframe", "object"}
    for words in (
        "not separable at n=1",
        "the largest loss of all",
        "not over seeds",
        "title: <b>Scenes</b>",
        "cccccccccccc",
    ):
        assert words in page.words
    assert "Regression gate" not in page.words


def test_everything_from_outside_is_escaped(make, tmp_path: Path) -> None:
    variants, gate = tmp_path / "odd.yaml", tmp_path / "gate.json"
    variants.write_text('no_attention: {label: "<script>1</script>", expect: "<img src=x onerror=alert(1)>"}\n')
    gate.write_text(json.dumps({"passed": False, "verdict": "<script>2</script>"}))
    page = Page(make(variants=str(variants), gate=str(gate)))
    assert "script" not in page.tags
    assert "x" not in page.links
    for words in ("<script>1</script>", "<img src=x onerror=alert(1)>", "<script>2</script>", "Failed"):
        assert words in page.words


def test_significant_differences_are_bold(make) -> None:
    assert "<strong>" in make(seeds=8)
    assert "<strong>" not in make(seeds=1)


def test_missing_parts(tmp_path: Path) -> None:
    assert report.read_gate(tmp_path / "absent.json") == ""
    (tmp_path / "gate.json").write_text("[]")
    with pytest.raises(UserError, match="no verdict of the gate"):
        report.read_gate(tmp_path / "gate.json")
    with pytest.raises(UserError, match="no figures"):
        report.read_figures(tmp_path)
