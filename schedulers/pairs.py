"""Two pods for one request: one computes its prompt, the other generates its answer. Whether that pays, and which pod
generates. Pure: snapshots in, a decision out. Which pod computes the prompt is for the pool's policy to say.

Knows no connector: how blocks get from one pod to the other is the engines' matter.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from schedulers import entropy
from schedulers.policies.prefix_aware import own_work, room_s
from schedulers.ttft import ANSWER_TOKENS, start_in
from schedulers.types import (
    PREFIX_BLOCK_TOKENS,
    LoadSnapshot,
    Pod,
    PodId,
    PodLoad,
    RequestInfo,
    expected_outlook,
)

ROLE: Final = "role"
"""The label that stands for `Pod.role`."""

FAR_TOKEN_S: Final = 4e-5
"""Seconds by which a prompt token's blocks arrive later from another zone: 128 KB (an 8B model) over 25 Gbit/s."""


class Side(NamedTuple):
    """The pods that do one half of the work: those whose `label` is `value`."""

    label: str
    value: str

    def has(self, pod: Pod) -> bool:
        """Whether the pod may do it. A pod of role `both` does both."""
        if self.label == ROLE:
            return pod.role in (self.value, "both")
        return pod.labels.get(self.label) == self.value


def side_of(snapshot: LoadSnapshot, side: Side) -> LoadSnapshot | None:
    """The snapshot with that side's pods alone; None if there is none."""
    at = [position for position, (pod, _) in enumerate(snapshot.candidates) if side.has(pod)]
    if len(at) == len(snapshot.candidates):
        return snapshot
    return snapshot.only(at) if at else None


def is_short(request: RequestInfo, decode: LoadSnapshot, short_tokens: int) -> bool:
    """Whether a decode pod that may be picked has all but `short_tokens` of the prompt."""
    if request.prompt_tokens <= short_tokens:
        return True
    held, tried = request.prefix_hits, request.tried
    known = max([held.get(pod.id, 0) for pod, _ in decode.candidates if pod.id not in tried], default=0)
    return request.prompt_tokens - known * PREFIX_BLOCK_TOKENS <= short_tokens


def alone_is_sooner(request: RequestInfo, prefill: LoadSnapshot, decode: LoadSnapshot) -> bool:
    """Whether a decode pod that computes the prompt itself costs less time than a prefill pod: that of the request's
    own first token, and that by which its prompt holds up the answers that the decode pod generates meanwhile."""
    now = max(request.arrived_at, prefill.taken_at, decode.taken_at)
    tried = request.tried
    alone = min([_alone_s(request, pod, load, now) for pod, load in decode.candidates if pod.id not in tried])
    soonest = min(
        [_first_token_s(request, pod, load, now) for pod, load in prefill.candidates if pod.id not in tried],
        default=math.inf,
    )
    return alone < soonest


def decode_pod(request: RequestInfo, decode: LoadSnapshot, prefill: Pod) -> PodId | None:
    """The pod that generates the answer of a prompt which `prefill` computes: the one with the least time of its steps
    for an answer of that length, its own prompts and the wait for KV blocks included. None if all of them failed."""
    tokens = request.max_tokens or ANSWER_TOKENS
    pods = [each for each in decode.candidates if each.pod.id not in request.tried and each.pod.id != prefill.id]
    if not pods:
        return None
    far_s = request.prompt_tokens * FAR_TOKEN_S
    zone = prefill.labels.get("zone")
    costs = [
        tokens * load.step_s
        + load.prefill_work * load.pace_s
        + room_s(request, load)
        + (far_s if pod.labels.get("zone") != zone else 0.0)
        for pod, load in pods
    ]
    return pods[entropy.least(costs, request.entropy)].pod.id


def _own_s(request: RequestInfo, pod: Pod, load: PodLoad) -> float:
    """Seconds that the prompt takes on the pod."""
    return own_work(request.prompt_tokens, PREFIX_BLOCK_TOKENS * request.prefix_hits.get(pod.id, 0)) * load.pace_s


def _first_token_s(request: RequestInfo, pod: Pod, load: PodLoad, now: float) -> float:
    """Seconds until the pod would have the first token."""
    due, least = expected_outlook(load)
    return start_in(due, least, now) + _own_s(request, pod, load) + room_s(request, load)


def _alone_s(request: RequestInfo, pod: Pod, load: PodLoad, now: float) -> float:
    """The same on a decode pod, and what the answers that it generates lose meanwhile, all together."""
    return _first_token_s(request, pod, load, now) + _own_s(request, pod, load) * max(
        0, load.inflight - load.prefilling
    )
