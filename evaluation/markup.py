"""Text and rows of tables in Markdown and LaTeX."""

from __future__ import annotations

import re

_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "±": r"$\pm$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "−": "$-$", "–": "--", "\u00a0": "~", "×": r"$\times$",
}  # fmt: skip

TEX_FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
"""What a LaTeX tabular stands in, up to a last ``}``: it is shrunk only if wider than the text (graphicx)."""


def md(text: str) -> str:
    return re.sub(r"([\\`*_|<>]|(?<=\])[(\[])", r"\\\1", _one_line(text))


def md_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in _one_line(text))


def tex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _one_line(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text).strip()
