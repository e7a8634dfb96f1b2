"""Every way a policy may use the request's 64 random bits. No other randomness exists in this package.

Several independent draws come from one number by splitmix64, the generator that seeds others (Steele, Lea and Flood,
"Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). The same bits give the same draws on every machine and
every Python, so a recorded decision can be replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_GOLDEN: Final = 0x9E3779B97F4A7C15
_TRIES: Final = 8


def mix(entropy: int, salt: int = 0) -> int:
    """Draw number `salt`: 64 bits, the salt-th output of splitmix64 seeded with `entropy`. Takes any integers."""
    z = (entropy + (salt + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def index(entropy: int, n: int, salt: int = 0) -> int:
    """A number in 0..n-1, each equally likely to within n / 2**64 (Lemire's multiply-and-shift); n is at least 1."""
    return (mix(entropy, salt) * n) >> 64


def least(costs: Sequence[float], entropy: int) -> int:
    """The position of the smallest cost; of equal ones, each is equally likely. `costs` is not empty."""
    return tied(costs, min(costs), entropy)


def tied(costs: Sequence[float], best: float, entropy: int) -> int:
    """The position of one of the entries equal to `best`, each equally likely. Raises ValueError if there is none."""
    ties = costs.count(best)
    if ties <= 1:
        return costs.index(best)
    if ties * 2 > len(costs):
        # An idle pool: counting to one of 1,000 equal pods takes 35 us on average. A random position is one of them in
        # every other try at least: 2 us.
        for salt in range(_TRIES):
            at = index(entropy, len(costs), salt)
            if costs[at] == best:
                return at
    at = -1
    for _ in range(index(entropy, ties, _TRIES) + 1):
        at = costs.index(best, at + 1)
    return at
