"""The choice of `prefix_aware`: which pods are priced, at what cost, and which of them is taken. Pure.

It is apart from the policy so that mypyc can compile it. The cost model is `ttft.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from schedulers import entropy
from schedulers.hits import levels_of
from schedulers.ttft import ANSWER_TOKENS, OTHERS_WEIGHT, QUEUE_WEIGHT, admission_s, prefill_work
from schedulers.types import PREFIX_BLOCK_TOKENS, LoadSnapshot, PodId, PodLoad, RequestInfo

WHOLE: Final = 32
"""Pods: in a pool of up to this size every pod is priced, at 0.1 us each."""

DRAWN: Final = 16
"""Pods: in a larger pool this many are drawn at random and priced, beside the least busy and the holders."""

HOLDERS: Final = 4
"""Pods: in a larger pool, at most this many of those with the longest cached prefix are priced, too."""

FEWEST: Final = 3
"""Pods drawn at least, however old the view is: late loads still even out between a few, as in p2c."""

HERDING: Final = 0.25
"""Unseen dispatches (`LoadSnapshot.unseen`) at which the choice is half as wide; lower narrows it sooner.

With 16 pods and 160 requests/s from 8 replicas the mean time to first token is flat between 0.03 and 1. Without any
narrowing it is 9 % worse when the view is 50 ms old."""

_STRIDES: Final = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093, 1097)
"""Primes: steps of such a length around a ring of pods meet each pod once before any pod twice."""

_DRAW: Final = 24
"""Salt, apart from those of `entropy.tied`: the pods drawn must not determine the pod taken among equals."""


class Soonest(NamedTuple):
    """The pod taken, and its cost."""

    pod: PodId
    cost: float
    """In seconds."""
    reason: str


def soonest(request: RequestInfo, left: LoadSnapshot) -> Soonest:
    """The pod of least cost; among equal ones, by entropy."""
    at = _priced(request, left)
    costs = _costs(request, left, at)
    best = min(costs)
    drawn = entropy.tied(costs, best, request.entropy)
    pod, load = left.candidates[drawn if at is None else at[drawn]]
    if load.kv_capacity_tokens and _room_s(request, pod.id, load):
        positions = range(len(costs)) if at is None else at
        for number, (each, its_load) in enumerate([left.candidates[position] for position in positions]):
            costs[number] += _room_s(request, each.id, its_load)
        best = min(costs)
        pod, _ = left.candidates[positions[entropy.tied(costs, best, request.entropy)]]
        return Soonest(pod.id, best, "soonest_to_have_room")
    return Soonest(pod.id, best, "soonest_by_prefix" if pod.id in request.prefix_hits else "soonest")


def _costs(request: RequestInfo, snapshot: LoadSnapshot, at: list[int] | None) -> list[float]:
    """The request's cost at each of these pods, or at all, in seconds, without the wait for KV blocks."""
    now = request.arrived_at if request.arrived_at > snapshot.taken_at else snapshot.taken_at
    columns = snapshot.columns
    until, wait, pace = columns.until, columns.wait, columns.pace
    others = (OTHERS_WEIGHT + QUEUE_WEIGHT * snapshot.pending_s) * snapshot.pace_s
    if request.prefix_hits:
        held, candidates, tokens = request.prefix_hits.get, snapshot.candidates, request.prompt_tokens
        costs: list[float] = []
        blocks, work = 0, prefill_work(tokens, 0)
        for position in range(len(until)) if at is None else at:
            if (its := held(candidates[position][0][0], 0)) != blocks:  # many hold the same number
                blocks, work = its, _own_work(tokens, PREFIX_BLOCK_TOKENS * its)
            ahead, least = until[position] - now, wait[position]
            costs.append((ahead if ahead > least else least) + work * (pace[position] + others))
        return costs
    if at is not None:
        cut = itemgetter(*at)
        until, wait, pace = cut(until), cut(wait), cut(pace)
    work = prefill_work(request.prompt_tokens, 0)
    return [
        (ahead if (ahead := due - now) > least else least) + work * (each + others)
        for due, least, each in zip(until, wait, pace, strict=True)
    ]


def _own_work(prompt_tokens: int, cached: int) -> int:
    uncached = prompt_tokens - cached
    return prefill_work(uncached, cached if uncached > 0 else prompt_tokens)


def _priced(request: RequestInfo, snapshot: LoadSnapshot) -> list[int] | None:
    """Positions of the pods to price; None for all, in a small pool without unseen dispatches.

    Replicas that see the same loads would all take the same best pod. Among a few drawn pods each takes another.
    """
    pods = len(snapshot.candidates)
    if pods <= WHOLE and (not snapshot.unseen or pods <= FEWEST):
        return None
    share = HERDING / (HERDING + snapshot.unseen)
    bits = entropy.mix(request.entropy, _DRAW)
    luck = (bits >> 32 & 0xFFFF) / 0x10000
    count = int(FEWEST + (pods - FEWEST) * share + luck)
    if pods > WHOLE:
        count = min(count, DRAWN)
    elif count >= pods:
        return None
    start, stride = bits % pods, _STRIDES[bits >> 60]
    drawn = [at % pods for at in range(start, start + stride * count, stride)]
    if pods > WHOLE and luck < share:
        drawn.append(_least(snapshot.columns.until, start))
    if request.prefix_hits:
        drawn += holders(request.prefix_hits, snapshot.position_of(), max(1, int(HOLDERS * share + luck)), bits)
    return drawn


def _least(column: Sequence[float], start: int) -> int:
    """The position of the least number; among equal ones, the first from `start` on."""
    least = min(column)
    try:
        return column.index(least, start)
    except ValueError:
        return column.index(least)


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


def _room_s(request: RequestInfo, pod: PodId, load: PodLoad) -> float:
    """Seconds until the pod has KV blocks for the part of the request that it does not hold."""
    if not load.kv_capacity_tokens:
        return 0.0
    cached = min(request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS, request.prompt_tokens)
    size = request.prompt_tokens - cached + (request.max_tokens or ANSWER_TOKENS)
    return admission_s(load.inflight_tokens, load.kv_capacity_tokens, size, load.e2e_ewma_s)
