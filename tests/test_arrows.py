"""Arrows point one way: who may import whom; and no file grows too long."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("gigagan", "ablations", "evaluation", "tests")
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))

# What ablations may import at any time.
LIGHT = (
    *(f"gigagan.{name}" for name in ("config", "entries", "errors", "files", "overrides", "pretrained")),
    *("evaluation.rivals.config", "evaluation.rivals.pretrained.settings"),
)


@functools.cache
def imports(path: Path) -> list[tuple[str, str]]:
    """(imported module, name of the function it is imported in or "") for every import of ours and others'."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                module = child.module or ""
                # `from gigagan import latents` imports gigagan.latents.
                for alias in child.names:
                    inner = ROOT / module.replace(".", "/") / alias.name
                    is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                    yield (f"{module}.{alias.name}" if is_module else module), function
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, child.name)
            else:
                yield from walk(child, function)

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), ""))


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def offending(package: str, allowed) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {module}" + (f" in {function}" if function else "")
        for path in FILES
        if path.is_relative_to(ROOT / package)
        for module, function in imports(path)
        if not allowed(module, function)
    ]


def test_gigagan_knows_nothing_of_ablations_and_scoring():
    assert not offending("gigagan", lambda module, _: not within(module, "ablations", "evaluation", "tests"))


def test_ablations_knows_the_configuration_and_builds_networks_only_to_count():
    counting = ("network", "map_widths", "clip_config", "step", "_clip", "_gigagan", "_rival", "_counter",
                "without_files")  # fmt: skip

    def allowed(module: str, function: str) -> bool:
        if within(module, "ablations", *LIGHT) or not within(module, *OURS):
            return True
        return function in counting and within(module, "gigagan", "evaluation.rivals")

    assert not offending("ablations", allowed)


def test_ablations_is_light_to_import():
    """It is read at every start of the workflow, also of a dry run."""
    heavy = ("torch", "numpy", "open_clip", "pandas", "PIL", "scipy")
    assert not offending("ablations", lambda module, function: function or not within(module, *heavy))
    seen, waiting = set(), list(LIGHT)
    while waiting:
        module = waiting.pop()
        path = ROOT / f"{module.replace('.', '/')}.py"
        seen.add(module)
        for imported, function in imports(path):
            assert function or not within(imported, *heavy), f"{module} imports {imported}"
            if within(imported, "gigagan", "evaluation") and imported not in seen and not function:
                waiting.append(imported)


def test_evaluation_never_imports_ablations():
    assert not offending("evaluation", lambda module, _: not within(module, "ablations", "tests"))


def test_nothing_but_the_snakefile_imports_snakemake():
    assert not [
        o for package in OURS[:3] for o in offending(package, lambda module, _: not within(module, "snakemake"))
    ]


def test_the_snakefile_imports_the_registry_only_and_defines_no_function():
    lines = (ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()
    imported = [line.strip() for line in lines if line.strip().startswith(("import ", "from "))]
    ours = [line for line in imported if any(within(line.split()[1], package) for package in OURS)]
    assert ours == ["from ablations import registry"]
    assert not [line for line in lines if line.strip().startswith(("def ", "class ")) or "lambda" in line]


def test_the_package_itself_imports_nothing_heavy():
    """``import gigagan`` is what set-up and version checks do; torch alone takes seconds."""
    for name, ours in (("__init__", ["gigagan.errors"]), ("errors", [])):
        modules = {module for module, _ in imports(ROOT / "gigagan" / f"{name}.py")} - {"__future__"}
        assert [module for module in modules if module.split(".")[0] not in sys.stdlib_module_names] == ours


@pytest.mark.parametrize(
    "path",
    [*FILES, ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_file_is_longer_than_500_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("variant_word", ["if variant ==", "if variant in"])
def test_no_code_asks_which_variant_it_is(variant_word):
    code = [path for path in FILES if not path.is_relative_to(ROOT / "tests")]
    assert not [path for path in code if variant_word in path.read_text(encoding="utf-8")]


def test_every_departure_from_the_paper_gives_its_reason():
    """``git grep -n "Deviation:"`` lists them; each says what is different."""
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "Deviation:" in line and path.is_relative_to(ROOT / "gigagan"):
                assert len(line.split("Deviation:")[1].split()) >= 4, f"{path}: {line.strip()}"
