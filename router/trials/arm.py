"""One arm of a canary while requests pass: which policy decides its requests, and plain counts of how they ended.

Called by the data plane at most four times a request, and only while a canary runs. Nothing is judged here; of a
request an arm knows what `ArmRequest` says.
"""

from __future__ import annotations

from typing import Protocol

from router.trials.durations import Durations, bucket_of
from router.trials.figures import ArmFigures
from schedulers.protocols import Scheduler
from schedulers.types import PREFIX_BLOCK_TOKENS, PodId, RequestInfo

CLIENT_LEFT = 499
FAILED = 500
"""From this status on the client counts an answer as failed."""


class ArmRequest(Protocol):
    """A request as a trial knows it; the same object from its first dispatch in a pool to its end there."""

    arm: Arm | None
    """The arm it was given to; None before, and without a canary."""

    @property
    def stream(self) -> bool:
        """Whether its answer is a stream."""


class Arm:
    """Counts of one arm on this replica."""

    __slots__ = (
        "_hits",
        "_hits_squared",
        "_queries",
        "_queries_hits",
        "_queries_squared",
        "_ttft",
        "_unserved",
        "_waiting",
        "ended",
        "failures",
        "header",
        "left",
        "name",
        "placed",
        "policy_failures",
        "rejections",
        "scheduler",
        "slo_kept",
        "slo_requests",
    )

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        """All zero; `name` is `baseline` or `canary`."""
        self.name = name
        self.scheduler = scheduler
        self.header = b"x-turnout-arm: %b\r\n" % name.encode()
        """Ready to be joined into an answer's head."""
        self.placed = self.ended = self.failures = self.left = self.rejections = self.policy_failures = 0
        self.slo_requests = self.slo_kept = 0
        self._ttft = Durations()
        self._unserved = Durations()
        self._waiting: dict[ArmRequest, float] = {}
        """Streams without a first token yet, and when they arrived."""
        self._queries = self._hits = self._queries_squared = self._hits_squared = self._queries_hits = 0.0

    def begins(self, request: ArmRequest, arrived: float) -> None:
        """A request that arrived then was given to this arm."""
        self.placed += 1
        if request.stream:
            self._waiting[request] = arrived

    def decided(self, pod: PodId, request: RequestInfo) -> None:
        """A pod was picked for a first attempt: what the index predicts that it holds of the prompt."""
        tokens = request.prompt_tokens
        hits = min(tokens, request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS)
        self._queries += tokens
        self._queries_squared += tokens * tokens
        if hits:
            self._hits += hits
            self._hits_squared += hits * hits
            self._queries_hits += tokens * hits

    def first_byte(self, request: ArmRequest, seconds: float, *, token: bool) -> None:
        """The answer began `seconds` after the request arrived; `token`: it is a stream that went well."""
        if self._waiting.pop(request, None) is not None and token:
            self._ttft.observe(seconds)

    def ends(self, request: ArmRequest, status: int, now: float) -> None:
        """The request is over."""
        self.ended += 1
        if status == CLIENT_LEFT:
            self.left += 1
        elif status >= FAILED:
            self.failures += 1
        since = self._waiting.pop(request, None)
        if since is not None and (status == CLIENT_LEFT or status >= FAILED):
            self._unserved.observe(now - since)

    def promised(self, *, kept: bool) -> None:
        """A request that was promised times is over; whether all were kept."""
        self.slo_requests += 1
        self.slo_kept += kept

    def figures(self, now: float) -> ArmFigures:
        """The counts as they are now."""
        waiting: dict[int, int] = {}
        for since in self._waiting.values():
            at = bucket_of(now - since)
            waiting[at] = waiting.get(at, 0) + 1
        return ArmFigures(
            placed=self.placed,
            ended=self.ended,
            failures=self.failures,
            left=self.left,
            rejections=self.rejections,
            policy_failures=self.policy_failures,
            ttft=dict(self._ttft.counts),
            ttft_sum_s=self._ttft.sum_s,
            ttft_squares=self._ttft.squares,
            unserved=dict(self._unserved.counts),
            waiting=waiting,
            queries=self._queries,
            hits=self._hits,
            queries_squared=self._queries_squared,
            hits_squared=self._hits_squared,
            queries_hits=self._queries_hits,
            slo_requests=self.slo_requests,
            slo_kept=self.slo_kept,
        )

    def __repr__(self) -> str:
        return f"<Arm {self.name}: {self.scheduler.name}, {self.placed} requests, {self.failures} failed>"
