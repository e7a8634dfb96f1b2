"""What a replica waits for before it is ready: its pods, the other replicas' state, the pods' models and first probes.

All of it has one time limit. Late steps go on in the background; until they are done the replica is cold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from router.lifecycle import Lifecycle
from router.replica.pod_registry import PodRegistry
from statesync.engines.model_reader import ModelReader
from statesync.engines.prober import Prober
from statesync.store.protocol import StateListener, StateStore
from statesync.tasks import spawn

_log = logging.getLogger("turnout.replica")

RUSH_AFTER_S = 1.0
"""Seconds in which other replicas may say how the pods are, before all of them are probed in a rush."""

LISTS_S = 2.0
"""Longest wait, in seconds, for the pods' lists of models once all are probed: an engine may never answer."""

CHECK_S = 0.01
"""Seconds between two checks of a condition that has no event."""


class Warmup:
    """The warm-up of one replica."""

    def __init__(
        self,
        *,
        store: StateStore,
        listener: StateListener,
        replica: str,
        pools: Sequence[str],
        pod_registry: PodRegistry,
        prober: Prober,
        models: ModelReader,
        lifecycle: Lifecycle,
        may_be_empty: Collection[str] = (),
    ) -> None:
        """Starts nothing. `may_be_empty`: pools whose first pod comes when it is asked for."""
        self._store = store
        self._listener = listener
        self._replica = replica
        self._pools = pools
        self._pod_registry = pod_registry
        self._prober = prober
        self._models = models
        self._lifecycle = lifecycle
        self._may_be_empty = may_be_empty
        self._shared = False
        self._learned = False
        self._tasks: list[asyncio.Task[None]] = []

    def waits_for(self) -> list[str]:
        """What is not known yet, for people; empty once the warm-up is complete."""
        missing = [f"the pods of pool {pool}" for pool in self._pools if pool not in self._pod_registry.known]
        missing += [f"a pod of pool {pool} (discovery finds none)" for pool in self._empty()]
        if not self._learned:
            missing.append("the pods' models and first probes")
        if not self._shared:
            missing.append(f"the shared state ({self._store.health().error or 'being read'})")
        return missing

    async def run(self, limit_s: float) -> None:
        """Return when all is known or the time is over. Raises StateError if a live replica has this one's name."""
        loop = asyncio.get_running_loop()
        rush = loop.call_later(RUSH_AFTER_S, self._rush, True)
        sharing = loop.create_task(self._share(limit_s), name="warm-up state")
        learning = loop.create_task(self._learn(), name="warm-up pods")
        self._tasks += [sharing, learning]
        done, late = await asyncio.wait({sharing, learning}, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
        rush.cancel()
        self._rush(False)
        for task in done:
            task.result()
        if late:
            self._lifecycle.cold = True
            _log.warning("after %g s still unknown: %s; serving cold", limit_s, ", ".join(self.waits_for()))
            self._tasks.append(spawn(self._lift_cold(late), "warm-up rest"))

    async def stop(self) -> None:
        """Cancel the steps under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _share(self, limit_s: float) -> None:
        """Wait for pods first, so that the other replicas' state applies to known pods; but at most half of the time,
        since that state is useful without pods too, and the others need this replica's."""
        now = asyncio.get_running_loop().time
        end = now() + limit_s
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end - limit_s / 2):
                await _until(lambda: self._pod_registry.known.issuperset(self._pools))
        try:
            async with asyncio.timeout_at(end):
                await self._store.start(self._replica, self._listener)
        except TimeoutError:
            await _until(lambda: self._store.health().warm)  # the store goes on by itself
        self._shared = True
        if not self._lifecycle.ready:
            self._rush(True)  # what other replicas know is known here: the rest is to be probed

    async def _learn(self) -> None:
        # A pool that discovery finds empty is unknown, too: a name or selector may be wrong, or the answer early.
        await _until(lambda: self._pod_registry.complete() and not self._empty())
        await self._prober.first_round()
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTS_S):
                await self._models.first_round()
        self._learned = True

    def _empty(self) -> list[str]:
        """Pools in which discovery finds no pod, and should."""
        return [pool for pool in self._pod_registry.empty() if pool not in self._may_be_empty]

    def _rush(self, on: bool) -> None:
        self._prober.rush(on)
        self._models.rush(on)

    async def _lift_cold(self, late: set[asyncio.Task[None]]) -> None:
        await asyncio.gather(*late)
        if self._shared and self._learned:
            self._lifecycle.cold = False
            _log.info("all is known now: no longer cold")


async def _until(met: Callable[[], bool]) -> None:
    while not met():  # noqa: ASYNC110  several sources feed it, once in a process's life
        await asyncio.sleep(CHECK_S)
