"""The simulated runs, as values. It runs nothing and judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.sessions import Shape

OURS: Final = "prefix_aware"
POLICIES: Final = (OURS, "least_load", "p2c", "session_affinity", "round_robin", "random")
RATES: Final = ("1.4", "1.7", "2.0", "2.3")
"""Rate factors that put the prefill utilisation of 8 pods at about 0.35, 0.45, 0.55, and past the knee."""
KNEE: Final = "2.0"
REPLICA_RATE: Final = "1.7"

AGES_MS: Final = (0, 5, 20, 50, 200, 1000)
REPLICAS: Final = (2, 4, 8)
NOTHING: Final = "nothing"
"""Shared between replicas."""

HERD_PODS: Final = 16
HERD_REPLICAS: Final = 8
HERD_AGES_MS: Final = (0, 10, 50)

ONE: Final = "one"
"""A single replica, with which several are compared."""


class Sizes(NamedTuple):
    """The size of each part."""

    requests: int | None = None
    """Of the conversation trace; None for all."""
    replica_requests: int = 6_000
    """Of it where replicas are simulated: each has its own view and index, which takes more time."""
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


SMOKE: Final = Sizes(120, 120, ("2.0",), (2,), (5,), 300, 160.0, Shape(4, 3), 5.0, 0.0)


class Job(NamedTuple):
    """One run."""

    part: str
    """`policies`, `replicas`, `herding`, `agentic`, `restart`."""
    label: str
    """Distinguishes it from other runs of its part and policy."""
    policy: str
    case: Case


def jobs(sizes: Sizes, seed: int) -> list[Job]:
    """All runs, the most important first."""
    base = Case(seed=seed)
    return [*_policies(sizes, base), *_herding(base), *_agentic(base), *_replicas(sizes, base), *_restarts(sizes, base)]


def _policies(sizes: Sizes, base: Case) -> Iterator[Job]:
    for rate in sizes.rates:
        for policy in (*PEERS, *POLICIES):
            yield Job("policies", rate, policy, base._replace(rate=float(rate)))


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


def _agentic(base: Case) -> Iterator[Job]:
    for policy in (OURS, "oracle", "llmd_default", "lmetric", "dynamo_kv", "sglang_cache_aware", "session_affinity"):
        yield Job("agentic", "closed loop", policy, base)


RESTARTS: Final = ("shared", "shared, restart", "nothing shared", "nothing shared, restart")


def _restarts(sizes: Sizes, base: Case) -> Iterator[Job]:
    for label in RESTARTS:
        case = base._replace(rate=float(REPLICA_RATE), sharing=Sharing(4, 0.005, shared=label.startswith("shared")))
        restarted = case._replace(restart_at_s=sizes.restart_at_s)
        yield Job("restart", label, OURS, restarted if label.endswith("restart") else case)


def shared(replicas: int, age_ms: int | None) -> str:
    """The label of `replicas` replicas whose view is `age_ms` old; None if nothing is shared."""
    return f"{replicas} x {NOTHING}" if age_ms is None else f"{replicas} x {age_ms} ms"
