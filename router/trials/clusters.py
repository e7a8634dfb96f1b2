"""Requests by cluster, and what that says of how alike they are. Pure; counts in, numbers out.

A canary draws sessions, and the requests of a session are alike: two sessions with a thousand requests say little
more than two. So an arm counts by cluster, one of 128 into which sessions fall by a hash, and the spread between
clusters shows by which factor the requests say less than independent ones: the design effect (L. Kish, "Survey
Sampling" (1965); the delta method for metrics of requests where users are drawn: A. Deng, U. Knoblich, J. Lu, KDD
2018). Clusters add up over replicas, however a load balancer spreads a session over them, and their number is fixed
(random groups, K. Wolter, "Introduction to Variance Estimation", chapter 2; N. Chamandy et al., "Estimating
uncertainty for massive data streams", Google 2012). A request without a session is a session of its own.

Arms that keep their sessions over time only make looks more alike than independent requests do, which adds no false
alarm (D. Slepian's inequality, 1962).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

CLUSTERS: Final = 128
"""A power of two."""

_COARSE: Final = 5
"""Buckets of durations that are counted together by cluster: of a width of 28 %."""

_CELLS: Final = 100
"""Such groups of buckets by cluster."""

Counts = Mapping[int, int]


def cell(cluster: int, bucket: int) -> int:
    """The key under which a duration of this bucket is counted in its cluster."""
    return cluster * _CELLS + bucket // _COARSE


def sessions(by_cluster: Counts) -> int:
    """About how many sessions there are (linear counting: K. Whang et al., ACM TODS 15 (1990)); at most about 620."""
    empty = CLUSTERS - len(by_cluster)
    return round(CLUSTERS * math.log(CLUSTERS / max(1, empty)))


MANY_SESSIONS: Final = sessions(dict.fromkeys(range(CLUSTERS), 1))
"""From this number on there are more than can be counted."""


def heaviest(by_cluster: Counts) -> float:
    """The share of the requests that a single session has at most."""
    whole = sum(by_cluster.values())
    return max(by_cluster.values()) / whole if whole else 0.0


class Clustered(NamedTuple):
    """Hits and requests, by cluster."""

    hits: Counts
    of: Counts


def longer(cells: Counts, bucket: float) -> Clustered:
    """Durations beyond the start of the group that a bucket is in, of all durations."""
    hits: dict[int, int] = {}
    of: dict[int, int] = {}
    first = round(bucket / _COARSE)
    for key, count in cells.items():
        cluster, group = divmod(key, _CELLS)
        of[cluster] = of.get(cluster, 0) + count
        if group >= first:
            hits[cluster] = hits.get(cluster, 0) + count
    return Clustered(hits, of)


class _Spread(NamedTuple):
    between: float
    """Squared differences between clusters and the arm."""
    alone: float
    """Their sum if all requests were independent."""
    most: float
    """The design effect if all requests of a cluster were the same."""


def effects(arms: Sequence[Clustered]) -> list[float]:
    """The design effect of each arm, at least 1: its own, or that of all together where that is larger, since an arm
    with few sessions shows little of how they differ."""
    spreads = [_spread(arm) for arm in arms]
    alone = sum(each.alone for each in spreads)
    common = sum(each.between for each in spreads) / alone if alone else 1.0
    return [_effect(each, common) for each in spreads]


def _effect(of: _Spread, common: float) -> float:
    own = of.between / of.alone if of.alone else 1.0
    return max(1.0, min(max(own, common), of.most))


def _spread(arm: Clustered) -> _Spread:
    whole = sum(arm.of.values())
    if not whole:
        return _Spread(0.0, 0.0, 1.0)
    share = sum(arm.hits.values()) / whole
    squares = sum(count * count for count in arm.of.values())
    between = sum((arm.hits.get(at, 0) - share * count) ** 2 for at, count in arm.of.items())
    clusters = whole * whole / squares
    # As with a variance: one cluster alone shows nothing of how clusters differ.
    between *= clusters / (clusters - 1) if clusters > 1.001 else 1000.0
    return _Spread(between, whole * share * (1 - share), squares / whole)
