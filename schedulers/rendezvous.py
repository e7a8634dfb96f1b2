"""A session's own order of the pods: by `hash(session) * hash(pod) mod 2**32`, highest first. Knows no load.

Rendezvous hashing: a pod that leaves moves only its own sessions, a new one takes only its share, and replicas agree
without communication. Usually every pod is hashed for each request. Here one multiplication of one long integer ranks
all of them, and the highest are found by their top byte at the speed of `memchr`: 3 us at 100 pods and 12 us at 1,000,
where a comprehension takes 11 and 170 us, and a digest of each pair 90 and 1,000 us.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from schedulers.types import LoadSnapshot, PodId

LANE_BYTES = 8
"""Bytes of the long integer for each pod: a product of two 32-bit factors never carries into the next lane. The low
half is the rank."""

_TOP = 3
"""Index of the rank's top byte in a lane."""

_FEW = 64
"""Pods up to which it is quicker to collect the top bytes than to search for each of the 256."""

_BYTES = tuple(bytes([value]) for value in reversed(range(256)))

_MEMO = 64


def hash32(text: str) -> int:
    """32 bits that are the same in every process, Python and machine, unlike those of `hash()`."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")


def ranking(session: str, snapshot: LoadSnapshot) -> bytes:
    """Every pod's rank in the session's order, a lane each, in the candidates' order."""
    lanes = _lanes(snapshot)
    # The multiplier is odd, so that different hashes stay different.
    return (lanes * (hash32(session) | 1)).to_bytes(LANE_BYTES * len(snapshot.candidates), "little")


def order(session: str, pods: Sequence[PodId]) -> Iterator[int]:
    """The positions of these pods in the session's order, the same as in a snapshot of them."""
    if not pods:
        return iter(())
    ranks = (_packed(tuple(pods)) * (hash32(session) | 1)).to_bytes(LANE_BYTES * len(pods), "little")
    return descending(ranks)


def rank(ranks: bytes, at: int) -> int:
    """The rank of the pod at this position."""
    return int.from_bytes(ranks[LANE_BYTES * at : LANE_BYTES * at + _TOP + 1], "little")


def descending(ranks: bytes) -> Iterator[int]:
    """The positions, highest rank first; computed as they are taken."""
    tops = ranks[_TOP::LANE_BYTES]
    for top in _BYTES if len(tops) > _FEW else sorted({tops[at : at + 1] for at in range(len(tops))}, reverse=True):
        at = tops.find(top)
        if at < 0:
            continue
        alike = [at]
        while (at := tops.find(top, at + 1)) >= 0:
            alike.append(at)
        if len(alike) > 1:
            alike.sort(key=lambda at: rank(ranks, at), reverse=True)
        yield from alike


_known: dict[int, tuple[Mapping[PodId, int], int]] = {}
"""By the `id` of a snapshot's `positions`: that mapping and its lanes. Holding the mapping keeps its id unique, and its
content never changes, so this cache cannot change an answer."""


def _lanes(snapshot: LoadSnapshot) -> int:
    """The pods' hashes side by side, in the order of the candidates."""
    positions = snapshot.positions
    if positions is None:
        return _packed(tuple([pod.id for pod, _ in snapshot.candidates]))
    known = _known.get(id(positions))
    if known is None:
        if len(_known) >= _MEMO:
            _known.clear()
        known = _known[id(positions)] = positions, _packed(tuple([pod.id for pod, _ in snapshot.candidates]))
    return known[1]


@lru_cache(maxsize=_MEMO)
def _packed(pods: Sequence[PodId]) -> int:
    return int.from_bytes(b"".join(map(_lane, pods)), "little")


@lru_cache(maxsize=16_384)
def _lane(pod: PodId) -> bytes:
    """Cached, so that a change of a pool of 1,000 pods costs as many look-ups instead of digests."""
    return hash32(pod).to_bytes(LANE_BYTES, "little")
