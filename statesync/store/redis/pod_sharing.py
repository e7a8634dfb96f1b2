"""Sends which pods this replica has and how they are, and reads those of other replicas. What the values mean is
`presence.py`'s; when to send is the session's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

from schedulers.types import PodId
from statesync.settings import Sync
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.fleets import FleetWatch
from statesync.store.redis.keys import SHARE_LEASES, RedisKeys
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.messages import MessageDecoder
from statesync.store.redis.presence import OwnPods, read_pools
from statesync.store.redis.repair import is_damage
from statesync.types import KnownPod


class PodSharing:
    """The pods of one replica and of those that share its namespace."""

    def __init__(
        self,
        replica: str,
        own: OwnPods,
        keys: RedisKeys,
        config: Sync,
        live_replicas: LiveReplicas,
        reader: MessageDecoder,
    ) -> None:
        self._own = own
        self._keys = keys
        self._key: Final = keys.pods(replica)
        self._ttl_ms: Final = int(config.lease_s * 1000) * SHARE_LEASES
        self._live_replicas = live_replicas
        self._reader = reader
        self.fleets = FleetWatch(config.namespace, config.lease_s)

    async def send(self, link: RespConnection, full: bool) -> int | None:
        """Send what changed, or all of it; returns the digest of the pods. Raises StateError."""
        fields = self._own.take(full)
        digest = self._live_replicas.digest = self._own.digest()
        if fields:
            commands: list[tuple[Any, ...]] = [("HSET", self._key, *fields), ("PEXPIRE", self._key, self._ttl_ms)]
            for reply in await link.pipeline([("DEL", self._key), *commands] if full else commands):
                if isinstance(reply, ReplyError):
                    if full or not is_damage(reply):
                        raise reply
                    return await self.send(link, full=True)
        return digest

    def look(self, now: float) -> None:
        """Look for replicas of other fleets."""
        self.fleets.look(self._own.pools, self._live_replicas.differing(), now)

    async def read(self, link: RespConnection, replicas: Collection[str]) -> list[dict[str, dict[PodId, KnownPod]]]:
        """Read these replicas' pods; returns what each knows of them, by pool. Raises StateError."""
        read = []
        for replica, fields in zip(replicas, await self._stored(link, replicas), strict=True):
            pools = read_pools(self._reader, fields)
            read.append(pools)
            if pools:
                self._live_replicas.took(replica, pools)
            await asyncio.sleep(0)  # a replica's 10,000 pods take 20 ms of the event loop
        return read

    async def _stored(self, link: RespConnection, replicas: Collection[str]) -> list[dict[bytes, bytes]]:
        """Their hashes; empty for a key of another type, which its replica writes anew when it joins again."""
        replies = await link.pipeline([("HGETALL", self._keys.pods(replica)) for replica in replicas])
        for at, reply in enumerate(replies):
            if isinstance(reply, ReplyError):
                if not is_damage(reply):
                    raise reply
                replies[at] = {}
        return replies

    def __repr__(self) -> str:
        return f"<PodSharing: {self._own!r}, {self.fleets!r}>"
