"""Exchanges this replica's shares of limits with the other replicas, in the background. No request waits for it: while
the store does not answer, each replica goes on with an equal part of every limit.

Shares in use are renewed every `RENEW_S` and, when a hand runs low, at once; the others every `IDLE_S`, so that a
replica without requests gives back what the busy ones need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from router.access.limits import Share
from statesync.errors import StateError
from statesync.store.protocol import StateStore

RENEW_S: Final = 0.2
"""Seconds between two exchanges for a share that requests used since."""

IDLE_S: Final = 1.0
"""Seconds between two exchanges for any other share, and more where there are more than `IDLE_PER_S`."""

IDLE_PER_S: Final = 500
"""Shares without requests that are exchanged in a second: 5 % of a server's time with eight replicas."""

TICK_S: Final = 0.02
"""Seconds between two looks for shares that are due: an exchange that is asked for comes within it."""

PATIENCE_S: Final = 0.25
"""Seconds after which an exchange counts as failed: hands hold for twice as long."""

LOOKED_AT: Final = 1000
"""Shares that are looked at in one tick, which takes a millisecond; of more, the others with the next ticks."""

MOST: Final = 500
"""Shares in one exchange; the others take their turn in the next."""


_log = logging.getLogger("turnout.limits")


class LimitSharing:
    """Keeps the shares in step with the ledger."""

    def __init__(self, shares: Sequence[Share], store: StateStore, clock: Callable[[], float]) -> None:
        """`shares` may grow; `clock` is theirs."""
        self._shares = shares
        self._store = store
        self._clock = clock
        self._replicas = 1
        """By the last answer."""
        self._looked_at = 0
        """Where the next look begins, if there are many."""

    async def begin(self) -> None:
        """Learn how many replicas share, and take a part of every limit, so that the first request finds some."""
        for _ in range(2):
            await self.exchange(self._shares[:MOST])

    async def run(self) -> None:
        """Exchange what is due, for ever."""
        while True:
            await self.exchange_due()
            await asyncio.sleep(TICK_S)

    async def exchange_due(self) -> None:
        """One exchange, of the shares that are due."""
        if due := self.due(self._clock()):
            await self.exchange(due)

    def due(self, now: float) -> list[Share]:
        """The shares of the next exchange, those that waited longest first if they are too many."""
        idle_s = max(IDLE_S, len(self._shares) / IDLE_PER_S)
        found = [share for share in self._next() if _is_due(share, now - share.asked_at, idle_s)]
        if len(found) > MOST:
            found = sorted(found, key=lambda share: share.asked_at)[:MOST]
        return found

    def _next(self) -> Sequence[Share]:
        if len(self._shares) <= LOOKED_AT:
            return self._shares
        at = self._looked_at if self._looked_at < len(self._shares) else 0
        self._looked_at = at + LOOKED_AT
        return self._shares[at : at + LOOKED_AT]

    async def exchange(self, due: Sequence[Share]) -> None:
        """One exchange, for these shares. Never raises."""
        began = self._clock()
        asks = [share.ask(began) for share in due]
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._store.share_limits(asks)
        except (StateError, TimeoutError):
            self._go_alone(began)
            return
        except Exception:  # noqa: BLE001  a defect must not leave the shares without units for ever
            _log.exception("limits were not shared")
            self._go_alone(began)
            return
        now, self._replicas = self._clock(), answer.replicas
        for share, grant in zip(due, answer.grants, strict=True):
            share.answered(grant, answer.replicas, now)

    def _go_alone(self, since: float) -> None:
        for share in self._shares:
            share.unanswered(since, self._replicas)


def _is_due(share: Share, past_s: float, idle_s: float) -> bool:
    return past_s >= idle_s or (past_s >= RENEW_S and share.busy) or (past_s >= TICK_S and share.short)
