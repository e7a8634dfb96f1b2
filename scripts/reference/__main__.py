"""Writes every generated reference page: `python -m scripts.reference`, which `make docs` runs.

A test compares the pages with what this would write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.reference import command_line, control_api, errors, metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": command_line.page,
    "control-api.md": control_api.page,
    "errors.md": errors.page,
    "metrics.md": metrics.page,
}
"""File below docs/ -> its text."""

if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text())
