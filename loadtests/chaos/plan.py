"""What fails, when and for how long: a pure function of a seed, so that a run can be repeated. It knows no process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

POD_KINDS: Final = (
    "pod_killed",
    "pod_hung",
    "pod_parted",
    "pod_slow",
    "pod_connections_reset",
    "pod_refuse",
    "pod_close_before_first_byte",
    "pod_garbage",
    "pod_hang",
    "pod_http_429",
    "pod_http_500",
    "pod_http_503",
    "pod_reset_midstream",
    "pod_slow_drip",
    "pod_stall",
    "pod_truncated_sse",
)
"""Faults of one pod: of its process, of the network to it, and, by the names of `turnout sim`, of its answers."""

DNS_KINDS: Final = ("dns_nothing", "dns_wrong", "dns_partial", "dns_silent", "dns_failing")

STATE_KINDS: Final = (
    "redis_killed",
    "redis_hung",
    "redis_slow",
    "redis_emptied",
    "redis_parted",
    "redis_failed_over",
    "redis_hung_and_failed_over",
    "replica_parted",
)
"""Faults of what replicas share. None of them may cost a request anything."""

KUBERNETES_KINDS: Final = ("kubernetes_refused", "kubernetes_hung", "kubernetes_compacted")
"""Faults of the API that names a pool's pods. None of them may cost a request anything: known pods stay in use."""

REPLICA_KINDS: Final = ("replica_killed", "replica_paused", "replica_rolled")

MACHINE_KINDS: Final = ("clock_forward", "clock_back", "disk_full")

WORLD_KINDS: Final = (*STATE_KINDS, *KUBERNETES_KINDS, *REPLICA_KINDS, *MACHINE_KINDS)

HARMLESS: Final = frozenset(
    {*STATE_KINDS, *KUBERNETES_KINDS, *MACHINE_KINDS, "replica_paused", "replica_rolled", "pod_slow", "pod_slow_drip"}
)
"""No request may end in an error because of these."""

TRACKS: Final[Mapping[str, Sequence[str]]] = {
    "cluster": POD_KINDS,
    "named": (*POD_KINDS, *DNS_KINDS),
    "world": WORLD_KINDS,
}
"""Faults of a track follow each other; those of different tracks overlap. `cluster` and `named` are the two pools, so
that each has one broken pod at a time."""

FOR_S: Final = (2.0, 6.0)
BETWEEN_S: Final = (0.5, 2.0)


class Fault(NamedTuple):
    """One fault."""

    at_s: float
    """After the beginning of the load."""
    for_s: float
    kind: str
    track: str
    target: int
    """A large random number; its remainder by the number of possible targets chooses one."""


class Plan(NamedTuple):
    """A run's faults in the order of their beginnings."""

    seed: int
    seconds: float
    """The length of the load."""
    faults: tuple[Fault, ...]


def plan_of(seed: int, seconds: float, *, calm_s: float = 4.0, only: Sequence[str] = ()) -> Plan:
    """The plan for a seed. The load is undisturbed for `calm_s` at its begin and end; `only` limits the kinds."""
    faults = [
        fault
        for track, kinds in TRACKS.items()
        for fault in _track(random.Random(f"{seed} {track}"), track, kinds, calm_s, seconds - calm_s)
        if not only or fault.kind in only
    ]
    return Plan(seed, seconds, tuple(sorted(faults)))


def _track(rng: random.Random, track: str, kinds: Sequence[str], begin_s: float, end_s: float) -> Iterator[Fault]:
    """Each kind once in random order, and again in another order, until the time is over."""
    at_s, deck = begin_s, list[str]()
    while True:
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        for_s = rng.uniform(*FOR_S)
        if at_s + for_s > end_s:
            return
        yield Fault(round(at_s, 3), round(for_s, 3), deck.pop(), track, rng.randrange(10**6))
        at_s += for_s + rng.uniform(*BETWEEN_S)
