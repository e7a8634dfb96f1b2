"""KV events in virtual time: what simulated engines store and evict reaches each replica's index a little later, as
decoded events. Beside a gateway's there are no sockets and no lost batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from loadtests.sim.simulate.replica import Replica
from loadtests.sim.simulate.world import World
from schedulers.types import Pod
from statesync.kv_events.events import BlockHash, BlockRemoved, BlockStored, EventBatch, KvEvent
from statesync.kv_events.matching import SETTLE_S, AnswerMatcher
from statesync.kv_events.precise_index import PreciseIndex, Publisher

LATE_S: Final = 0.02
"""Seconds from an event to the index: the gateway's reader looks that often."""

_HASH: Final = (1 << 64) - 1


class KvEventFleet:
    """The publishers of all engines."""

    def __init__(self, world: World, unit_tokens: int) -> None:
        self._world = world
        self._watchers = [_Watcher(world, unit_tokens) for _ in world.engines]
        for engine, watcher in zip(world.engines, self._watchers, strict=True):
            engine.kv.watcher = watcher

    def follow(self, replica: Replica, pods: Sequence[Pod]) -> None:
        """The replica subscribes to all of them. It has been there from the beginning."""
        index = replica.prefix
        assert isinstance(index, PreciseIndex), "a replica that follows events"
        for pod, watcher in zip(pods, self._watchers, strict=True):
            followed = index.follow(pod.id, 1)
            followed.publishers[0].feed.replay_done()
            watcher.followers.append(followed.publishers[0])
            self._world.every(SETTLE_S, SETTLE_S, partial(self._settle, followed.matcher))

    def _settle(self, matcher: AnswerMatcher) -> None:
        matcher.settle(self._world.now)


class _Watcher:
    """One engine's publisher. A unit of its cache is one block, whose tokens are the unit's number."""

    def __init__(self, world: World, unit_tokens: int) -> None:
        self.followers: list[Publisher] = []
        self._world = world
        self._unit_tokens = unit_tokens

    def stored(self, ids: Sequence[int], parent: int | None, /) -> None:
        """See KvWatcher."""
        hashes: list[BlockHash] = [unit & _HASH for unit in ids]
        tokens = [unit & _HASH for unit in ids for _ in range(self._unit_tokens)]
        self._send(BlockStored(hashes, None if parent is None else parent & _HASH, tokens, self._unit_tokens))

    def removed(self, unit: int, /) -> None:
        """See KvWatcher."""
        self._send(BlockRemoved([unit & _HASH]))

    def _send(self, event: KvEvent) -> None:
        self._world.at(self._world.now + LATE_S, partial(self._arrive, event))

    def _arrive(self, event: KvEvent) -> None:
        for publisher in self.followers:
            publisher.held.now = self._world.now
            publisher.held.apply(EventBatch(self._world.now, [event]))
