"""Tables and marks that all generated pages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WRITTEN = "<!-- Written by `make docs` from {source}. Change the text there. -->"


def opening(title: str, source: str, text: str) -> str:
    """The head of a generated page."""
    return f"# {title}\n\n{WRITTEN.format(source=source)}\n\n{text.strip()}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a `|` in a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def sentence(text: str) -> str:
    """The text as one line that begins with a capital letter and ends with a full stop."""
    line = " ".join(text.split())
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", ")")) or not line else ".")
