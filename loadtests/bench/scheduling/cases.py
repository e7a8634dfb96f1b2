"""The simulated runs, as values. It runs nothing and judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from loadtests.bench.scheduling.regret import SUITE
from loadtests.bench.scheduling.suite import FLEET, FLEETS, NAMES, PAST, UNDER, Point, SuiteRun, suite_run
from loadtests.sim.engine.profiles import A100_8B, H100_8B
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.events import SLOW as SLOW_DOWN
from loadtests.sim.simulate.events import PodEvent
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.sessions import Shape

OURS: Final = "prefix_aware"
OURS_SHARED: Final = "prefix_aware, 4 replicas"
SHARED: Final = Sharing(4, 0.005)
OTHERS: Final = ("least_load", "session_affinity")
"""Other policies of the gateway, for comparison."""
SLOW: Final = ("chwbl", "production_stack_prefixaware")
"""Peers that are the best nowhere."""
ORDER: Final = 0.9
"""Policies that are the best nowhere are played on the smaller fleet at this load only, for comparison."""
HELD: Final = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.25)
"""Loads at which this gateway's policy is tried to find the highest that it holds."""

RATES: Final = ("1.4", "1.7", "2.0", "2.3")
"""Rate factors of the whole conversation trace that put the prefill utilisation of 8 pods at about 0.35, 0.45, 0.55,
and past the knee."""
AGENTS: Final = ("1", "2", "4")
"""Rate factors of all agent sessions."""
REPLICA_RATE: Final = "1.7"

AGES_MS: Final = (0, 5, 20, 50, 200, 1000)
REPLICAS: Final = (4, 8)
NOTHING: Final = "nothing"
"""Shared between replicas."""

HERD_PODS: Final = 16
HERD_REPLICAS: Final = 8
HERD_AGES_MS: Final = (0, 10, 50)

GPUS: Final = "4 H100 and 4 A100"
THROTTLED: Final = "8 H100, one throttled to half in mid-run"
THROTTLED_S: Final = 300.0
LEARNED_S: Final = 300.0
"""By then a policy should know the speeds."""

ONE: Final = "one"
"""A single replica, with which several are compared."""


class Sizes(NamedTuple):
    """The size of each part."""

    workloads: Sequence[str] = NAMES
    fleets: Sequence[int] = FLEETS
    loads: Sequence[float] = (*UNDER, PAST)
    held: Sequence[float] = HELD
    suite_requests: int | None = None
    """Of each run of the suite; None for the fleet's usual number."""
    requests: int | None = None
    """Of the whole traces; None for all."""
    replica_requests: int = 6_000
    """Of the conversations where replicas are simulated: each has its own view and index, which takes more time."""
    rates: Sequence[str] = RATES
    replicas: Sequence[int] = REPLICAS
    ages_ms: Sequence[int] = AGES_MS
    herd_requests: int = 19_366
    herd_rate: float = 160.0
    """Requests a second."""
    shape: Shape = Shape()
    restart_at_s: float = 600.0
    live_s: float = 80.0
    """Length of the comparison in real time; 0 for none."""
    since_s: float = 3600.0
    """Requests that arrive from then on are counted in any case where pods are of unequal speed."""

    def points(self) -> list[Point]:
        """All points at which policies are compared."""
        return [
            Point(workload, pods, load) for pods in self.fleets for workload in self.workloads for load in self.loads
        ]


SMOKE: Final = Sizes(
    ("agentic", "rag"),
    (FLEET,),
    (0.9, PAST),
    (1.0,),
    60,
    120,
    120,
    ("2.0",),
    (4,),
    (5,),
    300,
    160.0,
    Shape(4, 3),
    5.0,
    0.0,
    0.0,
)


class Job(NamedTuple):
    """One run."""

    part: str
    """`suite`, `speeds`, `whole`, `replicas`, `herding`, `closed`, `restart`."""
    label: str
    """Distinguishes it from other runs of its part and policy."""
    policy: str
    case: Case
    suite: SuiteRun | None = None
    """Of a run over one half of a workload."""


def jobs(sizes: Sizes, seed: int) -> list[Job]:
    """All runs, the most important first. Raises TraceError, OSError."""
    base = Case(seed=seed)
    parts = (_suite(sizes, base), _speeds(sizes, base), _whole(sizes, base), _herding(base), _closed(base))
    return [*(job for part in parts for job in part), *_replicas(sizes, base), *_restarts(sizes, base)]


def _suite(sizes: Sizes, base: Case) -> Iterator[Job]:
    for point in sizes.points():
        full = point.pods == FLEET and point.load == ORDER
        for policy in (*PEERS, OURS, *OTHERS):
            if full or policy not in (*SLOW, *OTHERS):
                yield _suite_job(point, policy, policy, base, sizes)
        yield _suite_job(point, OURS_SHARED, f"{OURS_SHARED}={OURS}", base._replace(sharing=SHARED), sizes)
    for workload in sizes.workloads:
        for load in set(sizes.held) - set(sizes.loads):
            yield _suite_job(Point(workload, FLEET, load), OURS, OURS, base, sizes)


def _suite_job(point: Point, policy: str, spec: str, base: Case, sizes: Sizes) -> Job:
    run = suite_run(point, "report", spec, base, sizes.suite_requests)
    return Job(SUITE, str(point), policy, run.case, run)


def _speeds(sizes: Sizes, base: Case) -> Iterator[Job]:
    """Pools of unequal pods, on conversations; counted from the fifth minute on, when speeds can be known."""
    gpus = [H100_8B] * 4 + [A100_8B] * 4
    throttled = base._replace(events=(PodEvent(THROTTLED_S, 0, SLOW_DOWN, 2.0),))
    # Loads are of a pool of equal H100s; half as fast a pod leaves 0.94 of it, four A100s instead leave 0.66.
    for label, case, load in ((GPUS, base._replace(profiles=tuple(gpus)), 0.5), (THROTTLED, throttled, 0.7)):
        since_s = LEARNED_S + (THROTTLED_S if case.events else 0.0)
        for policy in (OURS, "oracle", "lmetric", "llmd_default"):
            run = suite_run(Point("conversation", FLEET, load), "report", policy, case)
            run = run._replace(requests=sizes.requests, since_s=min(since_s, sizes.since_s))
            yield Job("speeds", label, policy, run.case, run)


def _whole(sizes: Sizes, base: Case) -> Iterator[Job]:
    """Whole recorded traces, tuning halves included, for comparison with numbers of before there were halves."""
    for rate in sizes.rates:
        for policy in (OURS, "oracle", "lmetric"):
            yield Job("whole", whole("conversation", rate), policy, base._replace(rate=float(rate)))
    for rate in AGENTS:
        for policy in (OURS, *PEERS):
            yield Job("whole", whole("agentic", rate), policy, base._replace(rate=float(rate)))


def whole(workload: str, rate: str) -> str:
    """The label of a whole trace at that rate."""
    return f"{workload} x {rate}"


def _replicas(sizes: Sizes, base: Case) -> Iterator[Job]:
    case = base._replace(rate=float(REPLICA_RATE))
    for count in sorted(sizes.replicas, reverse=True):
        for age in sizes.ages_ms:
            yield Job("replicas", shared(count, age), OURS, case._replace(sharing=Sharing(count, age / 1000)))
        yield Job("replicas", shared(count, None), OURS, case._replace(sharing=Sharing(count, shared=False)))
    yield Job("replicas", ONE, OURS, case)


def _herding(base: Case) -> Iterator[Job]:
    case = base._replace(pods=HERD_PODS)
    for age in HERD_AGES_MS:
        yield Job(
            "herding", shared(HERD_REPLICAS, age), OURS, case._replace(sharing=Sharing(HERD_REPLICAS, age / 1000))
        )
    unshared = case._replace(sharing=Sharing(HERD_REPLICAS, shared=False))
    yield Job("herding", shared(HERD_REPLICAS, None), OURS, unshared)
    yield Job("herding", ONE, OURS, case)


def _closed(base: Case) -> Iterator[Job]:
    for policy in (OURS, "oracle", "llmd_default", "lmetric", "dynamo_kv", "sglang_cache_aware", "session_affinity"):
        yield Job("closed", "closed loop", policy, base)


RESTARTS: Final = ("shared", "shared, restart", "nothing shared", "nothing shared, restart")


def _restarts(sizes: Sizes, base: Case) -> Iterator[Job]:
    for label in RESTARTS:
        case = base._replace(rate=float(REPLICA_RATE), sharing=Sharing(4, 0.005, shared=label.startswith("shared")))
        restarted = case._replace(restart_at_s=sizes.restart_at_s)
        yield Job("restart", label, OURS, restarted if label.endswith("restart") else case)


def shared(replicas: int, age_ms: int | None) -> str:
    """The label of `replicas` replicas whose view is `age_ms` old; None if nothing is shared."""
    return f"{replicas} x {NOTHING}" if age_ms is None else f"{replicas} x {age_ms} ms"
