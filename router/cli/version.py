"""What `turnout --version` prints: the version, and whether this build is compiled. It cannot build."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build.txt"
"""Written into wheels by setup.py. A checkout has none, and is never compiled."""


def build(note: Path = BUILD) -> str:
    """`compiled by mypyc 2.4.1`, or `pure Python` with the reason."""
    try:
        return note.read_text().strip()
    except FileNotFoundError:
        return "pure Python: a checkout"


def version_line() -> str:
    """`turnout 0.1.0 (compiled by mypyc 2.4.1)`."""
    return f"turnout {version('turnout')} ({build()})"
