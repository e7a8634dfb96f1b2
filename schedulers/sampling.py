"""A few candidates out of many, for a policy whose cost grows with each one it looks at. Knows no policy."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Final

from schedulers import entropy
from schedulers.soonest import HOLDERS, holders
from schedulers.types import LoadSnapshot, RequestInfo

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
