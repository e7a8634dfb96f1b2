"""How far a policy is from `best`, the lower envelope of all peers and the oracle, at each point of the suite. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from loadtests.bench.scheduling.suite import FLEET, PAST, Point
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.best import envelope
from loadtests.sim.simulate.summary import Row

SUITE: Final = "suite"
"""The part of the bench that these rows are of."""

Rows = Mapping[tuple[str, str, str], Row]
"""By part, label and policy."""


class Suite(NamedTuple):
    """What was played."""

    points: Sequence[Point]
    held: Sequence[float] = ()
    """Loads that were tried to find the highest one held."""
    limits_s: Mapping[str, float] = {}
    """The p90 that counts as held, by workload."""


class Regret(NamedTuple):
    """One policy at one point."""

    point: Point
    policy: str
    mean: float
    """Its mean over the best one."""
    p99: float
    hits: float
    """Its hit rate above the best peer's; the oracle is none. Below 0: fewer hits."""
    best: str
    """Whose mean is the best."""


def regrets(rows: Rows, points: Iterable[Point], policy: str) -> list[Regret]:
    """At every point that this policy and any peer played."""
    found = (regret(rows, point, policy) for point in points)
    return [each for each in found if each is not None]


def regret(rows: Rows, point: Point, policy: str) -> Regret | None:
    """At one point."""
    own = rows.get((SUITE, str(point), policy))
    peers = [row for name in PEERS if (row := rows.get((SUITE, str(point), name)))]
    if own is None or not peers:
        return None
    # A peer is compared with the others: it would be its own best.
    others = [row for row in peers if row.policy != policy] or peers
    best = envelope(others)
    return Regret(
        point,
        policy,
        own.ttft_s.mean / best.ttft_s.mean,
        own.ttft_s.p99 / best.ttft_s.p99,
        own.hit_rate - best.hit_rate,
        min(others, key=lambda row: row.ttft_s.mean).policy,
    )


def held(rows: Rows, workload: str, policy: str, loads: Sequence[float], limit_s: float) -> float:
    """The highest of these loads at which the policy's p90 is within the limit, on 8 pods; 0 where it is at none."""
    found = ((load, rows.get((SUITE, str(Point(workload, FLEET, load)), policy))) for load in loads)
    return max((load for load, row in found if row and row.ttft_s.p90 <= limit_s), default=0.0)


def under(found: Iterable[Regret]) -> list[Regret]:
    """Those below saturation."""
    return [each for each in found if each.point.load < 1]


def past(found: Iterable[Regret]) -> list[Regret]:
    """Those past it."""
    return [each for each in found if each.point.load == PAST]


def by_workload(found: Iterable[Regret]) -> Mapping[tuple[str, int], list[Regret]]:
    """By workload and number of pods."""
    cut: dict[tuple[str, int], list[Regret]] = {}
    for each in found:
        cut.setdefault((each.point.workload, each.point.pods), []).append(each)
    return cut


def typical(found: Sequence[Regret], figure: Callable[[Regret], float]) -> float:
    """The geometric mean of a ratio; 0 for none."""
    product = 1.0
    for each in found:
        product *= figure(each) ** (1 / len(found))
    return product if found else 0.0
