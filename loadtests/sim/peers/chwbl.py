"""Consistent hashing with bounded loads by prefix: a ring, and past each pod that has 1.25 times its share.

Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (arXiv 1608.01350), with the settings
of KubeAI's PrefixHash (docs/concepts/load-balancing.md): meanLoadFactor 125 (per cent), 256 places a pod, the key is
the prompt's first 100 characters. A trace shows prefixes by the unit, so the key is the first unit; a prompt without
units has a key of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil
from typing import Final

from xxhash import xxh3_64_intdigest

from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World

LOAD_FACTOR: Final = 1.25
PLACES: Final = 256


class Chwbl(Peer):
    """The first pod on the ring that has room."""

    def __init__(self, world: World, unit_tokens: int, *, seed: int = 0) -> None:
        super().__init__(world, unit_tokens, seed=seed)
        places = sorted(
            (xxh3_64_intdigest(f"pod-{pod}/{at}".encode()), pod) for pod in self.every for at in range(PLACES)
        )
        self._points = [point for point, _ in places]
        self._owners = [pod for _, pod in places]

    def choose(self, arrival: Arrival) -> Choice:
        """Walk from the key's place on, past the full."""
        pods = self.pods
        bound = ceil(LOAD_FACTOR * (sum(self.inflight[pod] for pod in pods) + 1) / len(pods))
        key = arrival.units[0] if arrival.units else self.rng.getrandbits(64)
        start = bisect_left(self._points, xxh3_64_intdigest(key.to_bytes(8, "little")))
        owners = self._owners
        for step in range(len(owners)):
            pod = owners[(start + step) % len(owners)]
            if self.inflight[pod] < bound and pod in pods:
                return Choice(pod)
        raise AssertionError("bounds add up to more than there is in flight, so a pod is below its own")
