"""Requests, snapshots and policies for tests of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo
from statesync.policy_plan import Canary, CanaryGuard, PolicyChoice
from statesync.store import PolicyRecord

A, B = PodId("10.0.0.1:80"), PodId("10.0.0.2:80")
SNAPSHOT = LoadSnapshot(
    "main", 1, 0.0, 0.0, (Candidate(Pod(A, A), PodLoad(inflight_tokens=100)), Candidate(Pod(B, B), PodLoad()))
)


def request(session: str = "", entropy: int = 7, **fields: Any) -> RequestInfo:
    """One of 640 prompt tokens."""
    return RequestInfo("r", "m", 640, 0, 0.0, entropy, 0, session, **fields)


@dataclass
class Fixed:
    """Answers as told, and keeps what it was asked."""

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
    """One with a canary."""
    canary = Canary(PolicyChoice("new"), percent, guard or CanaryGuard())
    return PolicyRecord("old", {}, generation, None, canary)


class Later:
    """A `call_later` that the test runs."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Any]] = []

    def __call__(self, seconds: float, work: Any, /) -> None:
        self.due.append((seconds, work))

    def run(self) -> None:
        """All that is due, and what comes of it."""
        while self.due:
            self.due.pop(0)[1]()

    def run_all_of(self, seconds: float) -> None:
        """What was put off by just so long, and not what comes of it."""
        these = [each for each in self.due if each[0] == seconds]
        self.due = [each for each in self.due if each[0] != seconds]
        for _, work in these:
            work()


class Ticks:
    """A clock that moves when told, and by `each` at every look."""

    def __init__(self, each: float = 0.0) -> None:
        self.now = 100.0
        self.each = each

    def __call__(self) -> float:
        self.now += self.each
        return self.now
