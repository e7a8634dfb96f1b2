"""setup.py: the list of compiled modules names files that exist; when a build is compiled, and what it needs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    """setup.py, which builds nothing when it is imported."""
    spec = importlib.util.spec_from_file_location("turnout_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment asks for no kind of build."""
    monkeypatch.delenv("TURNOUT_COMPILE", raising=False)


def test_each_compiled_module_exists_and_is_listed_once(setup: ModuleType) -> None:
    found = setup.COMPILED
    assert [path for path in found if not (ROOT / path).is_file()] == []
    assert found == sorted(set(found))
    assert "router/dataplane/gateway.py" in found


@pytest.mark.parametrize("compiler", ["false", "true", "/nonexistent/cc --std=c99"])
def test_a_compiler_that_makes_nothing_gives_a_pure_build(
    setup: ModuleType, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert setup.forbidden() == setup.NO_COMPILER
    assert setup.built(["setup.py", "bdist_wheel"], setup.NO_COMPILER) == ([], f"pure Python: {setup.NO_COMPILER}")


@pytest.mark.parametrize(("asked", "reason"), [("1", ""), ("0", "built with TURNOUT_COMPILE=0")])
def test_what_is_asked_for_is_not_tried(
    setup: ModuleType, asked: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("TURNOUT_COMPILE", asked)
    assert setup.forbidden() == reason


@pytest.mark.parametrize("command", ["egg_info", "dist_info", "editable_wheel", "sdist"])
def test_only_a_wheel_is_compiled(setup: ModuleType, command: str) -> None:
    extensions, _ = setup.built(["setup.py", command], "")
    assert extensions == []


def test_a_compiled_build_needs_what_the_lock_for_it_has(setup: ModuleType) -> None:
    text = (ROOT / "requirements/compile.in").read_text()
    locked = [line for line in text.splitlines() if not line.startswith("#")]
    asked = setup.requirements()
    assert len(asked) == len(setup.CHECKED) + len(setup.COMPILER)
    names = [sorted(line.split(">=")[0] for line in lines) for lines in (asked, locked)]
    assert names[0] == names[1]
