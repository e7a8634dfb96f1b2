"""What the generators draw from: popularity, arrival times, lengths, prompts that share prefixes. It knows no workload.

Every function takes its random bits from the `random.Random` it is given, so that a seed decides everything.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from random import Random
from typing import Annotated, Final

import xxhash
from msgspec import Meta

from loadtests.sim.simulate.traces import MOONCAKE_UNIT_TOKENS, Arrival, Trace

UNIT_TOKENS: Final = MOONCAKE_UNIT_TOKENS
LONGEST_ANSWER: Final = 2_000

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class Zipf:
    """Ranks 0..n-1, the rank r with a weight of 1 / (r + 1) ** exponent."""

    def __init__(self, size: int, exponent: float) -> None:
        self._sums: list[float] = list(accumulate((rank + 1) ** -exponent for rank in range(size)))

    def draw(self, rng: Random) -> int:
        """One rank."""
        return bisect_left(self._sums, rng.random() * self._sums[-1])

    def share(self, ranks: int) -> float:
        """The part of all draws that falls on the first `ranks`."""
        return self._sums[ranks - 1] / self._sums[-1]


def gamma_times(rng: Random, rate: float, cv: float) -> Iterator[float]:
    """Moments from 0 on, at a mean rate, with gamma-distributed gaps of that coefficient of variation (1: Poisson)."""
    shape = cv**-2
    scale = 1 / (rate * shape)
    now = 0.0
    for _ in count():
        yield now
        now += rng.gammavariate(shape, scale)


def lognormal(rng: Random, mean: float, sigma: float, low: int, high: int) -> int:
    """A length with that mean before it is bounded by `low` and `high`."""
    return min(max(round(rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)), low), high)


def exponential(rng: Random, mean: float, high: int = LONGEST_ANSWER) -> int:
    """A length with that mean, from 1 to `high`."""
    return min(max(round(rng.expovariate(1 / mean)), 1), high)


def chained(parent: int, name: int, tokens: int) -> list[int]:
    """Units of a text of that name behind the prefix that ends in `parent`: equal wherever both are."""
    units = []
    for piece in range(tokens // UNIT_TOKENS):
        parent = xxhash.xxh64_intdigest(b"%d %d %d" % (parent, name, piece))
        units.append(parent)
    return units


def fresh(rng: Random, tokens: int) -> list[int]:
    """Units of a text that no other prompt shares."""
    return [rng.getrandbits(64) for _ in range(tokens // UNIT_TOKENS)]


def in_order(name: str, arrivals: Sequence[Arrival]) -> Trace:
    """The trace of these arrivals, from 0 on."""
    found = sorted(arrivals, key=lambda each: each.at_s)
    start = found[0].at_s if found else 0.0
    return Trace(name, UNIT_TOKENS, [each._replace(at_s=each.at_s - start) for each in found])
