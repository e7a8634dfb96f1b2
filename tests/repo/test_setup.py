"""setup.py: the list of compiled modules names files that exist."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def compiled() -> list[str]:
    """The list, read from the source: setup.py cannot be imported without building."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["COMPILED"]
    ]
    assert len(values) == 1
    return list(ast.literal_eval(values[0]))


def test_each_compiled_module_exists_and_is_listed_once() -> None:
    found = compiled()
    assert [path for path in found if not (ROOT / path).is_file()] == []
    assert found == sorted(set(found))
    assert "router/dataplane/gateway.py" in found
