"""This replica's share of a limit of requests at a time. Pure: times are arguments, and the exchange with the other
replicas is `limit_sharing.py`'s.

A replica holds whole slots: those in use, and some that it expects to need soon. All replicas' slots together are at
most the limit (`statesync/shares.py`). As with rates, one request may go beyond the slots once in a while, where an
equal part of the free ones is less than one, and the first one before any exchange.
"""

from __future__ import annotations

import math
from typing import Final

from router.access.rate_share import AHEAD_S, CALM_S, LONE, MEMORY_S
from statesync.shares import ShareAsk, ShareGrant

FIRST_S: Final = 1.0
"""Seconds that a request is expected to take before any has ended."""

LEARNED: Final = 0.1
"""How much of the expected time is replaced by that of the last request."""


class SlotShare:
    """Slots in use and in hand, and what is known of the rest."""

    __slots__ = (
        "_answered_at",
        "_asked_for",
        "_demand_s",
        "_level",
        "_needed",
        "_offered",
        "_replicas",
        "_short_at",
        "_takes_s",
        "alone",
        "asked_at",
        "capacity",
        "hand",
        "key",
        "used",
    )

    def __init__(self, key: str, most: int, now: float, *, shared: bool = True) -> None:
        """`shared`: whether there may be other replicas; if not, all slots are in hand and no ask is sent."""
        self.key = key
        self.capacity = most
        self.hand = 0 if shared else most
        """Slots that this replica holds, the used ones included."""
        self.used = 0
        self.alone = not shared
        """Whether an equal part of the slots is used, because no other replica can be reached."""
        self._replicas = 1
        self._level = float(most)
        """Slots that no replica holds, by the last answer."""
        self._answered_at = self._short_at = -math.inf
        self.asked_at = now - MEMORY_S
        """When the last ask was made."""
        self._asked_for: ShareAsk | None = None
        self._offered = 0
        """Requests since the last ask, the refused ones included."""
        self._demand_s = 0.0
        self._needed = False
        """Whether one was refused since the last ask."""
        self._takes_s = FIRST_S
        """Seconds that a request takes."""

    # Requests

    def admits(self, now: float) -> bool:
        """Whether another request may begin. Uses nothing."""
        self._offered += 1
        if self.used < self._usable():
            return True
        calm = now - self._short_at >= CALM_S
        self._short_at = now
        if calm and not self.alone and self.used <= self.hand and self._level >= 1.0:
            if self._answered_at == -math.inf or self._level / self._replicas < 1.0:
                return True
        self._needed = True
        return False

    def begin(self) -> None:
        """A request has a slot."""
        self.used += 1

    def end(self, took_s: float) -> None:
        """A request gives its slot back."""
        self.used -= 1
        self._takes_s += LEARNED * (took_s - self._takes_s)

    def wait_s(self) -> float:
        """Seconds until a slot is expected to be free: requests end at the rate of all slots by the time that each
        takes."""
        return 0.0 if self._level >= 1.0 and not self.alone else self._takes_s / self.capacity

    def _usable(self) -> int:
        return max(1, self.capacity // self._replicas) if self.alone else self.hand

    def _even(self) -> int:
        """The free slots that this replica holds even without requests; none before it knows how many share."""
        if self._replicas == 1:
            free = max(0.0, self._level) + max(0, self.hand - self.used)
            return int(LONE * free) if self._answered_at > -math.inf else 0
        return int(max(0.0, self._level) / self._replicas)

    # The exchange with the other replicas

    @property
    def short(self) -> bool:
        """Whether an exchange is worth it now: a request was refused or went beyond the slots, few are left and there
        are more, or some are left over and there are no others."""
        if self.alone:
            return False
        spare, ahead = self.hand - self.used, max(self._even(), int(self._demand_s * AHEAD_S))
        if self._needed or spare < 0:
            return True
        return spare < ahead / 2 if self._level >= 1.0 else spare > ahead

    @property
    def busy(self) -> bool:
        """Whether requests came, slots are in use, or some are held that others may need."""
        return self._offered > 0 or self.used > 0 or self.hand > self._even()

    def ask(self, now: float) -> ShareAsk:
        """What to ask the ledger for. Until it answers, no slot is used that is given back."""
        past_s = max(now - self.asked_at, 1e-3)
        kept = max(0.0, 1.0 - past_s / MEMORY_S)
        self._demand_s = kept * self._demand_s + (1.0 - kept) * self._offered / past_s
        ahead = max(self._even(), int(self._demand_s * AHEAD_S), int(self._needed))
        want = max(self.used, min(self.capacity, self.used + ahead))
        # The slots in use are a fact; of the others as many are granted as are free.
        age_s = now - self._answered_at if self._answered_at > -math.inf else -1.0
        self._asked_for = ShareAsk(self.key, self.capacity, 0.0, self.used, want, age_s=age_s)
        self.hand = min(self.hand, want)
        self.asked_at = now
        self._offered, self._needed = 0, False
        return self._asked_for

    def answered(self, grant: ShareGrant, replicas: int, now: float) -> None:
        """The ledger answered the last ask."""
        asked, self._asked_for = self._asked_for, None
        if asked is None:
            return
        self.hand = int(grant.share)
        self._level, self._replicas = grant.level, replicas
        self._answered_at = now
        self.alone = False

    def unanswered(self, since: float, replicas: int = 1) -> None:
        """The ledger cannot be reached: an equal part of the slots is used. `replicas`: as `RateShare.unanswered`."""
        self._asked_for = None
        if self._answered_at == -math.inf:
            self._replicas = replicas
        self.alone = True

    def __repr__(self) -> str:
        where = "alone" if self.alone else f"of {self._replicas}"
        return f"<SlotShare {self.key} {where}: {self.used} of {self.hand} used, level {self._level:.0f}>"
