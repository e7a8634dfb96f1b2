"""The layout of the tree: every source file has its test at the mirrored path, opens with its rule, and is short."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

from scripts.import_picture import Picture, pictures, reachable

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("router", "statesync", "schedulers")
SHORT = 40
LONGEST = 350
LONGEST_FUNCTION = 50

UNTESTED: dict[str, str] = {
    "router/__main__.py": "`python -m router`: the end-to-end tests start it",
}
"""Source files without their own test file, and why. A file that gets a test is removed from this table."""

SHARED_FOLDERS = {"fakes", "data", "repo", "deploy", "e2e", "chaos", "clients"}
"""Folders of tests/ that mirror no package: shared helpers, and tests of more than one module."""


@cache
def sources(*packages: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py"))


@cache
def text_of(source: Path) -> str:
    return (ROOT / source).read_text()


class Content(NamedTuple):
    """What a source file's syntax tree shows."""

    has_a_rule: bool
    """It opens with a docstring."""
    does_something: bool
    """Some function in it has a body; a file of Protocols and values has nothing to test."""
    functions: list[tuple[str, int]]
    """`name:line` and the number of lines of each."""
    classes: list[str]


@cache
def content_of(source: Path) -> Content:
    tree = ast.parse(text_of(source))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return Content(
        has_a_rule=bool(ast.get_docstring(tree)),
        does_something=any(not isinstance(line, ast.Expr) for function in functions for line in function.body),
        functions=[(f"{node.name}:{node.lineno}", (node.end_lineno or 0) - node.lineno + 1) for node in functions],
        classes=[node.name for node in tree.body if isinstance(node, ast.ClassDef)],
    )


def twin(source: Path) -> Path:
    """The path of a source file's test file."""
    return Path("tests", source.parent, f"test_{source.stem}.py")


def needs_a_test(source: Path) -> bool:
    long = len(text_of(source).splitlines()) > SHORT
    return long and source.name != "__init__.py" and str(source) not in UNTESTED and content_of(source).does_something


def test_every_source_file_has_its_test_at_the_mirrored_path() -> None:
    found = sources(*PACKAGES)
    assert Path("router/settings.py") in found
    missing = [f"{source}: no {twin(source)}" for source in found if needs_a_test(source)]
    assert [line for line in missing if not (ROOT / line.split("no ")[1]).exists()] == []


def test_every_test_file_is_in_a_folder_that_mirrors_a_source_folder_or_is_listed() -> None:
    folders = {path.parent for path in sources(*PACKAGES, "loadtests")}
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    assert [str(test) for test in tests if test.parts[0] not in SHARED_FOLDERS and test.parent not in folders] == []


def test_the_table_of_exceptions_has_no_file_with_a_test() -> None:
    assert [source for source in UNTESTED if (ROOT / twin(Path(source))).exists()] == []


def test_every_source_file_opens_with_its_rule() -> None:
    every = sources(*PACKAGES, "loadtests")
    bare = [str(source) for source in every if text_of(source).strip() and not content_of(source).has_a_rule]
    assert bare == []


def test_every_source_file_is_short() -> None:
    long = [
        f"{each}: {lines} lines"
        for each in sources(*PACKAGES, "loadtests")
        if (lines := text_of(each).count("\n")) > LONGEST
    ]
    assert long == [], f"more than {LONGEST} lines are two files"


def test_every_function_fits_on_a_screen() -> None:
    long = [
        f"{each}: {name}: {lines} lines"
        for each in sources(*PACKAGES, "loadtests")
        for name, lines in content_of(each).functions
        if lines > LONGEST_FUNCTION
    ]
    assert long == [], f"more than {LONGEST_FUNCTION} lines are two functions"


def test_public_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for each in sources(*PACKAGES):
        for name in content_of(each).classes:
            if not name.startswith("_"):
                places[name].append(str(each))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_imports_between_folders_form_no_cycle() -> None:
    assert {each.package: each.circular for each in pictures() if each.circular} == {}


def test_a_cycle_of_folders_is_found() -> None:
    arrows = frozenset({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")})
    assert reachable(arrows) == {"a": {"b", "c", "d"}, "b": {"b", "c", "d"}, "c": {"b", "c", "d"}}
    assert Picture("some", 4, 4, arrows).circular == [("b", "c"), ("c", "b")]


def test_every_link_that_is_kept_leads_to_a_file_of_the_repository() -> None:
    kept = subprocess.run(["git", "ls-files", "-s", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    links = [entry.partition("\t")[2] for entry in kept.stdout.split("\0") if entry.startswith("120000 ")]
    assert links, "the chart has two"
    assert {link for link in links if not (ROOT / link).resolve().is_relative_to(ROOT)} == set()
    assert {link for link in links if not (ROOT / link).exists()} == set()
