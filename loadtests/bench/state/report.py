"""Stamps to delays, figures to tables, each beside its goal. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loadtests.report.tables import facts, grid

GOALS = {
    "round trips/s": 600.0,
    "seen p50 ms": 4.0,
    "seen p99 ms": 15.0,
    "warm after s": 2.0,
    "views that differ from the truth": 0.0,
    "placements dropped": 0.0,
}
"""At most this; DESIGN's budgets."""

Found = Mapping[str, float | None]
"""A column: the figures by name; None where there is nothing to say."""


class Table(NamedTuple):
    """One measurement."""

    title: str
    about: str
    columns: Mapping[str, Found]
    """By heading; all have the same figures."""


def delays(sent: Sequence[Sequence[float]], heard: Sequence[Sequence[float]]) -> tuple[list[float], int]:
    """Seconds from each stamp of one replica until another had heard of that dispatch or a later one to the pod, in
    order of size; and how many were never heard of.
    """
    counts: dict[int, list[float]] = {}
    times: dict[int, list[float]] = {}
    for pod, dispatched, at_s in heard:
        counts.setdefault(int(pod), []).append(dispatched)
        times.setdefault(int(pod), []).append(at_s)
    found: list[float] = []
    for pod, dispatched, at_s in sent:
        told = counts.get(int(pod), [])
        first = bisect_left(told, dispatched)
        if first < len(told):
            found.append(times[int(pod)][first] - at_s)
    return sorted(found), len(sent) - len(found)


def misses(table: Table) -> list[str]:
    """Which goals were missed, in words."""
    return [
        f"{table.title}, {column}: {name} {number(value)}, goal {number(GOALS[name])}"
        for column, found in table.columns.items()
        for name, value in found.items()
        if value is not None and name in GOALS and value > GOALS[name]
    ]


def markdown(table: Table) -> str:
    """A row a figure, a column a case, the goal in the last column."""
    rows = []
    for name in next(iter(table.columns.values())):
        cells = [number(found[name]) for found in table.columns.values()]
        rows.append([name, *cells, f"<= {number(GOALS[name])}" if name in GOALS else ""])
    return "\n".join([f"### {table.title}", "", table.about, "", grid(["", *table.columns, "goal"], rows), ""])


def document(about: Mapping[str, str], tables: Sequence[Table]) -> str:
    """The page."""
    missed = [words for table in tables for words in misses(table)]
    verdict = "All goals are kept." if not missed else "**Goals missed:** " + "; ".join(missed) + "."
    parts = [
        "# Shared state: what it costs and how fast it is",
        "Made by `make bench-state`.",
        verdict,
        facts("machine", about),
    ]
    return "\n\n".join([*parts, *map(markdown, tables)])


def as_json(about: Mapping[str, str], tables: Sequence[Table]) -> Any:
    """What a program reads."""
    return {
        "machine": dict(about),
        "goals": GOALS,
        "missed": [words for table in tables for words in misses(table)],
        "tables": {table.title: {name: dict(found) for name, found in table.columns.items()} for table in tables},
    }


def number(value: float | None) -> str:
    """Three digits, and no more than are there."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
