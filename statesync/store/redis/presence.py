"""Which pods a replica has, by pool, and which of them its probes find well: as this replica shares it, and as it is
read of others. Pure.

A pool is one value, written when it changes, at a beat. The beat carries the digest of all pods, so that replicas with
the same pods need not read each other's: a replica reads another's pods only while the two digests differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from xxhash import xxh3_64

from schedulers.types import PodId
from statesync.discovery.changes import PodChange
from statesync.store.redis.messages import SCHEMA, MessageDecoder, PoolPodsMessage, pack

WELL: Final = ord("w")
FAILING: Final = ord("f")
UNPROBED: Final = ord("?")

POOL: Final = "="
"""Before a pool's name in the hash. Fields that begin otherwise are of a later version."""

Pools = Mapping[str, Collection[PodId]]
"""A replica's pods, by pool."""


class OwnPods:
    """This replica's pods, and the pools whose latest state is unsent."""

    def __init__(self) -> None:
        self.pools: dict[str, dict[PodId, int]] = {}
        """By pool: each pod, and one of the states above."""
        self._pool_of: dict[PodId, str] = {}
        self._unsent: set[str] = set()
        self._digest: int | None = None
        """None after a change of pods."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to the pool or left it."""
        here = self.pools.setdefault(pool, {})
        for pod in change.gone:
            if here.pop(pod, None) is not None:
                del self._pool_of[pod]
        for each in change.come:
            here.setdefault(each.id, UNPROBED)
            self._pool_of[each.id] = pool
        self._unsent.add(pool)
        self._digest = None

    def probed(self, pod: PodId, well: bool) -> None:
        """What this replica's probes say of the pod now; ignored if it has left."""
        pool, state = self._pool_of.get(pod), WELL if well else FAILING
        if pool is not None and self.pools[pool][pod] != state:
            self.pools[pool][pod] = state
            self._unsent.add(pool)

    def may_have(self, pod: PodId) -> bool:
        """Whether the pod is one of them; True before any pool is known."""
        return not self.pools or pod in self._pool_of

    def digest(self) -> int | None:
        """As `digest_of`; None before any pool is known."""
        if self._digest is None and self.pools:
            self._digest = digest_of(self.pools)
        return self._digest

    def take(self, full: bool) -> list[bytes | str]:
        """Fields and values of the pools that changed since the last call, or of all, in turn."""
        pools = self.pools if full else self._unsent
        fields: list[bytes | str] = []
        for pool in pools:
            pods = self.pools[pool]
            fields += (POOL + pool, pack(PoolPodsMessage(SCHEMA, list(pods), bytes(pods.values()))))
        self._unsent = set()
        return fields

    def __repr__(self) -> str:
        pools = ", ".join(f"{pool} {len(pods)}" for pool, pods in self.pools.items())
        return f"<OwnPods {pools or 'none'}; {len(self._unsent)} pools unsent>"


def digest_of(pools: Pools) -> int:
    """Equal for equal pods in equally named pools; 0 without pods."""
    digest = xxh3_64()
    for pool in sorted(pools):
        for pod in sorted(pools[pool]):
            digest.update(f"{pool}\0{pod}\0".encode("utf-8", "surrogatepass"))
    return (digest.intdigest() or 1) if any(pools.values()) else 0


def read_pools(reader: MessageDecoder, fields: Mapping[bytes, bytes]) -> dict[str, dict[PodId, int]]:
    """A replica's hash: by pool, each pod and its state. What cannot be read is left out."""
    pools: dict[str, dict[PodId, int]] = {}
    for field, packed in fields.items():
        name = field.decode("utf-8", "replace")
        if name.startswith(POOL) and (message := reader.pool_pods(packed)) is not None:
            states = message.states.ljust(len(message.pods), bytes([UNPROBED]))
            pools[name[len(POOL) :]] = dict(zip(message.pods, states, strict=False))
    return pools


def verdicts(replicas: Collection[Mapping[str, Mapping[PodId, int]]]) -> dict[PodId, bool]:
    """Whether each pod is well, as the probes of these replicas say: it is if any of them says so. A pod that none has
    probed is left out."""
    known: dict[PodId, bool] = {}
    for pools in replicas:
        for pods in pools.values():
            for pod, state in pods.items():
                if state == WELL:
                    known[pod] = True
                elif state == FAILING:
                    known.setdefault(pod, False)
    return known
