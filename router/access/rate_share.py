"""This replica's share of a rate limit, such as a tenant's tokens a minute. Pure: times are arguments, and the exchange
with the other replicas is `limit_sharing.py`'s.

A token bucket with continuous refill, as OpenAI and Anthropic have: it holds at most one minute's units. The replicas
hold its units in parts: each takes what it expects to need soon out of the common level (`statesync/shares.py`) and
admits requests from its hand. What a request used beyond its estimate makes the hand negative, and that debt is paid
before the next request is admitted.

A request may go beyond an empty hand, once in `CALM_S`, where even an equal part of the level is less than one request:
else small limits would refuse the first request at each replica. So may the request that meets a limit first, before
any exchange. The debt reaches the level with the next exchange.
"""

from __future__ import annotations

import math
from typing import Final

from statesync.shares import ShareAsk, ShareGrant

MINUTE_S: Final = 60.0

AHEAD_S: Final = 0.5
"""Seconds of the expected demand that a replica wants to hold: more than two exchanges, and less than would be missed
elsewhere."""

MEMORY_S: Final = 1.0
"""Seconds over which the demand is averaged."""

CALM_S: Final = 1.0
"""Seconds without a refusal or a debt, after which one request may go beyond an empty hand."""

LONE: Final = 7 / 8
"""The part of all units that a replica holds while it is the only one; the rest is for one that joins."""

ENOUGH: Final = 1e-6
"""Units by which a hand may be short: a hundred additions of 0.01 are not 1."""


class RateShare:
    """Units in hand, and what is known of the rest."""

    __slots__ = (
        "_accrued_at",
        "_answered_at",
        "_asked_for",
        "_asked_owed",
        "_asked_spent",
        "_cost",
        "_demand_s",
        "_free",
        "_level",
        "_needed",
        "_offered",
        "_owed",
        "_rate_s",
        "_replicas",
        "_short_at",
        "_spent",
        "alone",
        "asked_at",
        "capacity",
        "hand",
        "key",
    )

    def __init__(self, key: str, per_minute: float, now: float, *, shared: bool = True) -> None:
        """`shared`: whether there may be other replicas; if not, all units are in hand and no ask is sent."""
        self.key = key
        self.capacity = per_minute
        self._rate_s = per_minute / MINUTE_S
        self.hand = 0.0 if shared else per_minute
        """Units that may be used; negative after a debt."""
        self.alone = not shared
        """Whether the units refill here, because no other replica can be reached."""
        self._accrued_at = now
        self._replicas = 1
        self._level = self._free = per_minute
        """By the last answer; `_spent` units were used since."""
        self._answered_at = self._short_at = -math.inf
        self.asked_at = now - MEMORY_S
        """When the last ask was made."""
        self._asked_for: ShareAsk | None = None
        self._asked_owed = self._asked_spent = 0.0
        self._spent = 0.0
        self._offered = 0.0
        """Units that requests asked for since the last ask, the refused ones included."""
        self._demand_s = 0.0
        self._cost = 1.0
        """Units of the last request."""
        self._needed = 0.0
        """Units of the last request that was refused since the last ask."""
        self._owed = 0.0
        """Units that refilled here and that the ledger has not been informed of."""

    # Requests

    def admits(self, cost: float, now: float) -> bool:
        """Whether a request of this cost may pass. Uses nothing."""
        self._offered += cost
        self._cost = cost
        if self.alone:
            self._accrue(now)
        if self.hand + ENOUGH >= cost:
            return True
        calm = now - self._short_at >= CALM_S
        self._short_at = now
        if calm and not self.alone and self.hand >= 0.0:
            # What has flowed back since the last answer does not count: every replica would take it for its own.
            first = self._answered_at == -math.inf
            if (first or self._level / self._replicas < cost) and cost <= self._level:
                return True
        self._needed = cost
        return False

    def use(self, units: float) -> None:
        """Take units for a request, or give back those that it did not use (below zero)."""
        self.hand -= units
        self._spent += units

    def wait_s(self, cost: float, now: float) -> float:
        """Seconds until a request of this cost can pass, if no other uses the units before; infinite if it is larger
        than the limit."""
        if cost > self.capacity:
            return math.inf
        if self.alone:
            return max(0.0, (cost - self.hand) * self._replicas / self._rate_s)
        return max(0.0, (cost - self.hand - self._level_at(now)) / self._rate_s)

    def remaining(self, now: float) -> float:
        """Units that all replicas together have left, as far as is known here."""
        if self.alone:
            self._accrue(now)
            left = self.hand * self._replicas
        else:
            left = self._free - self._spent + (now - self._answered_at) * self._rate_s
        return min(self.capacity, max(0.0, left))

    def refill_s(self, remaining: float) -> float:
        """Seconds until nothing of the limit is used, if this is what is left of it."""
        return (self.capacity - remaining) / self._rate_s

    # The exchange with the other replicas

    @property
    def short(self) -> bool:
        """Whether an exchange would help now: a request was refused or went beyond the hand, or the hand is half empty,
        and there was something to be had."""
        if self.alone or (self._level <= 0.0 and self.hand >= 0.0):
            return False
        return 0.0 < self._needed <= self._level or self.hand < self._wanted(self._level) / 2

    @property
    def busy(self) -> bool:
        """Whether requests came since the last ask."""
        return self._offered > 0.0

    def ask(self, now: float) -> ShareAsk:
        """What to ask the ledger for. Until it answers, nothing is used that is given back."""
        past_s = max(now - self.asked_at, 1e-3)
        kept = max(0.0, 1.0 - past_s / MEMORY_S)
        self._demand_s = kept * self._demand_s + (1.0 - kept) * self._offered / past_s
        if self.alone:
            self._accrue(now)
        want = max(self._wanted(self._level_at(now)), self._needed)
        # What is given back is lost if the ask is: keep it while the ledger may still be away.
        want = min(self.capacity, max(want, self.hand) if self.alone else want)
        held = max(self.hand, 0.0)
        self._asked_for = ShareAsk(
            self.key,
            self.capacity,
            self._rate_s,
            held,
            want,
            least=max(0.0, self._needed - held),
            owed=self._owed + held - self.hand,
            age_s=now - self._answered_at if self._answered_at > -math.inf else -1.0,
        )
        self._asked_owed, self._asked_spent, self.asked_at = self._owed, self._spent, now
        self.hand = min(self.hand, want)
        self._offered = self._needed = 0.0
        return self._asked_for

    def answered(self, grant: ShareGrant, replicas: int, now: float) -> None:
        """The ledger answered the last ask."""
        asked, self._asked_for = self._asked_for, None
        if asked is None:
            return
        debt = asked.owed - self._asked_owed
        self.hand += grant.share - min(asked.held, asked.want) + debt
        self._owed -= self._asked_owed
        self._spent -= self._asked_spent
        self._level, self._free, self._replicas = grant.level, grant.free, replicas
        self._answered_at = now
        self.alone = False

    def unanswered(self, since: float, replicas: int = 1) -> None:
        """The ledger cannot be reached since then: units refill here, at an equal part of the rate. `replicas`: how
        many share, as far as is known, where the ledger never answered for this limit."""
        self._asked_for = None
        if self.alone:
            return
        self.alone = True
        self._accrued_at = since
        if self._answered_at == -math.inf:
            self._replicas = replicas
            self.hand += self.capacity / replicas
            self._owed += self.capacity / replicas

    def _accrue(self, now: float) -> None:
        part = self.capacity / self._replicas
        if self.hand >= part:
            self._accrued_at = now
            return
        units = min((now - self._accrued_at) * self._rate_s / self._replicas, part - self.hand)
        self._accrued_at = now
        self.hand += units
        self._owed += units

    def _wanted(self, level: float) -> float:
        """The units that this replica wants to hold. Parts of a request at many replicas are of no use to any."""
        want = max(self._even(level), self._demand_s * AHEAD_S)
        return want if want >= self._cost else 0.0

    def _even(self, level: float) -> float:
        """The units that this replica holds even without requests; none before it knows how many share."""
        if self._replicas == 1:
            return LONE * max(0.0, level + max(0.0, self.hand)) if self._answered_at > -math.inf else 0.0
        return max(0.0, level) / self._replicas

    def _level_at(self, now: float) -> float:
        if self._answered_at == -math.inf:
            return self.capacity
        return min(self.capacity, self._level + (now - self._answered_at) * self._rate_s)

    def __repr__(self) -> str:
        where = "alone" if self.alone else f"of {self._replicas}"
        return (
            f"<RateShare {self.key} {where}: {self.hand:.1f} in hand, level {self._level:.1f} of {self.capacity:.0f}>"
        )
