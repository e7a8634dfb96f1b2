"""What all peers have: counts of the requests they sent to each pod. Each algorithm is in its own file.

A peer is a `loadtests.sim.simulate.world.Router`. It sees what the real one sees: its own dispatches, scraped
metrics where the real one scrapes, the engines' caches where the real one gets KV events, and nothing else. The pods
are those of discovery. A pod at which a request failed gets none until it answers a health check, every second; a
request that failed before its first token goes to another pod, as a router or the proxy in front of it retries.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Iterable
from typing import Final, NamedTuple

from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import Failure, World

CHECK_S: Final = 1.0
"""How often a pod that failed is looked at again."""

ATTEMPTS: Final = 3
"""Attempts at a request, the first included: the gateway's number, so that none has an advantage."""


class Choice(NamedTuple):
    """The pod of a request, and the prefill the peer expects of it."""

    pod: int
    new_tokens: int = 0
    """Prompt tokens that the peer expects to be computed."""


class _Sent(NamedTuple):
    pod: int
    new_tokens: int
    arrival: Arrival
    failed: tuple[int, ...] = ()
    """Pods that failed it."""


class Peer(ABC):
    """Another router's algorithm; `choose` is all that differs."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        self.world = world
        self.unit_tokens = unit_tokens
        """What one of an arrival's `units` stands for."""
        self.rng = random.Random(seed)
        self.every = range(len(world.engines))
        """All pods that there ever are."""
        self.pods = [pod for pod in self.every if world.serves[pod]]
        """Those that get requests now, in order."""
        self.inflight = [0 for _ in self.every]
        """Requests sent and not ended."""
        self.pending_tokens = [0 for _ in self.every]
        """The `new_tokens` of requests whose first token is not back."""
        self._open: dict[int, _Sent] = {}
        self._pending: dict[int, _Sent] = {}
        self._failing: set[int] = set()
        """Pods that failed and have not answered a check since."""
        self._checks = False
        """Whether any ever failed: then there are checks."""

    @abstractmethod
    def choose(self, arrival: Arrival) -> Choice:
        """Pick a pod and update the algorithm's own state."""

    def forget(self, pod: int) -> None:  # noqa: B027  some algorithms remember nothing
        """Drop what is remembered of the contents of a pod that is gone."""

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """Pick, and count."""
        if not self.pods:
            return None
        pod, new_tokens = self.choose(arrival)
        self.inflight[pod] += 1
        self.pending_tokens[pod] += new_tokens
        self._open[number] = self._pending[number] = _Sent(pod, new_tokens, arrival)
        return pod

    def first_token(self, number: int, /) -> None:
        """The prefill is done."""
        self._prefilled(number)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """Nothing of it is in flight any more."""
        self._prefilled(number)
        self.inflight[self._open.pop(number).pod] -= 1

    def failed(self, number: int, failure: Failure, /) -> int | None:
        """Take the pod out until it answers a check, and send the request elsewhere if its client has nothing yet."""
        sent = self._open[number]
        self.finished(number, None)
        self._suspect(sent.pod)
        failed = (*sent.failed, sent.pod)
        if failure is Failure.CUT or len(failed) >= ATTEMPTS:
            return None
        pod = self.route(number, sent.arrival)
        if pod is not None:
            self._open[number] = self._open[number]._replace(failed=failed)
        return pod

    def joined(self, pod: int, /) -> None:
        """It gets requests from now on."""
        if pod not in self.pods:
            insort(self.pods, pod)

    def left(self, pod: int, /) -> None:
        """It gets no more."""
        if pod in self.pods:
            self.pods.remove(pod)
            self.forget(pod)
        self._failing.discard(pod)

    def least_inflight(self, pods: Iterable[int]) -> int:
        """The pod with the fewest requests in flight; ties are broken at random."""
        return min(pods, key=lambda pod: (self.inflight[pod], self.rng.random()))

    def _suspect(self, pod: int) -> None:
        if pod not in self.pods:
            return  # known already, or gone
        self.left(pod)
        if not self._checks:
            self._checks = True
            self.world.every(CHECK_S, self.world.now + CHECK_S, self._check)
        self._failing.add(pod)

    def _check(self) -> None:
        for pod in sorted(self._failing):
            if self.world.serves[pod]:
                self._failing.discard(pod)
                self.joined(pod)

    def _prefilled(self, number: int) -> None:
        sent = self._pending.pop(number, None)
        if sent is not None:
            self.pending_tokens[sent.pod] -= sent.new_tokens
