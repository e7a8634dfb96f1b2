"""Shares of limits in Redis: one script call for all limits of an exchange. `statesync/shares.py` has the rules."""

from __future__ import annotations

from collections.abc import Sequence

from statesync.errors import StoreUnavailable
from statesync.shares import LOST_S, ShareAnswer, ShareAsk, ShareGrant
from statesync.store.redis.commands import Part
from statesync.store.redis.connection import RespConnection
from statesync.store.redis.keys import LIMIT_TTL_S, RedisKeys
from statesync.store.redis.scripts import SHARE_LIMITS


async def grant_shares(link: RespConnection, keys: RedisKeys, token: str, asks: Sequence[ShareAsk]) -> ShareAnswer:
    """The server's answer to the asks of the replica with this token. Raises ReplyError, and StoreUnavailable also if
    its lease is gone."""
    numbers: list[Part] = []
    for ask in asks:
        age_ms = ask.age_s * 1000 if ask.age_s >= 0 else -1
        numbers += (ask.capacity, ask.rate_s / 1000, ask.held, ask.want, ask.least, ask.owed, age_ms)
    names = [keys.limit(ask.key) for ask in asks]
    times_ms = [int(LIMIT_TTL_S * 1000), int(LOST_S * 1000)]
    reply = await SHARE_LIMITS.run(link, (keys.tokens, *names), token, *times_ms, *numbers)
    if not reply:
        raise StoreUnavailable("the lease is gone")
    found = list(map(float, reply))
    grants = [ShareGrant(*found[at : at + 3]) for at in range(1, len(found), 3)]
    return ShareAnswer(int(found[0]), grants)
