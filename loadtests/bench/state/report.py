"""Stamps to delays, figures to tables with their goals. Pure."""

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
"""Upper bounds."""

Found = Mapping[str, float | None]
"""A column: the figures by name; None if there is none."""


class Table(NamedTuple):
    """One measurement."""

    title: str
    about: str
    columns: Mapping[str, Found]
    """By heading; all have the same figures."""


def delays(sent: Sequence[Sequence[float]], received: Sequence[Sequence[float]]) -> tuple[list[float], int]:
    """Seconds from each stamp of one replica until another received that dispatch or a later one to the pod, in order
    of size; and how many it never received.
    """
    counts: dict[int, list[float]] = {}
    times: dict[int, list[float]] = {}
    for pod, dispatched, at_s in received:
        counts.setdefault(int(pod), []).append(dispatched)
        times.setdefault(int(pod), []).append(at_s)
    found: list[float] = []
    for pod, dispatched, at_s in sent:
        reached = counts.get(int(pod), [])
        first = bisect_left(reached, dispatched)
        if first < len(reached):
            found.append(times[int(pod)][first] - at_s)
    return sorted(found), len(sent) - len(found)


def misses(table: Table) -> list[str]:
    """The missed goals, a sentence each."""
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
    missed = [each for table in tables for each in misses(table)]
    verdict = "All goals are met." if not missed else "**Goals missed:** " + "; ".join(missed) + "."
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
        "missed": [each for table in tables for each in misses(table)],
        "tables": {table.title: {name: dict(found) for name, found in table.columns.items()} for table in tables},
    }


def number(value: float | None) -> str:
    """At most three digits."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
