"""Why a request went to its pod: the pods that its policy would have taken, in order, with their costs. Pure.

A policy is a function of request and snapshot. It is asked again without the pods that it has named, as after a retry;
so this works for every policy, and costs a pick for each pod shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from router.plugins.samples import Sample
from schedulers.protocols import Scheduler
from schedulers.types import PREFIX_BLOCK_TOKENS, Decision, LoadSnapshot, RequestInfo, expected_outlook

CANDIDATES: Final = 5
"""Pods shown of a decision."""

SPEND_S: Final = 0.004
"""After this time no further pod is asked for: a plugin may be slow."""

_LONGEST: Final = 120
"""Characters of what clients and plugins name."""


def explain(sample: Sample, scheduler: Scheduler | None, clock: Callable[[], float]) -> dict[str, object]:
    """A decision for the console. `scheduler` is the policy that took it, None if it is gone; `clock` is in seconds.
    No word of a prompt and no session is in it."""
    request, snapshot = sample.example
    answer = sample.answer
    taken = answer if isinstance(answer, Decision) else None
    ranked = list(_ranked(request, snapshot, taken, scheduler, clock)) if taken is not None else []
    return {
        "number": sample.number,
        "at": sample.at,
        "pool": snapshot.pool,
        "model": request.model[:_LONGEST],
        "request_id": request.id[:_LONGEST],
        "prompt_tokens": request.prompt_tokens,
        "max_tokens": request.max_tokens,
        "priority": request.priority,
        "attempt": len(request.tried) + 1,
        "policy": taken.policy if taken is not None else "",
        "rejected": "" if taken is not None else str(answer.reason)[:_LONGEST],
        "routable": len(snapshot.candidates),
        "holders": len(request.prefix_hits),
        "candidates": [_candidate(each, request, snapshot) for each in ranked],
    }


def _ranked(
    request: RequestInfo,
    snapshot: LoadSnapshot,
    taken: Decision,
    scheduler: Scheduler | None,
    clock: Callable[[], float],
) -> Iterator[Decision]:
    """The pod that was taken, then those that would have been without it."""
    yield taken
    if scheduler is None:
        return
    tried, ends = request.tried | {taken.pod}, clock() + SPEND_S
    while len(tried) < len(request.tried) + CANDIDATES and clock() < ends:
        try:
            following = scheduler.pick(request._replace(tried=tried), snapshot)
        except Exception:  # noqa: BLE001  a policy may be a plugin
            return
        if not isinstance(following, Decision) or following.pod in tried:
            return
        yield following
        tried |= {following.pod}


def _candidate(decision: Decision, request: RequestInfo, snapshot: LoadSnapshot) -> dict[str, object]:
    at = snapshot.position_of().get(decision.pod)
    load = snapshot.candidates[at].load if at is not None else None
    hits = request.prefix_hits.get(decision.pod, 0) * PREFIX_BLOCK_TOKENS
    shown: dict[str, object] = {
        "pod": decision.pod,
        "reason": str(decision.reason)[:_LONGEST],
        "score": _number(decision.score),
        "cached_tokens": min(request.prompt_tokens, hits),
    }
    if load is None:
        return shown
    until, least = expected_outlook(load)
    wait_s = max(least, until - max(request.arrived_at, snapshot.taken_at)) if until else least
    numbers = {"inflight": load.inflight, "queued": load.queued, "kv_usage": round(load.kv_usage, 3)}
    return {**shown, **numbers, "wait_s": round(wait_s, 4)}


def _number(score: object) -> float | None:
    """A plugin's score may be anything."""
    return float(f"{score:.6g}") if isinstance(score, float | int) and math.isfinite(score) else None
