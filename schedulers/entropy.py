"""Every way a policy may use its dice: the request's 64 random bits. No other randomness exists in this package.

Several independent draws come out of one number by splitmix64, the generator that seeds others (Steele, Lea and Flood,
"Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). The same bits give the same draws on every machine and
every Python, so a recorded decision can be replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_GOLDEN: Final = 0x9E3779B97F4A7C15
_THROWS: Final = 8


def mix(entropy: int, salt: int = 0) -> int:
    """Draw number `salt`: 64 bits, the salt-th output of splitmix64 seeded with `entropy`. Takes any integers."""
    z = (entropy + (salt + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def index(entropy: int, n: int, salt: int = 0) -> int:
    """A number in 0..n-1, each as likely to within n / 2**64 (Lemire's multiply-and-shift); n is at least 1."""
    return (mix(entropy, salt) * n) >> 64


def least(costs: Sequence[float], entropy: int) -> int:
    """Where the smallest of `costs` stands; of equal ones, each as likely as the next. `costs` is not empty."""
    return tied(costs, min(costs), entropy)


def tied(costs: Sequence[float], best: float, entropy: int) -> int:
    """Where one of the entries equal to `best` stands, each as likely. Raises ValueError where there is none."""
    ties = costs.count(best)
    if ties <= 1:
        return costs.index(best)
    if ties * 2 > len(costs):
        # An idle pool: walking to one of 1000 equal pods takes 35 us on average, a dart hits after two at most: 2 us.
        for throw in range(_THROWS):
            at = index(entropy, len(costs), throw)
            if costs[at] == best:
                return at
    at = -1
    for _ in range(index(entropy, ties, _THROWS) + 1):
        at = costs.index(best, at + 1)
    return at
