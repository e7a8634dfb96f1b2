"""Reads from the keys: everything when a replica joins, what is new when it comes back, one replica's numbers when a
message was missed. The order matters: numbers, messages that arrived meanwhile, policies, then the prefix index.

It writes nothing but the policies that the server lost.
"""

from __future__ import annotations

import asyncio
from typing import Any

from statesync.store.redis.checkpoints import Checkpoints
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.pod_sharing import PodSharing
from statesync.store.redis.presence import together
from statesync.store.redis.receiver import UpdateReceiver
from statesync.store.redis.repair import is_damage
from statesync.store.redis.shared_policies import SharedPolicies


class CatchUp:
    """Reads over a link that is subscribed already, so that no update is lost between the keys and the channel."""

    def __init__(
        self,
        replica: str,
        keys: RedisKeys,
        receiver: UpdateReceiver,
        live_replicas: LiveReplicas,
        pods: PodSharing,
        checkpoints: Checkpoints,
        policies: SharedPolicies,
    ) -> None:
        self._replica = replica
        self._keys = keys
        self._receiver = receiver
        self._live_replicas = live_replicas
        self._pods = pods
        self._checkpoints = checkpoints
        self._policies = policies
        self._loop = asyncio.get_running_loop()
        self._one = asyncio.Lock()
        """One reader of the log at a time."""

    async def read_all(self, link: RespConnection, again: bool) -> None:
        """Read everything the others know; `again`: not for the first time. Releases the receiver. Raises
        StateError."""
        async with self._one:
            await self._read_replicas(link, again)
            await self._policies.read_all(link)
            await self._checkpoints.catch_up(link)

    async def read_numbers(self, link: RespConnection, replica: str) -> None:
        """Read one replica's numbers, and the log, after a missed message. Raises StateError."""
        async with self._one:
            if replica != self._replica:  # of an own message only the log was missed
                (fields,) = await _readable(link, {}, ("HGETALL", self._keys.inflight(replica)))
                self._receiver.stored(replica, fields)
            self._receiver.log.behind()
            await self._checkpoints.catch_up(link)

    async def _read_replicas(self, link: RespConnection, again: bool) -> None:
        """Read leases, numbers and reports; then take the messages that arrived meanwhile."""
        keys, receiver = self._keys, self._receiver
        clock, leases, reports = await _all(
            link, ("TIME",), ("ZRANGE", keys.leases, 0, -1, "WITHSCORES"), ("HGETALL", keys.reports)
        )
        now, now_ms = self._loop.time(), int(clock[0]) * 1000 + int(clock[1]) / 1000
        live = {}
        for member, ends_ms in leases:
            replica = member.decode("utf-8", "replace")
            if replica != self._replica and float(ends_ms) > now_ms:
                live[replica] = (float(ends_ms) - now_ms) / 1000
        hashes = await _readable(link, {}, *(("HGETALL", keys.inflight(replica)) for replica in live))
        for (replica, left_s), fields in zip(live.items(), hashes, strict=True):
            token = receiver.stored(replica, fields)
            if token:
                self._live_replicas.listed(replica, token, left_s, now)
        receiver.reported(reports, now_ms, skip_own=again)
        known = await self._pods.read(link, live) if live else []
        if not again:  # else this replica knows better
            receiver.pods(together(known))
        receiver.release()

    def __repr__(self) -> str:
        return f"<CatchUp of {self._replica}>"


async def _all(link: RespConnection, *commands: tuple[Any, ...]) -> list[Any]:
    """Replies to all of them, in one round trip. Raises the first ReplyError."""
    replies = await link.pipeline(commands)
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
    return replies


async def _readable(link: RespConnection, nothing: Any, *commands: tuple[Any, ...]) -> list[Any]:
    """Replies to all of them, and `nothing` for a key of another type, which its owner repairs. Raises StateError."""
    replies = await link.pipeline(commands)
    for at, reply in enumerate(replies):
        if isinstance(reply, ReplyError):
            if not is_damage(reply):
                raise reply
            replies[at] = nothing
    return replies
