"""LMetric: the least (new prefill tokens x batch size), without a parameter.

Source: Zhang et al., "LMetric: Simple is Better - Multiplication May Be All You Need for LLM Request Scheduling",
arXiv 2603.15202. The tokens are those the pod would have to prefill if it got this request, the ones it has pending
among them; the batch is its requests in flight with this one. The pods' caches are estimated as in
AIBrix's `l-metric-local` (what was sent where), bounded by what the pod's KV cache holds.
"""

from __future__ import annotations

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World


class LMetric(Peer):
    """The smallest product."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._sent = [SentPrefixes(engine.profile.kv_tokens // unit_tokens) for engine in world.engines]

    def choose(self, arrival: Arrival) -> Choice:
        """The cheapest; ties are broken at random."""
        units = arrival.units[: (arrival.prompt_tokens - 1) // self.unit_tokens]
        new = {pod: arrival.prompt_tokens - self._sent[pod].match(units) * self.unit_tokens for pod in self.pods}
        costs = {pod: (self.pending_tokens[pod] + new[pod]) * (self.inflight[pod] + 1) for pod in self.pods}
        pod = min(self.pods, key=lambda pod: (costs[pod], self.rng.random()))
        self._sent[pod].add(units)
        return Choice(pod, new[pod])

    def forget(self, pod: int) -> None:
        """Its cache is gone with it."""
        self._sent[pod].shrink(0)
