"""A few candidates out of many, for a policy whose cost grows with each one it looks at. Knows no policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Final

from schedulers import entropy
from schedulers.hits import levels_of
from schedulers.types import LoadSnapshot, PodId, RequestInfo

HOLDERS: Final = 4
"""Pods: in a larger pool, at most this many of those with the longest cached prefix are priced, too."""

_DRAW: Final = 40
"""Salt, apart from those of the pickers: the pods drawn must not determine the pod picked."""


def drawn(request: RequestInfo, snapshot: LoadSnapshot, count: int) -> Sequence[int]:
    """Positions of `count` random candidates, the least loaded one, and up to four with the longest cached prefix.

    Each position is there once. `count` is less than the number of candidates.
    """
    pods = len(snapshot.candidates)
    bits = entropy.mix(request.entropy, _DRAW)
    start, stride = bits % pods, 1 + (bits >> 32) % pods
    while gcd(stride, pods) > 1:  # steps around the ring must meet every pod before one twice
        stride += 1
    at = [each % pods for each in range(start, start + stride * count, stride)]
    at.append(entropy.least(snapshot.columns.tokens, bits))
    if request.prefix_hits:
        at += holders(request.prefix_hits, snapshot.position_of(), HOLDERS, bits)
    return list(dict.fromkeys(at))


def holders(hits: Mapping[PodId, int], positions: Mapping[PodId, int], count: int, rng: int) -> list[int]:
    """Positions of the `count` pods with the longest cached prefix; on each level, from a random one on."""
    found: list[int] = []
    for _, pods in levels_of(hits):
        size = len(pods)
        for number in range(rng % size, rng % size + min(count, size)):
            at = positions.get(pods[number % size])
            if at is not None:
                found.append(at)
                if len(found) == count:
                    return found
    return found
