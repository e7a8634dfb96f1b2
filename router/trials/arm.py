"""One arm of a canary while requests pass: which policy decides its requests, and plain counts of how they ended.

Called by the data plane at most four times a request, and only while a canary runs. Nothing is judged here; of a
request an arm knows what `ArmRequest` says.
"""

from __future__ import annotations

from typing import Protocol

from router.trials.clusters import cell
from router.trials.durations import Durations, bucket_of
from router.trials.figures import ArmFigures
from schedulers.protocols import Scheduler
from schedulers.types import PREFIX_BLOCK_TOKENS, PodId, RequestInfo

CLIENT_LEFT = 499
FAILED = 500
"""From this status on the client counts an answer as failed."""

PACED = 8
"""Tokens of a stream from which on its time per token is counted: that of a shorter one says more of buffers."""

PODS_SHARED = 256
"""Number of pods, the busiest, whose requests are part of the shared figures."""


_BY = ("placed", "judged", "failures", "fuller", "queries", "hits")
"""Counted by cluster."""


class ArmRequest(Protocol):
    """A request as a trial knows it; the same object from its first dispatch in a pool to its end there."""

    arm: Arm | None
    """The arm it was given to; None before, and without a canary."""

    @property
    def stream(self) -> bool:
        """Whether its answer is a stream."""


class RequestOnArm:
    """A request that was given to an arm and is not over."""

    __slots__ = ("arrived", "cluster", "first_at", "stream", "tokens_at")

    def __init__(self, arrived: float, cluster: int, stream: bool) -> None:
        self.arrived = arrived
        self.cluster = cluster
        self.stream = stream
        self.first_at = 0.0
        """When its stream began; 0.0 before."""
        self.tokens_at = 0.0
        """The same, if it began with a token and not with an error; 0.0 otherwise."""


class DurationsByCluster(Durations):
    """Durations of one kind of request, also by cluster, with lower bounds for those that never came."""

    __slots__ = ("by", "unserved")

    def __init__(self) -> None:
        super().__init__()
        self.by: dict[int, int] = {}
        self.unserved = Durations()

    def observe_in(self, cluster: int, seconds: float) -> None:
        """Count one of this cluster."""
        self.observe(seconds)
        _count(self.by, cell(cluster, bucket_of(seconds)))


class Arm:
    """Counts of one arm on this replica."""

    __slots__ = (
        "_by",
        "_hits",
        "_open",
        "_pods",
        "_queries",
        "_streamed",
        "_tpot",
        "_ttft",
        "_whole",
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
        self._ttft = DurationsByCluster()
        self._whole = DurationsByCluster()
        self._streamed = Durations()
        self._tpot = DurationsByCluster()
        self._open: dict[ArmRequest, RequestOnArm] = {}
        self._pods: dict[str, int] = {}
        self._queries = self._hits = 0.0
        self._by: dict[str, dict[int, int]] = {name: {} for name in _BY}

    def begins(self, request: ArmRequest, arrived: float, cluster: int = 0) -> None:
        """A request that arrived then was given to this arm."""
        self.placed += 1
        _count(self._by["placed"], cluster)
        self._open[request] = RequestOnArm(arrived, cluster, request.stream)

    def decided(self, request: ArmRequest, pod: PodId, info: RequestInfo, *, fuller: bool = False) -> None:
        """A pod was picked for a first attempt: what the index predicts that it holds of the prompt, and whether it is
        fuller than the average."""
        self._pods[pod] = self._pods.get(pod, 0) + 1
        tokens = info.prompt_tokens
        hits = min(tokens, info.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS)
        self._queries += tokens
        self._hits += hits
        found = self._open.get(request)
        if found is not None:
            _count(self._by["queries"], found.cluster, tokens)
            if fuller:
                _count(self._by["fuller"], found.cluster)
            if hits:
                _count(self._by["hits"], found.cluster, hits)

    def first_byte(self, request: ArmRequest, seconds: float, *, token: bool) -> None:
        """The answer began `seconds` after the request arrived; `token`: it is a stream that went well."""
        found = self._open.get(request)
        if found is None or not found.stream or found.first_at:
            return
        found.first_at = found.arrived + seconds
        if token:
            found.tokens_at = found.first_at
            self._ttft.observe_in(found.cluster, seconds)

    def ends(self, request: ArmRequest, status: int, now: float, tokens: int = 0) -> None:
        """The request is over; its answer had this many tokens, however it ended."""
        self.ended += 1
        found = self._open.pop(request, None)
        cluster = found.cluster if found is not None else 0
        if status == CLIENT_LEFT:
            self.left += 1
        else:
            _count(self._by["judged"], cluster)
            if status >= FAILED:
                self.failures += 1
                _count(self._by["failures"], cluster)
        if found is not None:
            self._ended(found, status, now - found.arrived)
            if found.tokens_at and tokens >= PACED:
                self._tpot.observe_in(found.cluster, (now - found.tokens_at) / (tokens - 1))

    def _ended(self, found: RequestOnArm, status: int, seconds: float) -> None:
        went_well = status < 400
        if found.first_at:
            if went_well:
                self._streamed.observe(seconds)
        elif status == CLIENT_LEFT or status >= FAILED:
            (self._ttft if found.stream else self._whole).unserved.observe(seconds)
        elif went_well and not found.stream:
            self._whole.observe_in(found.cluster, seconds)

    def promised(self, *, kept: bool) -> None:
        """A request that was promised times is over; whether all were kept."""
        self.slo_requests += 1
        self.slo_kept += kept

    def figures(self, now: float) -> ArmFigures:
        """The counts as they are now."""
        waiting: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for each in self._open.values():
            if not each.first_at:
                _count(waiting[each.stream], bucket_of(now - each.arrived))
        busiest = sorted(self._pods.items(), key=lambda each: each[1], reverse=True)[:PODS_SHARED]
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
            unserved=dict(self._ttft.unserved.counts),
            waiting=waiting[True],
            queries=self._queries,
            hits=self._hits,
            slo_requests=self.slo_requests,
            slo_kept=self.slo_kept,
            whole=dict(self._whole.counts),
            whole_unserved=dict(self._whole.unserved.counts),
            whole_waiting=waiting[False],
            streamed=dict(self._streamed.counts),
            pods=dict(busiest),
            ttft_by=dict(self._ttft.by),
            whole_by=dict(self._whole.by),
            tpot=dict(self._tpot.counts),
            tpot_sum_s=self._tpot.sum_s,
            tpot_by=dict(self._tpot.by),
            **{f"{name}_by": dict(counts) for name, counts in self._by.items()},
        )

    def __repr__(self) -> str:
        return f"<Arm {self.name}: {self.scheduler.name}, {self.placed} requests, {self.failures} failed>"


def _count(counts: dict[int, int], at: int, number: int = 1) -> None:
    counts[at] = counts.get(at, 0) + number
