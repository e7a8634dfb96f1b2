"""What all peers have: counts of the requests they sent to each pod. Each algorithm is in its own file.

A peer is a `loadtests.sim.simulate.world.Router`. It sees what the real one sees: its own dispatches, scraped
metrics where the real one scrapes, the engines' caches where the real one gets KV events, and nothing else.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World


class Choice(NamedTuple):
    """The pod of a request, and the prefill the peer expects of it."""

    pod: int
    new_tokens: int = 0
    """Prompt tokens that the peer expects to be computed."""


class _Sent(NamedTuple):
    pod: int
    new_tokens: int


class Peer(ABC):
    """Another router's algorithm; `choose` is all that differs."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        self.world = world
        self.unit_tokens = unit_tokens
        """What one of an arrival's `units` stands for."""
        self.rng = random.Random(seed)
        self.pods = range(len(world.engines))
        self.inflight = [0 for _ in self.pods]
        """Requests sent and not ended."""
        self.pending_tokens = [0 for _ in self.pods]
        """The `new_tokens` of requests whose first token is not back."""
        self._open: dict[int, _Sent] = {}
        self._pending: dict[int, _Sent] = {}

    @abstractmethod
    def choose(self, arrival: Arrival) -> Choice:
        """Pick a pod and update the algorithm's own state."""

    def route(self, number: int, arrival: Arrival, /) -> int:
        """Pick, and count."""
        pod, new_tokens = self.choose(arrival)
        self.inflight[pod] += 1
        self.pending_tokens[pod] += new_tokens
        self._open[number] = self._pending[number] = _Sent(pod, new_tokens)
        return pod

    def first_token(self, number: int, /) -> None:
        """The prefill is done."""
        self._prefilled(number)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """Nothing of it is in flight any more."""
        self._prefilled(number)
        self.inflight[self._open.pop(number).pod] -= 1

    def least_inflight(self, pods: Iterable[int]) -> int:
        """The pod with the fewest requests in flight; ties are broken at random."""
        return min(pods, key=lambda pod: (self.inflight[pod], self.rng.random()))

    def _prefilled(self, number: int) -> None:
        sent = self._pending.pop(number, None)
        if sent is not None:
            self.pending_tokens[sent.pod] -= sent.new_tokens
