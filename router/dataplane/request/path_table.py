"""A table of paths and of beginnings of paths, as settings write them: `/agents/run`, `/agents/*`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class PathTable(Generic[T]):
    """Path -> value. Of several rows the longest counts, and of two the one that comes first."""

    def __init__(self, rows: Iterable[tuple[str, T]]) -> None:
        """`/agents/*` is for `/agents`, too."""
        self._rows: list[tuple[bytes, bool, T]] = [
            (path.removesuffix("*").encode(), path.endswith("/*"), value) for path, value in rows
        ]
        self._rows.sort(key=lambda row: len(row[0]), reverse=True)

    def find(self, path: bytes) -> tuple[T, bytes] | None:
        """The value for this path, and the path after the row's beginning; None where there is no row."""
        for known, begins, value in self._rows:
            if path == known or (begins and (path.startswith(known) or path == known[:-1])):
                return value, path[len(known) :]
        return None
