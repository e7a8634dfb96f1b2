"""SGLang's `cache_aware`: the best prefix match if it is good enough, unless the pods' request counts are far apart.

Source: sgl-project/sglang, sgl-model-gateway/src/policies/cache_aware.rs (default policy of sglang-router and of
vllm-router; SMG's is another one since 1.10). CLI defaults: --cache-threshold 0.3, --balance-abs-threshold 64,
--balance-rel-threshold 1.5, --eviction-interval 120, --max-tree-size 67108864 (characters, a worker).

A miss goes to the worker with the fewest requests in flight, as in releases since December 2025 (before, to the one
with the smallest tree, whatever its load). Of workers that hold the same match, the one last sent there is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from schedulers.types import BYTES_PER_TOKEN

CACHE_THRESHOLD: Final = 0.3
BALANCE_ABS: Final = 64
BALANCE_REL: Final = 1.5
EVICTION_INTERVAL_S: Final = 120.0
MAX_TREE_CHARS: Final = 67_108_864


class SglangCacheAware(Peer):
    """Two thresholds decide between cache and load."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._trees = [SentPrefixes() for _ in self.every]
        self._last: dict[int, int] = {}
        """The worker last sent a prompt with this unit."""
        world.every(EVICTION_INTERVAL_S, EVICTION_INTERVAL_S, self._evict)

    def choose(self, arrival: Arrival) -> Choice:
        """Balance if imbalanced; else the match if more than 30 % of the prompt; else the fewest requests."""
        counts = [self.inflight[pod] for pod in self.pods]
        most, fewest = max(counts), min(counts)
        if most - fewest > BALANCE_ABS and most > BALANCE_REL * fewest:
            pod = self.least_inflight(self.pods)
        else:
            matched, holder = self._longest(arrival.units)
            rate = matched * self.unit_tokens / arrival.prompt_tokens
            pod = holder if rate > CACHE_THRESHOLD else self.least_inflight(self.pods)
        self._trees[pod].add(arrival.units)
        self._last.update(dict.fromkeys(arrival.units, pod))
        return Choice(pod)

    def forget(self, pod: int) -> None:
        """The worker's tree goes with it."""
        self._trees[pod] = SentPrefixes()

    def _longest(self, units: Sequence[int]) -> tuple[int, int]:
        matches = {pod: self._trees[pod].match(units) for pod in self.pods}
        longest = max(matches.values())
        last = self._last.get(units[longest - 1], -1) if longest else -1
        if matches.get(last) == longest:
            return longest, last
        return longest, next(pod for pod in matches if matches[pod] == longest)

    def _evict(self) -> None:
        for tree in self._trees:
            tree.shrink(MAX_TREE_CHARS // (self.unit_tokens * BYTES_PER_TOKEN))
