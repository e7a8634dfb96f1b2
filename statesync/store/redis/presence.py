"""Which pods a replica has, by pool, what its probes say of each, and which models each lists: as this replica shares
it, and as it is read of others. Pure.

A pool is one value, written when it changes, at a beat. The beat carries the digest of all pods, so that replicas with
the same pods need not read each other's: a replica reads another's pods only while the two digests differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from xxhash import xxh3_64

from schedulers.types import PodId
from statesync.discovery.changes import PodChange
from statesync.store.redis.messages import SCHEMA, MessageDecoder, PoolPodsMessage, pack
from statesync.types import KnownPod

STATES: Final[Mapping[bool | None, int]] = {True: ord("w"), False: ord("f"), None: ord("?")}
"""The byte for what a replica's probes say of a pod."""
_VERDICTS: Final = {state: well for well, state in STATES.items()}

UNREAD: Final = 0
NO_LIST: Final = 1
FIRST_LIST: Final = 2
"""Numbers for a pod's list of models; from the last on, the index of a list."""

_NEW: Final = KnownPod()

POOL: Final = "="
"""Before a pool's name in the hash. Fields that begin otherwise are of a later version."""

Pools = Mapping[str, Collection[PodId]]
"""A replica's pods, by pool."""


class OwnPods:
    """This replica's pods, and the pools whose latest state is unsent."""

    def __init__(self) -> None:
        self.pools: dict[str, dict[PodId, KnownPod]] = {}
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
            here.setdefault(each.id, _NEW)
            self._pool_of[each.id] = pool
        self._unsent.add(pool)
        self._digest = None

    def probed(self, pod: PodId, well: bool) -> None:
        """What this replica's probes say of the pod now; ignored if it has left."""
        if (pool := self._pool_of.get(pod)) is not None:
            self._know(pool, pod, self.pools[pool][pod]._replace(well=well))

    def listed(self, pod: PodId, page: bytes) -> None:
        """Which models the pod lists now; ignored if it has left. Equal lists are equal pages."""
        if (pool := self._pool_of.get(pod)) is not None:
            self._know(pool, pod, self.pools[pool][pod]._replace(models=page))

    def _know(self, pool: str, pod: PodId, known: KnownPod) -> None:
        if known != self.pools[pool][pod]:
            self.pools[pool][pod] = known
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
            fields += (POOL + pool, pack(_message(self.pools[pool])))
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


def _message(pods: Mapping[PodId, KnownPod]) -> PoolPodsMessage:
    """A pool as it is sent: each list of models once."""
    lists: dict[bytes, int] = {}
    numbers: list[int] = []
    for each in pods.values():
        page = each.models
        numbers.append(
            (lists.setdefault(page, FIRST_LIST + len(lists)) if page else NO_LIST) if page is not None else 0
        )
    states = bytes([STATES[each.well] for each in pods.values()])
    return PoolPodsMessage(SCHEMA, list(pods), states, list(lists), numbers)


def read_pools(reader: MessageDecoder, fields: Mapping[bytes, bytes]) -> dict[str, dict[PodId, KnownPod]]:
    """A replica's hash: by pool, each pod and what the replica knows of it. What cannot be read is left out."""
    pools: dict[str, dict[PodId, KnownPod]] = {}
    for field, packed in fields.items():
        name = field.decode("utf-8", "replace")
        if name.startswith(POOL) and (message := reader.pool_pods(packed)) is not None:
            pools[name[len(POOL) :]] = dict(_pods_of(message))
    return pools


def _pods_of(message: PoolPodsMessage) -> Iterable[tuple[PodId, KnownPod]]:
    count, pages = len(message.pods), [None, b"", *message.lists]
    states = message.states.ljust(count, b"?")
    numbers = message.list_of + [UNREAD] * (count - len(message.list_of))
    for pod, state, number in zip(message.pods, states, numbers, strict=False):
        page = pages[number] if 0 <= number < len(pages) else None
        yield pod, KnownPod(_VERDICTS.get(state), page)


def together(replicas: Iterable[Mapping[str, Mapping[PodId, KnownPod]]]) -> dict[PodId, KnownPod]:
    """What these replicas know. A pod is well if the probes of any say so; one list stands for all of theirs."""
    merged: dict[PodId, KnownPod] = {}
    for pools in replicas:
        for pods in pools.values():
            for pod, known in pods.items():
                other = merged.get(pod)
                if other is None:
                    merged[pod] = known
                    continue
                if other.well and other.models is not None:
                    continue  # most pods: nothing can change what is known
                well = known.well if other.well is None else other.well or bool(known.well)
                merged[pod] = KnownPod(well, known.models if other.models is None else other.models)
    return merged
