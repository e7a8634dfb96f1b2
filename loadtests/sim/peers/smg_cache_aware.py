"""SMG's `cache_aware` since 1.10: the holders of the match that are not hot, and of those the least expected wait.

Source: the help of smg 1.13.0 and the documentation of smg-project/smg (concepts, cache-aware routing). Defaults:
--cache-match-threshold 0.3, --spill-abs-threshold 64 (at most two standard deviations of the mean in flight, and four
at least), --spill-rel-threshold 1.5, --worker-overload-waiting-requests 8, --worker-overload-token-usage 0.8,
--load-monitor-interval 10 s.

Engines without SGLang's load report are read from their metrics page, which has no throughput and no tokens of the
queue: a waiting request, and one sent since the last reading, counts 1,024 tokens at 2,000 a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from schedulers.types import BYTES_PER_TOKEN

MATCH: Final = 0.3
SPILL_ABS: Final = 64.0
SPILL_LEAST: Final = 4.0
SPILL_REL: Final = 1.5
OVERLOAD_WAITING: Final = 8
OVERLOAD_KV: Final = 0.8
POLL_S: Final = 10.0
REQUEST_S: Final = 1024 / 2000.0
"""Expected wait for a request in the queue, and for one sent since the last reading."""
KV_S: Final = 0.15
"""Weight of k / (1 - k), k the KV usage."""
KV_MOST: Final = 0.999
HOLDERS: Final = 8
"""Of a match, looked at."""
EVICTION_INTERVAL_S: Final = 60.0
MAX_TREE_CHARS: Final = 67_108_864
"""Of all pods together."""


class SmgCacheAware(Peer):
    """Cache first, unless the holder is hot; the wait decides among equals."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._trees = [SentPrefixes() for _ in self.every]
        self._waiting = [0 for _ in self.every]
        self._kv_usage = [0.0 for _ in self.every]
        self._since = [0 for _ in self.every]
        """Requests sent since the last reading."""
        world.every(POLL_S, POLL_S, self._poll)
        world.every(EVICTION_INTERVAL_S, EVICTION_INTERVAL_S, self._evict)

    def choose(self, arrival: Arrival) -> Choice:
        """A holder that is not hot; else a pod that is not; else any. The least expected wait of them."""
        pods = [pod for pod in self.pods if not self._overloaded(pod)] or self.pods
        mean = sum(self.inflight[pod] for pod in pods) / len(pods)
        cool = [pod for pod in pods if not self._hot(pod, mean)]
        holders = [pod for pod in self._holders(arrival, pods) if pod in cool]
        pod = min(holders or cool or pods, key=lambda pod: (self._wait_s(pod), self.rng.random()))
        self._trees[pod].add(arrival.units)
        self._since[pod] += 1
        return Choice(pod)

    def forget(self, pod: int) -> None:
        """Its part of the tree goes at once."""
        self._trees[pod] = SentPrefixes()
        self._waiting[pod], self._kv_usage[pod], self._since[pod] = 0, 0.0, 0

    def _holders(self, arrival: Arrival, pods: Sequence[int]) -> Sequence[int]:
        matches = {pod: self._trees[pod].match(arrival.units) for pod in pods}
        longest = max(matches.values())
        if longest * self.unit_tokens / arrival.prompt_tokens <= MATCH:
            return ()
        return [pod for pod in pods if matches[pod] == longest][:HOLDERS]

    def _hot(self, pod: int, mean: float) -> bool:
        margin = min(SPILL_ABS, max(SPILL_LEAST, 2 * sqrt(mean)))
        return self.inflight[pod] > SPILL_REL * mean and self.inflight[pod] > mean + margin

    def _overloaded(self, pod: int) -> bool:
        return self._waiting[pod] >= OVERLOAD_WAITING or self._kv_usage[pod] >= OVERLOAD_KV

    def _wait_s(self, pod: int) -> float:
        usage = min(self._kv_usage[pod], KV_MOST)
        return (self._waiting[pod] + self._since[pod]) * REQUEST_S + KV_S * usage / (1 - usage)

    def _poll(self) -> None:
        for pod in self.every:
            engine = self.world.engines[pod]
            self._waiting[pod], self._kv_usage[pod], self._since[pod] = engine.waiting, engine.kv_usage, 0

    def _evict(self) -> None:
        units = MAX_TREE_CHARS // (self.unit_tokens * BYTES_PER_TOKEN) // len(self._trees)
        for tree in self._trees:
            tree.shrink(units)
