"""The whole pool beside the arms: a candidate that fills a pod harms the requests of both arms there, which the arms'
comparison does not show. Pure, except for `PoolHistory`, which keeps numbers.

Two things must be certain. The pool's times to first token, of both arms together, are the limit times what they were
before the trial. And the candidate, more often than the policy in force, sends requests to pods that are fuller than
the pool's average at that moment. The first alone may be a busier hour. The second compares arms that were drawn at
random, so a candidate that chooses as the policy in force does is taken back by this guard with the stated
probability at most, whatever the hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from router.trials.clusters import Clustered, effects
from router.trials.durations import bucket_of, total
from router.trials.evidence import Tally, against_excess
from router.trials.figures import TrialFigures

FULLER: Final = 0.1
"""The candidate's share of picks of fuller pods must exceed the other's by more than this."""

ENOUGH: Final = 200
"""Streams before the trial, without which the pool is not judged."""

EVERY_S: Final = 30.0
SPAN_S: Final = 600.0
"""Seconds between two notes of a pool's times, and how far back `before` reaches."""

Totals = Sequence[int]
"""Streams at or below each bound of a histogram, ever."""


class PoolHistory:
    """A pool's times to first token on this replica, over the last minutes."""

    def __init__(self, bounds: Sequence[float], read: Callable[[], Totals]) -> None:
        """`read` returns the pool's totals now, for these bounds and for what is beyond the last one."""
        self._edges = [bucket_of(bound) for bound in bounds]
        self._read = read
        self._noted: deque[tuple[float, Totals]] = deque(maxlen=int(SPAN_S / EVERY_S) + 1)

    def note(self, now: float) -> None:
        """Keep the totals of now, at most every `EVERY_S`."""
        if not self._noted or now - self._noted[-1][0] >= EVERY_S:
            self._noted.append((now, self._read()))

    def before(self) -> dict[int, int]:
        """The times up to now."""
        oldest = self._noted[0][1] if self._noted else self._read()
        return self._between(oldest, self._read())

    def since(self, totals: Totals) -> dict[int, int]:
        """The times since the pool had these totals."""
        return self._between(totals, self._read())

    def totals(self) -> Totals:
        """What the pool has now."""
        return self._read()

    def _between(self, start: Totals, end: Totals) -> dict[int, int]:
        """Evenly over the buckets between two bounds; those beyond the last one are in its bucket."""
        found: dict[int, int] = {}
        passed, low = 0, 0
        for at, (first, last) in enumerate(zip(start, end, strict=True)):
            high = self._edges[min(at, len(self._edges) - 1)]
            count, passed = last - first - passed, last - first
            width = max(1, high - low)
            each, rest = divmod(count, width)
            for step in range(width if count else 0):
                number = each + (step < rest)
                if number:
                    found[high - 1 - step] = found.get(high - 1 - step, 0) + number
            low = high
        return found


def is_known(figures: TrialFigures) -> bool:
    """Whether there are enough streams to compare the pool with what it was before the trial."""
    return total(figures.before) >= ENOUGH and total(figures.during) > 0


def crowding(figures: TrialFigures) -> float:
    """The log evidence that the candidate, more often than the other policy, picks the fuller pods."""
    arms = figures.canary, figures.baseline
    counts = [Clustered(arm.fuller_by, arm.placed_by) for arm in arms]
    one, other = (
        Tally(sum(each.hits.values()) / by, sum(each.of.values()) / by)
        for each, by in zip(counts, effects(counts), strict=True)
    )
    return against_excess(one, other, FULLER, above=True) if one.of and other.of else 0.0
