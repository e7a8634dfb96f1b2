"""`best`: for each figure, the best of all peers and the oracle. Pure: rows in, a row out.

The oracle is greedy and does not know the next arrivals, so it is not the best everywhere. Nor is `best` a policy or a
bound: its figures come from different runs, and a policy may be better than it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from loadtests.sim.simulate.summary import Goodput, Row, Spread

BEST: Final = "best"
"""Its name among policies."""

ORACLE: Final = "oracle"


def envelope(rows: Sequence[Row]) -> Row:
    """The lowest of each time and each number of failures, the highest goodput, the evenest load, and the most hits of
    a peer: the oracle knows the caches, so its hits count only if there is no other row.

    `rows` are those of one case, at least one; windows have no envelope.
    """
    peers = [row for row in rows if row.policy != ORACLE] or rows
    kept = [row.goodput for row in rows if row.goodput is not None]
    return Row(
        policy=BEST,
        ttft_s=_spread(rows, lambda row: row.ttft_s),
        itl_s=_spread(rows, lambda row: row.itl_s),
        e2e_s=_spread(rows, lambda row: row.e2e_s),
        hit_rate=max(row.hit_rate for row in peers),
        load_imbalance=min(row.load_imbalance for row in rows),
        ttft_short_s=_spread(rows, lambda row: row.ttft_short_s),
        prefill_utilisation=min(row.prefill_utilisation for row in rows),
        requests=max(row.requests for row in rows),
        rejected=min(row.rejected for row in rows),
        windows=[],
        lost=min(row.lost for row in rows),
        retried=min(row.retried for row in rows),
        shed=min(row.shed for row in rows),
        goodput=max(kept, default=None),
        goodput_by_priority=[_goodput(level) for level in zip(*(row.goodput_by_priority for row in rows), strict=True)],
    )


def _spread(rows: Sequence[Row], figure: Callable[[Row], Spread]) -> Spread:
    """The lowest of each of its numbers."""
    found = [figure(row) for row in rows]
    mean, p50 = min(each.mean for each in found), min(each.p50 for each in found)
    return Spread(mean, p50, min(each.p90 for each in found), min(each.p99 for each in found))


def _goodput(level: Sequence[Goodput]) -> Goodput:
    """One priority, of all rows."""
    first = level[0]
    met, in_time = max(each.met for each in level), max(each.ttft_met for each in level)
    return Goodput(first.priority, first.requests, met, in_time, min(each.unserved for each in level))
