"""Which pods each pool has. Discovery calls in; view, prober, readers and health tracker follow. A large change is made
in steps, each a short turn of the event loop. No request passes here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from router.dataplane.request.routes import Routes
from router.dataplane.session_homes import SessionHomes
from router.replica.pod_updates import PodUpdates
from router.settings import LLM
from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of, in_steps, replaced
from statesync.engines.health import HealthTracker
from statesync.errors import StateError
from statesync.load.view import LoadView

_log = logging.getLogger("turnout.pods")

MOST_AT_ONCE = 25
"""Pods that come or go in one turn of the event loop: 1 ms, however many there are; 1,000 at once took 0.13 s."""


class PodFollower(Protocol):
    """Visits every pod of every pool at intervals."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it."""


@dataclass(slots=True)
class _PendingChange:
    """A change of one pool that is under way."""

    steps: deque[PodChange]
    """The steps left."""
    came: int = 0
    went: int = 0


class PodRegistry:
    """Keeps the pods of each pool as discovery reports them."""

    def __init__(
        self,
        view: LoadView,
        pod_updates: PodUpdates,
        routes: Routes,
        health: HealthTracker,
        prober: PodFollower,
        *readers: PodFollower,
        homes: SessionHomes | None = None,
        engine_readers: Sequence[PodFollower] = (),
    ) -> None:
        """No pool is known yet. `prober` follows the pods that discovery reports as ready, `readers` all of them,
        `engine_readers` those that serve models; `homes` follows where a pool's sessions wait for their pods."""
        self.homes = homes
        self._view = view
        self._pod_updates = pod_updates
        self._routes = routes
        self._health = health
        self._prober = prober
        self._readers = readers
        self._engine_readers = engine_readers
        self.known: set[str] = set()
        """Pools that discovery has reported."""
        self._pending: dict[str, _PendingChange] = {}
        """Pools whose last change is still under way."""
        self._pods: dict[str, dict[PodId, Pod]] = {}

    def on_pods(self, pool: str, pods: Sequence[Pod]) -> None:
        """All pods of a pool, from discovery. A large change takes effect over several turns of the event loop."""
        here = self._pods.get(pool, {})
        change = change_of(here, pods)
        first = replaced(here, change)
        steps = deque([*([first] if first.gone else ()), *in_steps(change, MOST_AT_ONCE)])
        under_way = self._pending.get(pool)
        if under_way is not None:
            under_way.steps = steps
            return
        self._pending[pool] = _PendingChange(steps)
        self._step(pool)

    def _step(self, pool: str) -> None:
        """Apply one step now, and the next in another turn of the loop."""
        pending = self._pending[pool]
        taken = self._apply(pool, pending.steps.popleft(), pending)
        if taken and pending.steps:
            asyncio.get_running_loop().call_soon(self._step, pool)
            return
        del self._pending[pool]
        if taken:
            self.known.add(pool)
        if pending.came or pending.went:
            _log.info("pool %s: %d pods (%d new, %d gone)", pool, len(self._pods[pool]), pending.came, pending.went)

    def _apply(self, pool: str, change: PodChange, pending: _PendingChange) -> bool:
        """Apply a step everywhere; False, and nothing is changed, where another pool holds one of the pods."""
        try:
            added, removed = self._view.change_pods(pool, change)
        except StateError as error:
            _log.error("pool %s keeps its pods: %s", pool, error)
            return False
        here = self._pods.setdefault(pool, {})
        here.update((pod.id, pod) for pod in change.come)
        for gone in change.gone:
            here.pop(gone, None)
        self._follow_health(pool, change)
        readers = (*self._readers, *self._engine_readers) if pool in self._routes.pools else self._readers
        for reader in readers:
            reader.change_pods(pool, change)
        if self.homes is not None:
            self.homes.change_pods(pool, change)
        self._pod_updates.on_gone(pool, removed)
        pending.came += len(added)
        pending.went += len(removed)
        return True

    def _follow_health(self, pool: str, change: PodChange) -> None:
        """Leave out pods that discovery reports as unready: they are neither probed nor counted for the share of a pool
        that may be ejected. Kubernetes' own probe decides when they are ready, and a terminating pod fails ours."""
        unready = tuple(pod.id for pod in change.come if pod.unready)
        watched = PodChange(tuple(pod for pod in change.come if not pod.unready), change.gone + unready)
        for pod in unready:
            for reason in self._health.blockers(pod):
                self._view.unblock(pod, reason)
            self._view.keep(pod, frozenset())
            self._pod_updates.not_probed(pool, pod)
        self._health.change_pods(pool, [pod.id for pod in watched.come], watched.gone)
        self._prober.change_pods(pool, watched)

    def empty(self) -> list[str]:
        """Pools for which discovery has answered that it finds no pod."""
        return [name for name in self._routes.every if name in self.known and not self._pods.get(name)]

    def complete(self) -> bool:
        """Whether the pods of every pool are known, and the models of each pool that has pods."""
        return all(
            name in self.known
            and (pool.models or name in self._routes.pools_learned() or not self._pods.get(name) or pool.kind != LLM)
            for name, pool in self._routes.every.items()
        )
