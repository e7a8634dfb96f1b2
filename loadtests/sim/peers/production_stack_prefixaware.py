"""vLLM production-stack's `prefixaware`: a random one of those that hold the longest known prefix, whatever their load.

Source: vllm-project/production-stack, src/vllm_router/prefix/hashtrie.py and routers/routing_logic.py. Chunks of 128
characters, no eviction ("we assume that there is no eviction"), --prefix-min-match-length 0. The walk narrows the set
of endpoints chunk by chunk, from all of them, so a prompt that matches nothing goes to a random one.
"""

from __future__ import annotations

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.peers.prefixes import SentPrefixes
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World


class ProductionStackPrefixaware(Peer):
    """The longest match and no load term."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._trie = [SentPrefixes() for _ in self.every]

    def choose(self, arrival: Arrival) -> Choice:
        """A random one of the longest matches."""
        matches = {pod: self._trie[pod].match(arrival.units) for pod in self.pods}
        longest = max(matches.values())
        pod = self.rng.choice([pod for pod in self.pods if matches[pod] == longest])
        self._trie[pod].add(arrival.units)
        return Choice(pod)
