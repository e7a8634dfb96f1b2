"""The goals: each bound with the number found. Pure; rows in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from loadtests.bench.scheduling.cases import AGENTS, GPUS, HERD_REPLICAS, ONE, OURS, THROTTLED, shared, whole
from loadtests.bench.scheduling.live import Agreement
from loadtests.bench.scheduling.regret import Rows, Suite, by_workload, held, past, regrets, under
from loadtests.report.goals import Goal
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.summary import Row, Window


def mean(row: Row) -> float:
    """Mean time to first token, seconds."""
    return row.ttft_s.mean


def p99(row: Row) -> float:
    """Its 99th percentile."""
    return row.ttft_s.p99


_MEAN: Final = 1.05
_P99: Final = 1.15
_HITS: Final = 1.0
"""Points of hit rate: random variation."""
_HERDING: Final = {0: 1.02, 10: 1.25, 50: 1.5}
"""By age in ms; 2 % at age 0 are random variation."""
_AGREEMENT: Final = 0.15
_BEFORE: Final = {"1.4": 0.706, "1.7": 0.745, "2.0": 0.805, "2.3": 1.065}
"""Means on the whole conversation trace of before the suite, by rate. The policy was tuned on it."""


def goals(rows: Rows, suite: Suite, live: Agreement | None) -> list[Goal]:
    """Every goal whose runs exist."""
    found = [*_suite(rows, suite), *_held(rows, suite), *_speeds(rows), *_whole(rows), *_replicas(rows)]
    found += _herding(rows)
    return [*found, *_closed(rows), *(_live(live) if live is not None else ())]


def _suite(rows: Rows, suite: Suite) -> Iterator[Goal]:
    """Each workload and fleet at its worst load."""
    for (workload, pods), found in by_workload(regrets(rows, suite.points, OURS)).items():
        name = f"{workload}, {pods} pods"
        if below := under(found):
            yield Goal(f"{name}: mean over the best", max(each.mean for each in below), _MEAN, True)
            yield Goal(f"{name}: p99 over the best", max(each.p99 for each in below), _P99, True)
        for each in past(found):
            yield Goal(f"{name}, past saturation: points of hits below the best", -100 * each.hits, _HITS, True)


def _held(rows: Rows, suite: Suite) -> Iterator[Goal]:
    for workload, limit_s in suite.limits_s.items():
        load = held(rows, workload, OURS, suite.held, limit_s)
        yield Goal(f"{workload}: highest load held, of the best's", load, 1.0, False)


def _speeds(rows: Rows) -> Iterator[Goal]:
    for label in (GPUS, THROTTLED):
        own, other = (rows.get(("speeds", label, policy)) for policy in (OURS, "oracle"))
        if own and other:
            yield Goal(f"{label}: mean over that of the oracle, which knows", mean(own) / mean(other), _MEAN, True)


def _whole(rows: Rows) -> Iterator[Goal]:
    for rate, before in _BEFORE.items():
        if own := rows.get(("whole", whole("conversation", rate), OURS)):
            yield Goal(f"whole conversation trace x {rate}: mean over that of before", mean(own) / before, 1.0, True)
    for rate in AGENTS:
        label = whole("agentic", rate)
        peers = [row for name in PEERS if (row := rows.get(("whole", label, name)))]
        own = rows.get(("whole", label, OURS))
        if own and peers:
            yield Goal(f"all agents x {rate}: mean over the best", mean(own) / min(map(mean, peers)), _MEAN, True)


def _replicas(rows: Rows) -> Iterator[Goal]:
    one, four = rows.get(("replicas", ONE, OURS)), rows.get(("replicas", shared(4, 5), OURS))
    if one and four:
        yield Goal("4 replicas, view 5 ms old: mean over one replica's", mean(four) / mean(one), 1.05, True)


def _herding(rows: Rows) -> Iterator[Goal]:
    one = rows.get(("herding", ONE, OURS))
    for age, bound in _HERDING.items():
        many = rows.get(("herding", shared(HERD_REPLICAS, age), OURS))
        if one and many:
            yield Goal(f"herding, view {age} ms old: mean over one replica's", mean(many) / mean(one), bound, True)


def _closed(rows: Rows) -> Iterator[Goal]:
    own, other = (rows.get(("closed", "closed loop", policy)) for policy in (OURS, "llmd_default"))
    if own and other:
        yield Goal("closed loop: p99 over llmd_default's", p99(own) / p99(other), 1.0, True)


def _live(live: Agreement) -> Iterator[Goal]:
    for name, figure in (("p50", live.simulated.p50 / live.real.p50), ("p99", live.simulated.p99 / live.real.p99)):
        yield Goal(f"real time: simulated {name} over real, apart", abs(figure - 1), _AGREEMENT, True)


def hits_around(row: Row, restart_at_s: float, before_s: float, after_s: float) -> tuple[float, float]:
    """Hit rates of the requests that arrived within `before_s` before the restart and `after_s` after it."""
    return (
        _hit_rate([each for each in row.windows if restart_at_s - before_s <= each.at_s < restart_at_s]),
        _hit_rate([each for each in row.windows if restart_at_s <= each.at_s < restart_at_s + after_s]),
    )


def _hit_rate(windows: list[Window]) -> float:
    requests = sum(each.requests for each in windows)
    return sum(each.hit_rate * each.requests for each in windows) / requests if requests else 0.0
