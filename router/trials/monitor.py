"""Watches the running trials of a replica. Once a second it stores each trial's figures, reads those of all replicas,
and asks the guard about their sum. A broken guard takes the canary back for all replicas, by compare-and-set against
the record that was judged: the first replica that finds it broken does so, and the others follow.

While the store is away a replica judges by the figures it has, and sends nothing more to a candidate whose guard is
broken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from router.trials.figures import pack, unpack
from router.trials.running import RunningTrial
from router.trials.trials import Trials
from router.trials.verdict import Verdict
from statesync.errors import StateError, StoreUnavailable
from statesync.store.protocol import PolicyRecord, StateStore

SHARE_S: Final = 1.0
"""Seconds between two rounds in which figures are shared and judged."""

_log = logging.getLogger("turnout.trials")

EndCanary = Callable[[str, PolicyRecord, str], Awaitable[object]]
"""(pool, record, note): end the pool's canary if this is still its record. Raises StateError."""


class TrialMonitor:
    """Shares and judges the figures of every running trial."""

    def __init__(self, trials: Trials, store: StateStore, end_canary: EndCanary) -> None:
        self.rollbacks: dict[str, int] = {}
        """Counter by pool: canaries that this replica took back."""
        self._trials = trials
        self._store = store
        self._end_canary = end_canary

    async def run(self) -> None:
        """Share and judge every `SHARE_S`."""
        while True:
            await asyncio.sleep(SHARE_S)
            await self.step()

    async def step(self) -> None:
        """Share and judge every running trial once."""
        self._trials.note_pools()
        for running in list(self._trials.watched.values()):
            await self._share(running)
            verdict = running.look()
            if verdict is not None:
                await self._roll_back(running, verdict)

    async def _share(self, running: RunningTrial) -> None:
        figures = pack(running.own())
        try:
            shared = await self._store.share_trial(running.trial.pool, running.key, self._trials.reporter, figures)
        except StoreUnavailable:
            return  # the store logs it; the last figures of the others still count
        running.received(unpack(shared))

    async def _roll_back(self, running: RunningTrial, verdict: Verdict) -> None:
        """End the canary for all replicas. A failure is tried again in the next round; this replica already stopped
        using the candidate."""
        record, pool = running.trial.record, running.trial.pool
        name = record.canary.choice.name if record.canary is not None else ""
        note = f"canary {name} rolled back: {verdict.reason.removeprefix('broken: ')}"
        try:
            await self._end_canary(pool, record, note)
        except StoreUnavailable as error:
            _log.error("pool %s: %s; here at once, elsewhere when the store is back (%s)", pool, note, error)
        except StateError as error:
            _log.warning("pool %s: %s; but the record has changed since: %s", pool, note, error)
        else:
            self.rollbacks[pool] = self.rollbacks.get(pool, 0) + 1
            _log.warning("pool %s: %s", pool, note)
