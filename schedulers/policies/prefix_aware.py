"""`prefix_aware`: the pod where this request's first token is expected soonest, by its cache, queue and batch.

Here are which pods are priced, at what cost, and which of them is taken. The cost model is `ttft.py`.
mypyc compiles this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import ClassVar, Final

from schedulers import entropy
from schedulers.hits import levels_of
from schedulers.params import policy_class
from schedulers.sampling import HOLDERS, holders
from schedulers.ttft import (
    ANSWER_TOKENS,
    KV_FULL,
    OVERDUE,
    admission_s,
    likely_cached,
    others_weight,
    prefill_work,
    start_in,
)
from schedulers.types import (
    NO_UNTRIED_POD,
    PREFIX_BLOCK_TOKENS,
    Decision,
    LoadSnapshot,
    PodLoad,
    Rejection,
    RequestInfo,
)

# A named tuple's own constructor costs 0.35 us, this 0.15 us.
_new: Final = tuple.__new__

WHOLE: Final = 64
"""Pods: in a pool of up to this size every pod is priced, at 0.1 us each."""

DRAWN: Final = 16
"""Pods: in a larger pool this many are drawn at random and priced, beside the least busy and the holders."""

FEW: Final = 4
"""Where less than a pod in this many holds something of a prompt, all are priced in one pass and those apart."""

PATIENCE: Final = 0.999
"""Share of its own wait that a request of a priority below 0 leaves out of account: its batch ends with the last of its
requests, and the pods that it keeps away from answer others at once.

Between idle pods a batch spreads to one more when the wait is a thousand times what computing its prefix anew takes.
With 0.99, and with all of the wait for KV blocks, the chat beside it waits 1.7 to 2.5 times as long at a load of 0.75
and above, and the batch half as long."""

PATIENCE_S: Final = 300.0
"""Seconds of wait up to which it does: a batch that is more than a pod's work spreads in a busy pool, too."""

COPY_S: Final = 0.25
"""Seconds of wait behind other prompts, at most, that count up to twice where several pods hold the longest prefix.

Many requests begin with such a prefix, and its pods are busy: one more copy spares later ones the wait. Without a
bound, copies of long contexts, which few requests share, push each other out of the caches."""

_STRIDES: Final = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093, 1097)
"""Primes: steps of such a length around a ring of pods meet each pod once before any pod twice."""

_DRAW: Final = 24
_LEVEL: Final = 56
"""Salts, apart from those of `entropy.tied`: the pods drawn must not determine the pod taken."""

_RANGE: Final = 2.0**64
"""Of random bits."""


@policy_class
class PrefixAware:
    """The pod where this request's first token is expected soonest.

    Formula: `argmin(wait + own * pace + own * others + room)`, in seconds, equal pods by entropy. `wait` is until the
    prompts before it are computed, plus two decode steps of the batch; where a first token is overdue, half as long
    again as it is late. `own` is this request's uncached prompt in token equivalents (`ttft.prefill_work`: attention
    over a long context costs more). `pace` is the time of one on that pod, which a large batch makes longer; `others`
    is that of an idle average pod, times `ttft.others_weight`: in a pool without idle pods, work that misses the cache
    also delays later requests. `room` is the wait for KV blocks, if there are too few.
    Of a priority below 0 five minutes of `wait`, and `room`, count a thousandth: batches gather on the pods that hold
    their prefixes, and leave the others to those who wait for an answer.
    Where several pods hold the longest prefix and the cheapest pod computes prompts, up to `COPY_S` of the wait for
    prompts counts up to twice: one more copy spares later requests the wait.
    Inputs: the snapshot's columns `until`, `wait`, `pace`, `queue`, its `unseen`; KV capacity; prompt tokens, prefix
    hits and priority.
    Parameters: none. Cache, queue and batch are in one unit, seconds, so there is no threshold to tune.
    Herding: of the pods that other replicas' `unseen` requests, as large as this one where most of it is cached, would
    fill up to one level of cost, it takes each as often as that takes of them (Dahlin).
    When: nearly always; without shared prefixes it is least expected time to first token.
    Source: own, from simulations on recorded traffic (`ttft.py`); Dynamo's KV router and LMetric count the same tokens,
    without attention, decode steps, progress and the pods' speeds.
    """

    name: ClassVar[str] = "prefix_aware"
    reads_sessions: ClassVar[bool] = False

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The pod of least cost not tried yet; among equal ones, by entropy."""
        left = snapshot.without(request.tried) if request.tried else snapshot
        if left is None:
            return NO_UNTRIED_POD
        at = priced(request, left)
        costs = costs_of(request, left, at)
        if request.priority < 0:
            _be_patient(request, left, at, costs)
        best = min(costs)
        if request.prefix_hits and request.priority >= 0:
            cheapest = costs.index(best)
            if left.columns.queue[cheapest if at is None else at[cheapest]]:
                prefer_a_copy(request, left, at, costs)
                best = min(costs)
        alone = costs.count(best) == 1 and not left.unseen
        taken = costs.index(best) if alone else take(request, left, costs)
        pod, load = left.candidates[taken if at is None else at[taken]]
        reason = "soonest_by_prefix" if pod.id in request.prefix_hits else "soonest"
        if load.kv_capacity_tokens and room_s(request, load):
            weight = 1.0 - PATIENCE if request.priority < 0 else 1.0
            positions = range(len(costs)) if at is None else at
            for number, position in enumerate(positions):
                _, its_load = left.candidates[position]
                costs[number] += weight * room_s(request, its_load)
            taken, reason = take(request, left, costs), "soonest_to_have_room"
            pod, _ = left.candidates[positions[taken]]
        return _new(Decision, (pod.id, self.name, costs[taken], reason))


def costs_of(request: RequestInfo, snapshot: LoadSnapshot, at: list[int] | None) -> list[float]:
    """The request's cost at each of these pods, or at all, in seconds, without the wait for KV blocks."""
    now = request.arrived_at if request.arrived_at > snapshot.taken_at else snapshot.taken_at
    if request.prefix_hits and (at is not None or len(request.prefix_hits) * FEW > len(snapshot.candidates)):
        return _one_by_one(request, snapshot, range(len(snapshot.candidates)) if at is None else at, now)
    columns = snapshot.columns
    until, wait, pace = columns.until, columns.wait, columns.pace
    if at is not None:
        cut = itemgetter(*at)
        until, wait, pace = cut(until), cut(wait), cut(pace)
    others, works = others_pace(snapshot), [prefill_work(request.prompt_tokens, 0)] * len(until)
    if request.prefix_hits:
        where = snapshot.position_of()
        for pod, its in request.prefix_hits.items():
            if pod in where:
                works[where[pod]] = own_work(request.prompt_tokens, PREFIX_BLOCK_TOKENS * its)
    # `ttft.start_in`, without a call for each pod. A test holds them equal.
    return [
        (
            least
            if not due
            else ahead
            if (ahead := due - now) > least
            else late
            if (late := ahead * -OVERDUE) > least
            else least
        )
        + work * (each + others)
        for due, least, each, work in zip(until, wait, pace, works, strict=True)
    ]


def _one_by_one(request: RequestInfo, snapshot: LoadSnapshot, at: Sequence[int], now: float) -> list[float]:
    """The same, for a prompt of which many of these pods hold something."""
    held, candidates, tokens = request.prefix_hits.get, snapshot.candidates, request.prompt_tokens
    until, wait, pace = snapshot.columns.until, snapshot.columns.wait, snapshot.columns.pace
    others = others_pace(snapshot)
    blocks, work = 0, prefill_work(tokens, 0)
    costs: list[float] = []
    for position in at:
        if (its := held(candidates[position][0][0], 0)) != blocks:  # many hold the same number
            blocks, work = its, own_work(tokens, PREFIX_BLOCK_TOKENS * its)
        costs.append(start_in(until[position], wait[position], now) + work * (pace[position] + others))
    return costs


def _be_patient(request: RequestInfo, snapshot: LoadSnapshot, at: list[int] | None, costs: list[float]) -> None:
    """Let the wait of a batch's request count for little."""
    now = request.arrived_at if request.arrived_at > snapshot.taken_at else snapshot.taken_at
    until, wait = snapshot.columns.until, snapshot.columns.wait
    for number, position in enumerate(range(len(costs)) if at is None else at):
        costs[number] -= PATIENCE * min(start_in(until[position], wait[position], now), PATIENCE_S)


def prefer_a_copy(request: RequestInfo, snapshot: LoadSnapshot, at: list[int] | None, costs: list[float]) -> None:
    """Let the wait for prompts count for more where several pods hold the longest prefix. `costs` are those of
    `costs_of`, of a request with prefix hits whose cheapest pod computes prompts."""
    holders = len(levels_of(request.prefix_hits)[0].pods)
    if holders == 1:
        return
    until, wait, queue = snapshot.columns.until, snapshot.columns.wait, snapshot.columns.queue
    now = request.arrived_at if request.arrived_at > snapshot.taken_at else snapshot.taken_at
    weight = 1.0 - 1.0 / holders
    for number, position in enumerate(range(len(costs)) if at is None else at):
        if queue[position]:
            costs[number] += weight * min(start_in(until[position], wait[position], now), COPY_S)


def others_pace(snapshot: LoadSnapshot) -> float:
    """Seconds by which each token equivalent of a request delays the requests after it."""
    queue = snapshot.columns.queue
    pods = len(queue)
    return others_weight(1.0 - queue.count(0.0) / pods, sum(queue) / pods, snapshot.pending_s) * snapshot.pace_s


def own_work(prompt_tokens: int, cached: int) -> int:
    """Token equivalents of a prompt of which the index knows `cached` tokens on the pod."""
    cached = likely_cached(cached, prompt_tokens)
    return prefill_work(prompt_tokens - cached, cached)


def take(request: RequestInfo, snapshot: LoadSnapshot, costs: list[float]) -> int:
    """The number of the cost whose pod gets the request: the least, among equal ones by entropy.

    Where other replicas' dispatches are not seen yet, one of the pods that these have probably made as busy as each
    other. A batch is meant to gather, so it takes the cheapest pod all the same.
    """
    best = min(costs)
    if snapshot.unseen and request.priority >= 0:
        held = levels_of(request.prefix_hits)[0].blocks if request.prefix_hits else 0
        each_s = own_work(request.prompt_tokens, PREFIX_BLOCK_TOKENS * held) * snapshot.pace_s
        pods = len(snapshot.candidates)
        unseen = snapshot.unseen if snapshot.unseen < pods else pods
        luck = entropy.mix(request.entropy, _LEVEL) / _RANGE
        taken = _leveled(costs, best, unseen * len(costs) / pods * each_s, luck)
        if taken >= 0:
            return taken
    return entropy.tied(costs, best, request.entropy)


def _leveled(costs: list[float], best: float, unseen_s: float, luck: float) -> int:
    """The number of a cost drawn in proportion to what it lacks of the level to which `unseen_s` fills up the lowest;
    -1 where that is too little to make a difference between any and the least.

    M. Dahlin, "Interpreting Stale Load Information" (ICDCS 1999): the others level the pods, too, so those below the
    level cost the same by now, and each replica takes each of them as often as that takes.
    """
    near = sorted([cost for cost in costs if cost <= best + unseen_s])
    filled, count = 0.0, 0
    for cost in near:
        if count and cost * count - filled >= unseen_s:
            break
        filled += cost
        count += 1
    level, left = (filled + unseen_s) / count, luck * unseen_s
    for number, cost in enumerate(costs):
        if cost < level:
            left -= level - cost
            if left < 0.0:
                return number
    return -1


def priced(request: RequestInfo, snapshot: LoadSnapshot) -> list[int] | None:
    """Positions of the pods to price; None for all, in a small pool."""
    pods = len(snapshot.candidates)
    if pods <= WHOLE:
        return None
    bits = entropy.mix(request.entropy, _DRAW)
    start, stride = bits % pods, _STRIDES[bits >> 60]
    drawn = [at % pods for at in range(start, start + stride * DRAWN, stride)]
    # The others draw their pods, too, but the least busy one is the same for all of them.
    if (bits >> 32 & 0xFFFF) * (1.0 + snapshot.unseen) < 0x10000:
        drawn.append(_least(snapshot.columns.until, start))
    if request.prefix_hits:
        drawn += holders(request.prefix_hits, snapshot.position_of(), HOLDERS, bits)
    return drawn


def _least(column: Sequence[float], start: int) -> int:
    """The position of the least number; among equal ones, the first from `start` on."""
    least = min(column)
    try:
        return column.index(least, start)
    except ValueError:
        return column.index(least)


def room_s(request: RequestInfo, load: PodLoad) -> float:
    """Seconds until the pod has KV blocks for the request. What it has cached counts, too: while no request holds them,
    those blocks are free ones."""
    if not load.kv_capacity_tokens:
        return 0.0
    share = load.kv_share
    size = (request.prompt_tokens + (request.max_tokens or ANSWER_TOKENS)) * share
    return admission_s(load.inflight_tokens * share, load.kv_capacity_tokens * KV_FULL, size, load.e2e_ewma_s)
