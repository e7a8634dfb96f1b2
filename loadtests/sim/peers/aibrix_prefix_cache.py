"""AIBrix's `prefix-cache`: the best match whose pod is not far above the mean, else the fewest requests.

Source: vllm-project/aibrix, pkg/plugins/gateway/algorithms/prefix_cache.go and
pkg/utils/prefixcacheindexer/hash.go. Settings of the chart (dist/chart/values.yaml), which suit it better than those of
the code: blocks of 128 characters (code: 4), an imbalance at more than 16 requests between the busiest and the idlest
pod (code: 8), pods up to the mean plus 2 standard deviations (code: 1). The table holds 200,000 blocks over all pods
and forgets them after 20 minutes. Matches are compared in whole per cent, as there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from math import inf
from statistics import mean, pstdev
from typing import Final

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from schedulers.types import BYTES_PER_TOKEN

BLOCK_CHARS: Final = 128
IMBALANCE_COUNT: Final = 16
DEVIATIONS: Final = 2
TABLE_BLOCKS: Final = 200_000
TTL_S: Final = 1200.0


class AibrixPrefixCache(Peer):
    """Matches in order, each with a limit to its load."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._capacity = max(1, TABLE_BLOCKS * BLOCK_CHARS // (unit_tokens * BYTES_PER_TOKEN))
        self._table: OrderedDict[int, dict[int, float]] = OrderedDict()
        """Unit -> pods that were sent it, and when."""

    def choose(self, arrival: Arrival) -> Choice:
        """The best match that is not overloaded; where there is none, the fewest requests."""
        found = self._match(arrival, self._allowed())
        pod = self._best(found)
        if pod is None:
            pod = self.least_inflight(self.pods)
        self._note(arrival.units, pod)
        return Choice(pod)

    def forget(self, pod: int) -> None:
        """Its blocks are no longer matched."""
        for times in self._table.values():
            times.pop(pod, None)

    def _allowed(self) -> Collection[int]:
        """All pods, or the idlest where the counts are far apart."""
        counts = [self.inflight[pod] for pod in self.pods]
        fewest = min(counts)
        if max(counts) - fewest > IMBALANCE_COUNT:
            return [pod for pod in self.pods if self.inflight[pod] == fewest]
        return self.pods

    def _match(self, arrival: Arrival, allowed: Collection[int]) -> Mapping[int, int]:
        """Pods that hold a leading part, in whole per cent of the prompt."""
        found: dict[int, int] = {}
        holders = set(allowed)
        oldest = self.world.now - TTL_S
        for at, unit in enumerate(arrival.units, 1):
            times = self._table.get(unit, {})
            holders = {pod for pod in holders if times.get(pod, -inf) >= oldest}
            if not holders:
                break
            found.update(dict.fromkeys(holders, min(100, 100 * at * self.unit_tokens // arrival.prompt_tokens)))
        return found

    def _best(self, found: Mapping[int, int]) -> int | None:
        counts = [self.inflight[pod] for pod in self.pods]
        limit = mean(counts) + DEVIATIONS * pstdev(counts)
        order = sorted(found, key=lambda pod: (-found[pod], self.inflight[pod], self.rng.random()))
        return next((pod for pod in order if self.inflight[pod] <= limit), None)

    def _note(self, units: Sequence[int], pod: int) -> None:
        for unit in reversed(units):
            self._table.setdefault(unit, {})[pod] = self.world.now
            self._table.move_to_end(unit)
        while len(self._table) > self._capacity:
            self._table.popitem(last=False)
