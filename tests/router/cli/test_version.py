"""The build in words: from the note in a wheel, or that there is none."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from router.cli.version import build, version_line


def test_the_note_in_a_wheel_is_what_is_said(tmp_path: Path) -> None:
    note = tmp_path / "build.txt"
    note.write_text("compiled by mypyc 2.4.1\n")
    assert build(note) == "compiled by mypyc 2.4.1"


def test_a_checkout_is_pure_python(tmp_path: Path) -> None:
    assert build(tmp_path / "build.txt") == "pure Python: a checkout"


def test_the_line_has_the_version_of_the_distribution() -> None:
    assert version_line() == f"turnout {version('turnout')} ({build()})"
