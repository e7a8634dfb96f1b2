"""Markdown tables that can be read unrendered as well, and the marked part of a page. Pure: text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table: the first column to the left, all others to the right."""
    widths = [max(len(line[at]) for line in [titles, *rows]) for at in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
    return "\n".join([line(titles), rule, *map(line, rows)])


def facts(title: str, values: Mapping[str, str]) -> str:
    """A table of names and values, such as the machine's."""
    return grid([title, ""], [[name, value] for name, value in values.items()])


def between(page: str, begin: str, end: str, text: str) -> str:
    """The page with `text` between two marks. Raises ValueError if it has no such marks."""
    before, mark, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not mark or not last:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
