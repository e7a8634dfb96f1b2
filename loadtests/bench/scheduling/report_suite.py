"""The suite's part of the report: regret against `best`, by workload and by policy. Pure: rows in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from loadtests.bench.scheduling.cases import ORDER, OTHERS, OURS, OURS_SHARED, SLOW
from loadtests.bench.scheduling.regret import (
    Regret,
    Rows,
    Suite,
    by_workload,
    held,
    past,
    regrets,
    typical,
    under,
)
from loadtests.bench.scheduling.suite import FLEET, UNDER
from loadtests.report.tables import grid
from loadtests.sim.peers.catalog import PEERS

MEAN: Final = attrgetter("mean")
P99: Final = attrgetter("p99")
README_ROWS: Final = 7
"""Policies in the README's table: nine lines with its head. The page has every one."""


def suite_sections(rows: Rows, suite: Suite) -> Iterator[str]:
    """Both tables with their headings."""
    yield f"## Regret of `{OURS}` by workload, worst first"
    yield _HOW
    yield workload_table(rows, suite)
    yield "## Regret of each policy over all workloads"
    yield (
        "Typical: the geometric mean over all workloads, fleets and loads below saturation. Worst: the worst of them.\n"
        f"{_names(SLOW)} and {_names(OTHERS)} were played on {FLEET} pods at load {ORDER:g} only."
    )
    yield policy_table(rows, suite)


def workload_table(rows: Rows, suite: Suite) -> str:
    """A line for each workload and fleet: the means at each load, then the worst of each kind."""
    shared = {each.point: each for each in regrets(rows, suite.points, OURS_SHARED)}
    found = by_workload(regrets(rows, suite.points, OURS))
    lines = [
        [
            f"{name}, {pods} pods",
            *_cells(rows, suite, of_one, [shared[each.point] for each in of_one if each.point in shared]),
        ]
        for (name, pods), of_one in sorted(found.items(), key=lambda each: -_worst(under(each[1])))
    ]
    loads = [f"mean at {load:g}" for load in UNDER]
    titles = ["workload", *loads, "best", "p99, worst", "4 replicas", "past: mean", "hits", "held"]
    return grid(titles, lines)


def _cells(rows: Rows, suite: Suite, found: Sequence[Regret], shared: Sequence[Regret]) -> Iterator[str]:
    by_load = {each.point.load: each for each in found}
    yield from (f"{by_load[load].mean:.2f}" if load in by_load else "" for load in UNDER)
    below, beyond = under(found), past(found)
    yield max(below, key=MEAN).best if below else ""
    yield f"{max(map(P99, below)):.2f}" if below else ""
    yield f"{_worst(under(shared)):.2f}" if under(shared) else ""
    yield f"{beyond[0].mean:.2f}" if beyond else ""
    yield f"{100 * beyond[0].hits:+.1f}" if beyond else ""
    workload, pods, _ = found[0].point
    limit = suite.limits_s.get(workload)
    yield _held(held(rows, workload, OURS, suite.held, limit), suite) if limit and pods == FLEET else ""


def _held(load: float, suite: Suite) -> str:
    return f"{load:g}" if load else f"< {min(suite.held):g}"


def _names(policies: Sequence[str]) -> str:
    return ", ".join(f"`{each}`" for each in policies)


def _worst(found: Sequence[Regret]) -> float:
    return max(map(MEAN, found), default=0.0)


class Standing(NamedTuple):
    """A policy over the whole suite."""

    policy: str
    mean: float
    """Typical regret, a geometric mean."""
    mean_worst: float
    p99: float
    p99_worst: float
    past: float
    """Typical mean past saturation; 0 where it was not played."""


def standings(rows: Rows, suite: Suite) -> list[Standing]:
    """Every policy over the points it was played at, the best first."""
    found = []
    for policy in (OURS, OURS_SHARED, *PEERS, *OTHERS):
        each = regrets(rows, suite.points, policy)
        below, beyond = under(each), past(each)
        if below:
            worst = (_worst(below), max(map(P99, below)))
            found.append(
                Standing(policy, typical(below, MEAN), worst[0], typical(below, P99), worst[1], typical(beyond, MEAN))
            )
    return sorted(found, key=MEAN)


def policy_table(rows: Rows, suite: Suite, most: int | None = None) -> str:
    """Every policy over the whole suite, or only the best ones."""
    lines = [
        [
            f"**{each.policy}**" if each.policy in (OURS, OURS_SHARED) else each.policy,
            *(f"{value:.2f}" if value else "" for value in each[1:]),
        ]
        for each in standings(rows, suite)[:most]
    ]
    titles = ["", "mean x best, typical", "worst", "p99 x best, typical", "worst", "past saturation: mean"]
    return grid(titles, lines)


_HOW: Final = """\
Each workload has a half on which policies are tuned (`python -m loadtests.bench.scheduling.tune`) and a half that only
this table plays: sessions by a hash, traces without sessions cut in the middle, generated ones by even and odd seeds.
Loads are fractions of the rate that saturates the fleet, which is the highest at which the oracle or a peer holds a p90
of 2 s (twice that of an idle fleet where this is longer; `loadtests/bench/scheduling/saturation.json`). `best` is the
lower envelope of all peers and the oracle, each figure from the policy that has the best one.

Columns: the mean time to first token over the best at each load; whose mean is the best where the regret is the worst;
the p99 over the best at the worst load; the worst mean with 4 replicas that are 5 ms apart. Past saturation, at load
1.15: the mean over the best, and points of hit rate above the best peer's. Last, the highest load at which the p90 is
held."""
