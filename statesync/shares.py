"""Limits that replicas share: each replica holds a share of a limit and admits requests from it, so that no request
waits for the store. Here are the question that a replica asks from time to time, the answer, and the ledger that gives
it. Pure; `store/redis/lua/share_limits.lua` is the same ledger in Redis.

Two kinds of limit have one form. Of a rate, the units that no replica holds flow back with time, up to the capacity
(generic cell rate algorithm, ITU-T I.371: the ledger keeps one time, at which the level was zero). Slots have no rate:
a unit is free again when its holder gives it back. Together, the level and all shares never exceed the capacity; a
replica's share is void when the replica is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

LOST_S: Final = 1.0
"""Seconds for which a ledger that has lost a limit of slots grants none but those in use: until all replicas have said
how many that are."""


class ShareAsk(NamedTuple):
    """What a replica holds of a limit, and what it wants to hold."""

    key: str
    """Name of the limit, the same on all replicas."""
    capacity: float
    """Units that may be held together; of a rate, the largest burst."""
    rate_s: float
    """Units a second that flow back; 0.0 for slots."""
    held: float
    """Units in hand, of slots those in use. This replica holds no others from now on."""
    want: float
    """Units that it wants to hold; below `held` to give some back."""
    least: float = 0.0
    """Additional units below which more are of no use: then none are granted."""
    owed: float = 0.0
    """Units that it used and never held; they are taken off the level, down to a whole capacity below zero."""
    age_s: float = -1.0
    """Seconds since this replica was last answered for the limit, -1.0 for never: if the ledger has lost the limit, it
    flows from then on, so that what was used before is not granted twice. See also `LOST_S`. A replica that was never
    answered may ask a ledger first that has lost the limit; what it was granted too much is a debt as soon as one asks
    that was answered before."""


class ShareGrant(NamedTuple):
    """The answer."""

    share: float
    """Units that the replica holds now."""
    level: float
    """Units that no replica holds; below zero after debts."""
    free: float
    """The level and all shares together; of slots, the level."""


class ShareAnswer(NamedTuple):
    """The answers to all asks of one exchange, in their order."""

    replicas: int
    """Live replicas, the asking one included."""
    grants: Sequence[ShareGrant]


class _Limit:
    __slots__ = ("began_at", "empty_at", "shares")

    def __init__(self) -> None:
        self.began_at: float | None = None
        """When a replica that was never answered asked for it first; None where one was, or has asked since."""
        self.empty_at: float | None = None
        """When the level of a rate was zero, or will be. Of slots that were lost: when more are granted again."""
        self.shares: dict[str, float] = {}
        """By replica."""


class ShareLedger:
    """Levels and shares of all limits."""

    def __init__(self) -> None:
        self._limits: dict[str, _Limit] = {}

    def grant(self, replica: str, live: Collection[str], asks: Sequence[ShareAsk], now: float) -> ShareAnswer:
        """Answer `replica`'s asks. `live`: the replicas whose shares count; `now` in seconds."""
        return ShareAnswer(len(live), [self._grant(replica, live, ask, now) for ask in asks])

    def _grant(self, replica: str, live: Collection[str], ask: ShareAsk, now: float) -> ShareGrant:
        limit = self._limits.setdefault(ask.key, _Limit())
        if not ask.rate_s and not limit.shares and ask.age_s >= 0:
            limit.empty_at = now + LOST_S
        _find_lost(limit, ask, now)
        limit.shares = {each: share for each, share in limit.shares.items() if each in live and each != replica}
        others = sum(limit.shares.values())
        # Units in hand may be taken away, slots in use may not.
        held = min(ask.held, max(0.0, ask.capacity - others)) if ask.rate_s else ask.held
        level = ask.capacity - others - held
        if ask.rate_s:
            if limit.empty_at is None:
                limit.empty_at = now - (ask.capacity / ask.rate_s if ask.age_s < 0 else ask.age_s)
            level = max(min(level, (now - limit.empty_at) * ask.rate_s) - ask.owed, -ask.capacity)
        more = ask.want - held
        if more > 0:
            more = min(more, level)
            lost = not ask.rate_s and limit.empty_at is not None and now < limit.empty_at
            if more < ask.least or more < 0 or lost:
                more = 0.0
        share = held + more
        level -= more
        if ask.rate_s:
            limit.empty_at = now - level / ask.rate_s
        limit.shares[replica] = share
        return ShareGrant(share, level, level + others + share if ask.rate_s else level)

    def __repr__(self) -> str:
        return f"<ShareLedger of {len(self._limits)} limits>"


def _find_lost(limit: _Limit, ask: ShareAsk, now: float) -> None:
    """Correct a limit that began whole, where this replica was answered for it before it began: it was lost."""
    if not limit.shares and limit.empty_at is None:
        limit.began_at = now if ask.age_s < 0 else None
    if limit.began_at is None or ask.age_s <= now - limit.began_at:
        return
    if not ask.rate_s:
        limit.empty_at = now + LOST_S
    elif limit.empty_at is not None:
        limit.empty_at += max(0.0, ask.capacity / ask.rate_s - ask.age_s + now - limit.began_at)
    limit.began_at = None


def share_key(*names: str) -> str:
    """The key of the limit with these names; different names never give the same key."""
    return "/".join([quote(name, safe="") for name in names])
