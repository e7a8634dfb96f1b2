"""The shape of the tree: a test file for every source file, a rule at the head of each, no file too long to read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("router", "statesync", "schedulers")
SHORT = 40
LONGEST = 350

UNTESTED: dict[str, str] = {
    "router/__main__.py": "`python -m router`: the end-to-end tests start it",
}
"""Source files without a test file of their own, and why. One that gets its test leaves this table."""

SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALL_SOURCES = SOURCES + sorted(path.relative_to(ROOT) for path in (ROOT / "loadtests").rglob("*.py"))
TESTS = {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def twins(source: Path) -> set[str]:
    """The names its test file may have; with the package's name where two packages have a file of that name."""
    return {f"test_{source.stem}.py", f"test_{source.parent.name}_{source.stem}.py"}


def does_something(source: Path) -> bool:
    """Whether any function in it has a body; a file of Protocols and values has nothing to test."""
    tree = ast.parse((ROOT / source).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(not isinstance(line, ast.Expr) for function in functions for line in function.body)


def needs_a_test(source: Path) -> bool:
    long = len((ROOT / source).read_text().splitlines()) > SHORT
    return long and does_something(source) and source.name != "__init__.py"


def test_the_sources_were_found() -> None:
    assert Path("router/settings.py") in SOURCES


@pytest.mark.parametrize("source", [s for s in SOURCES if str(s) not in UNTESTED and needs_a_test(s)], ids=str)
def test_a_source_file_has_a_test_file_of_its_name(source: Path) -> None:
    assert twins(source) & TESTS, f"no {' or '.join(sorted(twins(source)))} anywhere under tests/"


def test_the_table_of_exceptions_shrinks_when_it_can() -> None:
    for source in UNTESTED:
        assert not twins(Path(source)) & TESTS, f"{source} has its test now: take it out of UNTESTED"


@pytest.mark.parametrize("source", ALL_SOURCES, ids=str)
def test_a_source_file_opens_with_its_rule(source: Path) -> None:
    text = (ROOT / source).read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{source} opens with no docstring"


@pytest.mark.parametrize("source", ALL_SOURCES, ids=str)
def test_a_source_file_can_be_read_in_one_sitting(source: Path) -> None:
    lines = len((ROOT / source).read_text().splitlines())
    assert lines <= LONGEST, f"{source} has {lines} lines; more than {LONGEST} is two files"
