"""NVIDIA Dynamo's KV router: the fewest blocks to prefill plus blocks in use, by the engines' reports of their caches.

Source: ai-dynamo/dynamo, lib/kv-router/src/scheduling/selector.rs and docs/components/router (defaults:
--kv-events on, --router-kv-overlap-score-weight 1, --router-temperature 0, queueing and decay off):
cost = weight x (pending prefill tokens + this prompt's, less what is cached) / block size + decode blocks, where the
decode blocks are those of all requests of the pod, shared ones once, with this one among them. Prefill tokens count
until the first token; blocks until the end; output is not tracked (--router-track-output-blocks is off).

KV events are taken as instantaneous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World

OVERLAP_WEIGHT: Final = 1.0


class DynamoKv(Peer):
    """Prefill blocks plus decode blocks, the least wins."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        self._block_tokens = world.engines[0].profile.block_tokens
        self._units: list[Counter[int]] = [Counter() for _ in self.every]
        """Full units of the requests in flight, by how many hold them."""
        self._rest_tokens = [0 for _ in self.every]
        """Tokens of those requests behind their full units."""
        self._prompts: dict[int, tuple[int, Sequence[int], int]] = {}

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """Pick, and note the blocks in use."""
        pod = super().route(number, arrival)
        if pod is None:
            return None
        units, rest = self._full_units(arrival), self._rest(arrival)
        self._units[pod].update(units)
        self._rest_tokens[pod] += rest
        self._prompts[number] = pod, units, rest
        return pod

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """Its blocks are in use no more."""
        super().finished(number, cached_tokens)
        pod, units, rest = self._prompts.pop(number)
        held = self._units[pod]
        for unit in units:
            held[unit] -= 1
            if not held[unit]:
                del held[unit]
        self._rest_tokens[pod] -= rest

    def choose(self, arrival: Arrival) -> Choice:
        """The cheapest; ties are broken at random."""
        units, rest = self._full_units(arrival), self._rest(arrival)
        uncached = {pod: arrival.prompt_tokens - self._cached(pod, units) for pod in self.pods}
        costs = {
            pod: OVERLAP_WEIGHT * (self.pending_tokens[pod] + uncached[pod]) + self._in_use(pod, units) + rest
            for pod in self.pods
        }
        pod = min(self.pods, key=lambda pod: (costs[pod] // self._block_tokens, self.rng.random()))
        return Choice(pod, uncached[pod])

    def _in_use(self, pod: int, units: Sequence[int]) -> int:
        """Tokens of the pod's blocks in use, this prompt's full units included."""
        held = self._units[pod]
        fresh = sum(unit not in held for unit in units)
        return (len(held) + fresh) * self.unit_tokens + self._rest_tokens[pod]

    def _cached(self, pod: int, units: Sequence[int]) -> int:
        hits, _ = self.world.engine(pod).kv.lookup(units, len(units))
        return hits * self.unit_tokens

    def _full_units(self, arrival: Arrival) -> Sequence[int]:
        return arrival.units[: (arrival.prompt_tokens - 1) // self.unit_tokens]

    def _rest(self, arrival: Arrival) -> int:
        return arrival.prompt_tokens - len(self._full_units(arrival)) * self.unit_tokens
