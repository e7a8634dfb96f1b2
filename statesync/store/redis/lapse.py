"""Waits for the leases of other replicas to lapse, on the loop's clock. Which they are is `lease.py`'s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from statesync.store.redis.lease import LiveReplicas, PauseDetector

_log = logging.getLogger("turnout.state")


class LapseTimer:
    """Calls `on_lapse` with each replica that was silent for its lease."""

    def __init__(self, live_replicas: LiveReplicas, lease_s: float, on_lapse: Callable[[str], None]) -> None:
        self._live_replicas = live_replicas
        self._lease_s = lease_s
        self._on_lapse = on_lapse
        self._loop = asyncio.get_running_loop()
        self._pause = PauseDetector(lease_s)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Wait for the next lapse, if there is a replica."""
        due = self._live_replicas.next_lapse()
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._let_lapse, due)

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_lapse(self, due: float) -> None:
        self._timer = None
        now = self._loop.time()
        if grace_s := self._pause.grace(due, now):
            self._timer = self._loop.call_at(now + grace_s, self._let_lapse, now + grace_s)
            return
        for replica in self._live_replicas.lapsed(now):
            _log.warning("replica %s was silent for its lease of %g s: gone", replica, self._lease_s)
            self._on_lapse(replica)
        self.watch()

    def __repr__(self) -> str:
        return f"<LapseTimer of {self._live_replicas!r}>"
