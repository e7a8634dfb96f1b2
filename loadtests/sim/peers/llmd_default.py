"""llm-d's default profile (Gateway API inference extension): three scorers on scraped metrics, weighted and summed.

Source: kubernetes-sigs/gateway-api-inference-extension and llm-d-router, pkg/epp/config/loader/defaults.go:
queue-scorer 2, kv-cache-utilization-scorer 2, prefix-cache-scorer 3, max-score-picker (equals shuffled). Metrics are
read every 50 ms (--refresh-metrics-interval). The approximate prefix index holds 31,250 blocks of 64 tokens a pod, and
looks at the first 131,072 tokens of a prompt (requestcontrol/dataproducer/approximateprefix).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World

QUEUE_WEIGHT: Final = 2.0
KV_WEIGHT: Final = 2.0
PREFIX_WEIGHT: Final = 3.0
BLOCKS: Final = 31_250
BLOCK_TOKENS: Final = 64
MAX_PREFIX_TOKENS: Final = 131_072
SCRAPE_S: Final = 0.05


class LlmdDefault(Peer):
    """The highest weighted score."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._sent = [SentPrefixes(BLOCKS * BLOCK_TOKENS // unit_tokens) for _ in self.every]
        self._queued = [0 for _ in self.every]
        self._kv_usage = [0.0 for _ in self.every]
        for pod in self.every:
            world.every(SCRAPE_S, self.rng.random() * SCRAPE_S, lambda pod=pod: self._scrape(pod))  # type: ignore[misc]

    def choose(self, arrival: Arrival) -> Choice:
        """Score all, take the best."""
        units = arrival.units[: MAX_PREFIX_TOKENS // self.unit_tokens]
        queue = self._queue_scores()
        scores = {
            pod: QUEUE_WEIGHT * queue[pod]
            + KV_WEIGHT * (1.0 - self._kv_usage[pod])
            + PREFIX_WEIGHT * (self._sent[pod].match(units) / len(units) if units else 0.0)
            for pod in self.pods
        }
        pod = max(self.pods, key=lambda pod: (scores[pod], self.rng.random()))
        self._sent[pod].add(units)
        return Choice(pod)

    def forget(self, pod: int) -> None:
        """Its blocks leave the index, its metrics the store."""
        self._sent[pod] = SentPrefixes(BLOCKS * BLOCK_TOKENS // self.unit_tokens)
        self._queued[pod], self._kv_usage[pod] = 0, 0.0

    def _queue_scores(self) -> Mapping[int, float]:
        """1 for the shortest queue down to 0 for the longest; 1 for all where they are equal."""
        queued = {pod: self._queued[pod] for pod in self.pods}
        longest, shortest = max(queued.values()), min(queued.values())
        if longest == shortest:
            return dict.fromkeys(queued, 1.0)
        return {pod: (longest - waiting) / (longest - shortest) for pod, waiting in queued.items()}

    def _scrape(self, pod: int) -> None:
        if not self.world.serves[pod]:
            return
        engine = self.world.engines[pod]
        self._queued[pod] = engine.waiting
        self._kv_usage[pod] = engine.kv_usage
