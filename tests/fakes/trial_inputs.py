"""Requests, snapshots and policies for tests of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.trials.arm import Arm
from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

A, B = PodId("10.0.0.1:80"), PodId("10.0.0.2:80")
SNAPSHOT = LoadSnapshot.of(
    [Candidate(Pod(A, A), PodLoad(inflight_tokens=100)), Candidate(Pod(B, B), PodLoad())], pool="main"
)


def request(session: str = "", entropy: int = 7, **fields: Any) -> RequestInfo:
    """A request of 640 prompt tokens."""
    return RequestInfo("r", "m", 640, 0, fields.pop("arrived_at", 0.0), entropy, 0, session, **fields)


class TrialRequest:
    """A request in the form that a trial receives."""

    def __init__(self, stream: bool = True) -> None:
        self.arm: Arm | None = None
        self.stream = stream


@dataclass
class Fixed:
    """A policy that always gives the same decision and keeps the requests it was given."""

    answer: Any = field(default_factory=lambda: Decision(A, "fixed"))
    name: str = "fixed"
    seen: list[RequestInfo] = field(default_factory=list)

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        self.seen.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Decision | Rejection = self.answer
        return answer


def record(generation: int = 3, percent: float = 50.0, guard: CanaryGuard | None = None) -> PolicyRecord:
    """A policy record with a canary."""
    canary = Canary(PolicyChoice("new"), percent, guard or CanaryGuard())
    return PolicyRecord("old", {}, generation, None, canary)
