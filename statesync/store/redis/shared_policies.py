"""The pools' policy records on the server: read, put, and put back where the server lost them. The one reader and the
one writer of a replica.

Every read is compared with what this replica knows (`lineage.py`), and one operation is under way at a time: so nothing
is concluded from an answer that a later one has overtaken. A message about a record makes it read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from schedulers.errors import InvalidParams
from statesync.errors import StaleGeneration, StoreUnavailable
from statesync.store.lineage import Lineage, digest, judge
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.messages import (
    MAX_DEPTH,
    SCHEMA,
    MessageDecoder,
    is_too_deep,
    pack_record,
    pack_whole_record,
)
from statesync.store.redis.repair import is_damage
from statesync.store.redis.scripts import PUT_POLICY, RESTORE_POLICY

_TRIES: Final = 5
"""How often lost records are put back when others change the pool at the same moment."""

_UNKNOWN: Final = Lineage()
_log = logging.getLogger("turnout.state")


class _Stored(NamedTuple):
    """What the server has of a pool."""

    records: Sequence[PolicyRecord]
    """Those that can be read, newest first."""
    newest: bytes
    """The first of them as it is written there; empty without one."""


class SharedPolicies:
    """What this replica knows of every pool's records, and the server's."""

    def __init__(
        self,
        replica: str,
        token: Callable[[], str],
        keys: RedisKeys,
        reader: MessageDecoder,
        deliver: Callable[[str, PolicyRecord], None],
    ) -> None:
        """`token` gives that of the incarnation; `deliver` is called with a pool's record when it is another one than
        before, except for own changes."""
        self._replica = replica
        self._token = token
        self._keys = keys
        self._reader = reader
        self._deliver = deliver
        self._known: dict[str, Lineage] = {}
        self._newest: dict[str, bytes] = {}
        """The newest known record of a pool as it is on the server."""
        self._one = asyncio.Lock()
        self.put_back = 0
        """Counter: times that a pool's records were put back."""
        self.given_up = 0
        """Counter: records that were given up for the server's."""

    def suggested(self, pool: str, record: PolicyRecord) -> None:
        """Take the record of a message if it is the next one; it must be read all the same."""
        known = self._known.get(pool, _UNKNOWN)
        if record.generation == (known.records[0].generation if known.records else 0) + 1:
            self._newest.pop(pool, None)
            self._learn(pool, known.with_next(record))

    async def read_all(self, link: RespConnection) -> None:
        """Read every pool's records. Raises StateError."""
        async with self._one:
            members = await link.call("SMEMBERS", self._keys.pools)
            pools = sorted({pool.decode("utf-8", "replace") for pool in members}.union(self._known))
            for pool, packed in zip(pools, await self._packed(link, pools), strict=True):
                if not packed or packed[0] != self._newest.get(pool):  # there may be thousands of API keys
                    await self._agree(link, pool, self._stored(packed))

    async def read(self, link: RespConnection, pool: str) -> Sequence[PolicyRecord]:
        """A pool's records, newest first. Raises StateError."""
        async with self._one:
            (packed,) = await self._packed(link, [pool])
            return await self._agree(link, pool, self._stored(packed))

    async def put(
        self, link: RespConnection, pool: str, wanted: PolicyRecord, if_generation: int | None
    ) -> PolicyRecord:
        """Compare and set. Raises StaleGeneration, StateError, and InvalidParams where no replica could read them."""
        if is_too_deep(wanted):
            raise InvalidParams(f"parameters nested more than {MAX_DEPTH} deep cannot be shared; use fewer levels")
        async with self._one:
            known, keys = self._known.get(pool, _UNKNOWN), self._keys
            newest = known.records[0].generation if known.records else 0
            standing = self._newest.get(pool, b"") if if_generation == newest else b""
            taken, answer = await PUT_POLICY.run(
                link,
                (keys.policy(pool), keys.pools),
                *(pool, "" if if_generation is None else if_generation, pack_record(wanted), POLICY_HISTORY),
                *(keys.channel, self._replica, self._token(), SCHEMA, newest, standing),
            )
            if not taken:
                raise StaleGeneration(f"pool {pool!r} is at generation {answer}, not {if_generation}")
            record = self._reader.record(answer)
            if record is None:
                raise StoreUnavailable(f"the record of pool {pool!r} cannot be read back")
            self._newest[pool] = answer
            self._known[pool] = self._known.get(pool, _UNKNOWN).with_next(record)
            return record

    async def _agree(self, link: RespConnection, pool: str, stored: _Stored) -> Sequence[PolicyRecord]:
        """Follow the server, or put back what it lost; returns what it then has."""
        for _ in range(_TRIES):
            known = self._known.get(pool, _UNKNOWN)
            judgement = judge(known, stored.records)
            if not judgement.restore:
                break
            if await self._put_back(link, pool, known.records, stored):
                return known.records
            (packed,) = await self._packed(link, [pool])
            before, stored = stored, self._stored(packed)
            if stored == before:
                return known.records  # no other change was first: above it is a record that cannot be read here
        else:
            return self._known[pool].records
        if judgement.given_up:
            self.given_up += len(judgement.given_up)
            _log.warning("%s", _gave_up(pool, judgement.given_up, stored.records))
        self._newest[pool] = stored.newest
        if stored.records:
            self._learn(pool, known.with_stored(stored.records))
        return stored.records

    def _learn(self, pool: str, lineage: Lineage) -> None:
        known = self._known.get(pool, _UNKNOWN)
        self._known[pool] = lineage
        if known.digests[:1] != lineage.digests[:1]:
            self._deliver(pool, lineage.records[0])

    async def _put_back(
        self, link: RespConnection, pool: str, records: Sequence[PolicyRecord], stored: _Stored
    ) -> bool:
        """Put records back, unless the server's newest is another one than was read."""
        packed = [pack_whole_record(each) for each in records]
        was = f"generation {stored.records[0].generation}" if stored.records else "no record"
        _log.warning(
            "pool %s: the shared state has %s, an earlier state: putting back generation %d (policy %s)",
            *(pool, was, records[0].generation, records[0].name),
        )
        restored = await RESTORE_POLICY.run(
            link,
            (self._keys.policy(pool), self._keys.pools),
            *(pool, stored.newest, self._keys.channel, self._replica, self._token(), SCHEMA),
            *packed,
        )
        if restored:
            self.put_back += 1
            self._newest[pool] = packed[0]
        return bool(restored)

    async def _packed(self, link: RespConnection, pools: Sequence[str]) -> Sequence[Sequence[bytes]]:
        """What the server has. A key of another type has no record: the next change replaces it."""
        replies = await link.pipeline([("LRANGE", self._keys.policy(pool), 0, POLICY_HISTORY - 1) for pool in pools])
        for reply in replies:
            if isinstance(reply, ReplyError) and not is_damage(reply):
                raise reply
        return [[] if isinstance(reply, ReplyError) else reply for reply in replies]

    def _stored(self, packed: Sequence[bytes]) -> _Stored:
        readable = [(record, data) for data in packed if (record := self._reader.record(data)) is not None]
        return _Stored([record for record, _ in readable], readable[0][1] if readable else b"")

    def __repr__(self) -> str:
        newest = (f"{pool} at {known.records[0].generation}" for pool, known in self._known.items())
        return f"<SharedPolicies: {', '.join(newest) or 'none'}>"


def _gave_up(pool: str, given_up: Sequence[PolicyRecord], stored: Sequence[PolicyRecord]) -> str:
    gone = ", ".join(f"generation {each.generation} (policy {each.name}, {digest(each)})" for each in given_up)
    now, oldest = stored[0], stored[-1].generation
    if given_up[0].generation < oldest:
        what = f"set it again if it was lost: no record before generation {oldest} is kept, so it may be just older"
    else:
        what = "set again what should be kept"
    return (
        f"pool {pool}: {gone} of this replica is not among the records before generation {now.generation} "
        f"(policy {now.name}, {digest(now)}) of the shared state, which is followed: {what}"
    )
