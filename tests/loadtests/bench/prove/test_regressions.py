"""Every seeded regression finds its place in today's sources. A change of such a place moves the regression, too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from loadtests.bench.prove.regressions import PACKAGES, REGRESSIONS, ROOT, copy_with


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_changes_one_name_that_is_there(name: str) -> None:
    regression = REGRESSIONS[name]
    text = (ROOT / regression.module).read_text()
    before, _ = regression.replaced
    assert bool(before) != bool(regression.added)
    if before:
        assert text.count(before) == 1
        return
    names = {
        f"{node.name}.{each.name}"
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    } | {node.name for node in ast.parse(text).body if isinstance(node, ast.AsyncFunctionDef)}
    targets = [
        ast.unparse(node.targets[0]) for node in ast.parse(regression.added).body if isinstance(node, ast.Assign)
    ]
    assert names.intersection(targets) == {targets[-1]}


def test_a_copy_differs_from_the_tree_in_one_file(tmp_path: Path) -> None:
    copy = copy_with("stuck-queue", tmp_path)
    sources = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    changed = [str(path) for path in sources if (copy / path).read_bytes() != (ROOT / path).read_bytes()]
    assert changed == ["router/dataplane/queue.py"]


def test_a_place_that_is_gone_is_an_error(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / "tree" / package).mkdir(parents=True)
    module = tmp_path / "tree" / REGRESSIONS["dropped-stream"].module
    module.write_text("")
    with pytest.raises(ValueError, match="exactly once"):
        copy_with("dropped-stream", tmp_path / "copies", tmp_path / "tree")
