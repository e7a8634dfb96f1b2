"""Which pod has the state behind an id that a pod gave out: a response, a file, a job. Bounded, oldest out first.

Two generations: writes go to the young one; when it is full it becomes the old one, and the old one is forgotten. So an
id is kept for at least as many others as a generation holds, at the cost of two look-ups and no list of uses. Redis
keeps the same two generations for all replicas (`store/redis/owners.py`). Ids are kept as digests. Knows no network.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from schedulers.types import PodId

KEPT: Final = 65_536
"""Ids of a generation in this process: 10 MB when both are full."""

KEY_BYTES: Final = 8


def key_of(id: str, tenant: str = "") -> bytes:
    """The key under which the owner of an id is kept. Ids that one tenant was given have other keys than those of
    another, so that no tenant finds what it did not make. The name of a tenant has no line end in it."""
    named = f"{tenant}\n{id}" if tenant else id
    return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


class OwnerTable:
    """Keys of ids -> the pod that has their state."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._young: dict[bytes, PodId] = {}
        self._old: dict[bytes, PodId] = {}

    def learn(self, key: bytes, pod: PodId) -> bool:
        """Note the owner. False if it was known already."""
        if self._young.get(key) == pod:
            return False
        if len(self._young) >= self._kept:
            self._young, self._old = {}, self._young
        self._young[key] = pod
        return True

    def owner(self, key: bytes) -> PodId | None:
        """The pod, if it is known here. An id in use stays."""
        pod = self._young.get(key)
        if pod is None and (pod := self._old.get(key)) is not None:
            self.learn(key, pod)
        return pod

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
