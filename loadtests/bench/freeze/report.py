"""Windows in, a table out: each disturbance, the gaps between chunks without and with it, and the goal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.load.tally import Tally
from loadtests.report.tables import grid

GOAL_MS = 5.0
"""Largest allowed change of the gaps' p99."""


class Window(NamedTuple):
    """The figures of one window."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    chunks: int
    cut: int
    """Streams that failed, were refused or lost a chunk."""
    happened: int
    """How often the disturbance happened; 0 in a quiet window."""


class Row(NamedTuple):
    """A case over all its windows, which came in pairs: a quiet one, a disturbed one."""

    case: str
    title: str
    quiet: list[Window]
    disturbed: list[Window]

    @property
    def moved_ms(self) -> float:
        """The median over the pairs of the change of the p99: other load on the machine is in both of a pair."""
        pairs = zip(self.quiet, self.disturbed, strict=True)
        return median([disturbed.p99_ms - quiet.p99_ms for quiet, disturbed in pairs])

    @property
    def cut(self) -> int:
        """Streams cut in any window."""
        return sum(window.cut for window in [*self.quiet, *self.disturbed])


def window(tally: Tally, happened: int) -> Window:
    """A window's figures."""
    found = tally.as_json(1.0)
    return Window(
        p50_ms=found["gap_p50_ms"],
        p99_ms=found["gap_p99_ms"],
        max_ms=tally.longest_s * 1e3,
        chunks=tally.chunks,
        cut=tally.failed + tally.bad_status,
        happened=happened,
    )


def table(rows: Sequence[Row]) -> str:
    """In Markdown. Percentiles are medians of windows, maxima are of all of them."""
    titles = ("meanwhile", "quiet p50 / p99 / max, ms", "disturbed p50 / p99 / max, ms", "p99 moved, ms", "goal", "cut")
    lines = []
    for row in rows:
        met = "met" if row.moved_ms <= GOAL_MS else "MISSED"
        lines.append((row.title, _gaps(row.quiet), _gaps(row.disturbed), f"{row.moved_ms:+.1f}", met, str(row.cut)))
    return grid(titles, lines)


def _gaps(windows: Sequence[Window]) -> str:
    p50, p99 = median([each.p50_ms for each in windows]), median([each.p99_ms for each in windows])
    return f"{p50:.1f} / {p99:.1f} / {max(each.max_ms for each in windows):.1f}"


def as_json(about: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """What a program reads."""
    cases = {
        row.case: {
            "title": row.title,
            "p99_moved_ms": round(row.moved_ms, 3),
            "cut": row.cut,
            "quiet": [each._asdict() for each in row.quiet],
            "disturbed": [each._asdict() for each in row.disturbed],
        }
        for row in rows
    }
    return {**about, "goal_ms": GOAL_MS, "cases": cases}
