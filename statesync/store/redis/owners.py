"""The owners of ids in Redis, for all replicas: two hashes, of which the young one is written (see
`statesync/owners.py`). Nothing here waits but a look-up, which the store bounds.
"""

from __future__ import annotations

from typing import Final

from schedulers.types import PodId
from statesync.store.redis.commands import pack
from statesync.store.redis.connection import RespConnection
from statesync.store.redis.keys import OWNER_TTL_S, OWNERS, RedisKeys
from statesync.store.redis.scripts import OWN

_LIMITS: Final = (OWNERS, int(OWNER_TTL_S * 1000))


class SharedOwners:
    """Writes and reads the two hashes."""

    def __init__(self, keys: RedisKeys) -> None:
        self._generations = (keys.owners, keys.owners_old)

    def note(self, link: RespConnection, key: bytes, pod: PodId) -> None:
        """Send the owner now: the bytes are on the wire when this returns, before a client can use the id. The whole
        script, because a server without it would refuse its name, and the retry would come too late. A note that fails
        is lost."""
        link.send(pack("EVAL", OWN.source, 2, *self._generations, key, pod, *_LIMITS))

    async def look(self, link: RespConnection, key: bytes) -> PodId | None:
        """The pod. Raises StoreUnavailable."""
        for found in await link.pipeline([("HGET", generation, key) for generation in self._generations]):
            if isinstance(found, bytes):
                try:
                    return PodId(found.decode())
                except UnicodeDecodeError:
                    continue  # not written by a replica
        return None
