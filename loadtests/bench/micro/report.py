"""pytest-benchmark's JSON to results, tables and verdicts: how a cost grows, and whether it is in budget. Pure.

The best round is the cost of the code; the median includes other programs' use of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.micro.plot import Points, number
from loadtests.report.tables import grid

FLAT, LOGARITHMIC, BELOW_LINEAR, LINEAR = "flat", "logarithmic", "below linear", "linear"


class Group(NamedTuple):
    """Benchmarks of one table and, if they have sizes, one plot."""

    title: str
    unit: str
    """Of the size; empty where there is none."""
    budgets_us: Mapping[int, float] = {}
    """By size."""


GROUPS = {
    "pick": Group("pick() by pods", "pods", {100: 10.0, 1000: 60.0}),
    "pick, hits": Group("pick() of prefix_aware by pods that hold part of the prompt", "pods", {100: 10.0, 1000: 60.0}),
    "pick, retry": Group("pick() of a retry: one pod was tried", "pods", {100: 10.0, 1000: 60.0}),
    "prefix by prompt": Group(
        "Prefix index: chain, match and place by prompt length; 100k blocks in the index",
        "bytes of prompt",
        {400_000: 1000.0},
    ),
    "prefix by index": Group(
        "Prefix index: chain, match and place of a 32 KB prompt by index size", "blocks in the index"
    ),
    "view": Group("Load view by pods", "pods"),
    "body": Group("Body parse by size", "bytes of body"),
    "parts": Group("Small parts", ""),
}


class Result(NamedTuple):
    """One benchmark."""

    group: str
    series: str
    size: int
    min_us: float
    median_us: float
    rounds: int


def results(found: Mapping[str, Any]) -> list[Result]:
    """Out of pytest-benchmark's JSON, in the order of `GROUPS`."""
    every = [
        Result(
            one["group"],
            one["extra_info"]["series"],
            one["extra_info"]["size"],
            round(one["stats"]["min"] * 1e6, 3),
            round(one["stats"]["median"] * 1e6, 3),
            one["stats"]["rounds"],
        )
        for one in found["benchmarks"]
    ]
    order = list(GROUPS)
    return sorted(every, key=lambda one: order.index(one.group))  # stable: within a group, as they ran


def merged(passes: Sequence[Sequence[Result]]) -> list[Result]:
    """Several passes as one: the best round of all, the median of the medians. Other load on the machine for half
    a minute spoils one pass, not all."""
    found: dict[tuple[str, str, int], list[Result]] = {}
    for one in (one for each in passes for one in each):
        found.setdefault((one.group, one.series, one.size), []).append(one)
    return [
        same[0]._replace(
            min_us=min(one.min_us for one in same),
            median_us=round(median(one.median_us for one in same), 3),
            rounds=sum(one.rounds for one in same),
        )
        for same in found.values()
    ]


def by_series(group: str, every: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of a group, by series, each by size."""
    found: dict[str, list[Result]] = {}
    for one in sorted((one for one in every if one.group == group), key=lambda one: one.size):
        found.setdefault(one.series, []).append(one)
    return found


def points(group: str, every: Sequence[Result]) -> dict[str, Points]:
    """What is plotted of a group: the best rounds."""
    return {name: [(one.size, one.min_us) for one in row] for name, row in by_series(group, every).items()}


def growth(row: Points) -> str:
    """How cost follows size; "" for a single size.

    Flat: less than 1.5 times from end to end. Linear: the last step grows by more than size^0.6. Logarithmic: no more
    than the logarithm of the size does, with half as much to spare.
    """
    if len(row) < 2:
        return ""
    (first_size, first), (before_size, before), (last_size, last) = row[0], row[-2], row[-1]
    if last / first < 1.5:
        return FLAT
    if math.log(last / before) / math.log(last_size / before_size) > 0.6:
        return LINEAR
    return LOGARITHMIC if last / first < 1.5 * math.log(last_size) / math.log(first_size) else BELOW_LINEAR


def verdict(row: Sequence[Result], budgets_us: Mapping[int, float]) -> str:
    """Whether the budgets are met; empty if there is none. The worst size decides."""
    judged = [(one, budgets_us[one.size]) for one in row if one.size in budgets_us]
    if not judged:
        return ""
    over = [f"{number(one.size)}: {us(one.min_us)} > {us(limit)}" for one, limit in judged if one.min_us > limit]
    if over:
        return f"**not met** ({', '.join(over)})"
    return "met" if all(one.median_us <= limit for one, limit in judged) else "met by the best round, not the median"


def table(group: str, every: Sequence[Result]) -> str:
    """Markdown: a row a series, a column a size, `best / median`."""
    rows, about = by_series(group, every), GROUPS[group]
    sizes = sorted({one.size for row in rows.values() for one in row})
    sized = bool(about.unit)
    head = ["us, best / median", *(f"{number(size)} {about.unit}" if sized else "" for size in sizes)]
    head += ["grows"] * sized + ["budget"] * bool(about.budgets_us)
    lines = []
    for name, row in rows.items():
        found = {one.size: f"{us(one.min_us)} / {us(one.median_us)}" for one in row}
        cells = [name, *(found.get(size, "") for size in sizes)]
        cells += [growth([(one.size, one.min_us) for one in row])] * sized
        cells += [verdict(row, about.budgets_us)] * bool(about.budgets_us)
        lines.append(cells)
    return grid(head, lines)


def us(value: float) -> str:
    """Three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
