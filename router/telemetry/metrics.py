"""The gateway's counters and histograms. The data plane changes plain ints only; `collector.py` gives them names.

Counters only grow. Keys are tuples of label values, in the order of the metric's labels. A histogram costs one
bisection: lists of ints, turned into Prometheus' form at scrape time. No locks: one thread observes; another may read
at any time and sees correct counts, at worst one observation apart from the sum.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from router.telemetry.tenants import TenantCounts

TTFT_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""vLLM's bounds, so that panels of gateway and engine can be compared."""

ITL_BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""vLLM's bounds."""

E2E_BOUNDS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
"""vLLM's bounds."""

DECISION_BOUNDS_S = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
"""A pick takes microseconds; one above a millisecond is a defect."""

OVERHEAD_BOUNDS_S = (
    *(2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    *(1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0),
)
"""Time in the gateway that is not the pod's: tens of microseconds, seconds when requests queue for a pod."""

RATIO_BOUNDS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""A time over the predicted one: right is 1."""

SLO_RESULTS = KEPT, LATE, SLOW, UNSERVED = "kept", "late", "slow", "unserved"
"""Of a request that was promised times: both were kept, the first token came late, only the later ones came slowly, or
there was no whole answer."""


class Exemplar(NamedTuple):
    """A request by which a bucket of a histogram can be looked into."""

    trace_id: str
    value: float
    at: float
    """Unix time."""


class Histogram:
    """Counts of observations by bucket. `bounds` are inclusive upper bounds, ascending."""

    __slots__ = ("_at", "_bounds", "_counts", "_high", "_low", "_sum", "exemplars")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Raises ValueError if the bounds do not ascend."""
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("bounds must ascend and not be empty")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        # The last value's bucket: the next value is mostly in it too, and a bisection costs 0.2 us.
        self._at = 0
        self._low = -math.inf
        self._high = self._bounds[0]
        self.exemplars: dict[int, Exemplar] = {}
        """By bucket: the last traced request that was counted in it."""

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        if not self._low < value <= self._high:
            self._turn_to(value)
        counts, at = self._counts, self._at
        counts[at] = counts[at] + 1
        self._sum += value

    def mark(self, value: float, trace_id: str, at: float) -> None:
        """Name the trace of a value that was observed, at this Unix time."""
        self.exemplars[bisect_left(self._bounds, value)] = Exemplar(trace_id, value, at)

    def _turn_to(self, value: float) -> None:
        bounds = self._bounds
        at = self._at = bisect_left(bounds, value)
        self._low = bounds[at - 1] if at else -math.inf
        self._high = bounds[at] if at < len(bounds) else math.inf

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds, without the infinite one."""
        return self._bounds

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._sum

    def cumulative(self) -> list[int]:
        """Observations at or below each bound; the last number, over the infinite bucket, is all of them."""
        running = 0
        totals = []
        for count in self._counts.copy():
            running += count
            totals.append(running)
        return totals

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket that holds the q-quantile; 0.0 before any value, inf above the last bound."""
        totals = self.cumulative()
        if totals[-1] == 0:
            return 0.0
        at = bisect_left(totals, q * totals[-1])
        return self._bounds[at] if at < len(self._bounds) else float("inf")


class PoolMetrics:
    """One pool's histograms and sums. Histograms are in seconds, if their name does not say otherwise."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "decision",
        "e2e",
        "itl",
        "overhead",
        "prefix_hits_tokens",
        "prefix_queries_tokens",
        "ttft",
        "ttft_ratio",
    )

    def __init__(self) -> None:
        """All zero."""
        self.ttft = Histogram(TTFT_BOUNDS_S)
        self.ttft_ratio = Histogram(RATIO_BOUNDS)
        self.itl = Histogram(ITL_BOUNDS_S)
        self.e2e = Histogram(E2E_BOUNDS_S)
        self.decision = Histogram(DECISION_BOUNDS_S)
        self.overhead = Histogram(OVERHEAD_BOUNDS_S)
        self.bytes_in = 0
        self.bytes_out = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0


class Metrics:
    """The counters of one replica."""

    __slots__ = (
        "_pools",
        "client_disconnects",
        "ejections",
        "fallbacks",
        "gone",
        "moves",
        "policy_failures",
        "rejections",
        "requests",
        "retries",
        "slo_requests",
        "split_requests",
        "tenants",
    )

    def __init__(self) -> None:
        """All zero."""
        self._pools: dict[str, PoolMetrics] = {}
        self.requests: dict[tuple[str, str, str, int], int] = {}
        """By (pool, policy, pod, status); `-` stands for a part that a request did not reach."""
        self.retries: dict[tuple[str, str], int] = {}
        """By (pool, reason)."""
        self.ejections: dict[tuple[str, str], int] = {}
        """By (pod, reason)."""
        self.rejections: dict[tuple[str, str], int] = {}
        """By (pool, reason); pool is empty before one was chosen."""
        self.fallbacks: dict[tuple[str, str, str], int] = {}
        """By (from, to, reason): requests that fell back to another pool."""
        self.moves: dict[tuple[str, str], int] = {}
        """By (pool, result): streams whose pod died, `moved` or why they could not be."""
        self.split_requests: dict[tuple[str, str], int] = {}
        """By (pool, served_by): requests of pools with `disaggregation`, by `pair` or a decode pod `alone`."""
        self.policy_failures: dict[tuple[str, str, str], int] = {}
        """By (pool, policy, reason): requests at which a policy failed."""
        self.gone: dict[tuple[str, int], int] = {}
        """By (pool, status): requests of pods that were forgotten, for sums that must never shrink."""
        self.slo_requests: dict[tuple[str, str], int] = {}
        """By (pool, result): requests that were promised times, and which of them were kept."""
        self.tenants = TenantCounts()
        self.client_disconnects = 0
        """Clients that left before their answer was complete."""

    def pool(self, name: str) -> PoolMetrics:
        """The pool's counters, made at first use. The name must come from the settings, never from a client."""
        found = self._pools.get(name)
        if found is None:
            found = self._pools[name] = PoolMetrics()
        return found

    @property
    def pools(self) -> list[tuple[str, PoolMetrics]]:
        """Every pool that has counters, with them."""
        return list(self._pools.items())

    def count_request(self, pool: str, policy: str, pod: str, status: int) -> None:
        """A request ended with `status`; 499 where the client left first."""
        key = (pool, policy, pod, status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def count_retry(self, pool: str, reason: str) -> None:
        """A request goes to another pod because of `reason`."""
        self.retries[pool, reason] = self.retries.get((pool, reason), 0) + 1

    def count_move(self, pool: str, result: str) -> None:
        """The pod of a stream died: the stream was `moved`, or ended because of `result`."""
        self.moves[pool, result] = self.moves.get((pool, result), 0) + 1

    def count_split(self, pool: str, served_by: str) -> None:
        """The first attempt at a request of a pool with `disaggregation` goes to a `pair`, or a decode pod `alone`."""
        self.split_requests[pool, served_by] = self.split_requests.get((pool, served_by), 0) + 1

    def count_fallback(self, home: str, pool: str, reason: str) -> None:
        """A request of the pool `home` went to `pool` because of `reason`."""
        self.fallbacks[home, pool, reason] = self.fallbacks.get((home, pool, reason), 0) + 1

    def count_ejection(self, pod: str, reason: str) -> None:
        """A pod was taken out because of `reason`."""
        self.ejections[pod, reason] = self.ejections.get((pod, reason), 0) + 1

    def count_policy_failure(self, pool: str, policy: str, reason: str) -> None:
        """A policy failed at a request because of `reason`."""
        self.policy_failures[pool, policy, reason] = self.policy_failures.get((pool, policy, reason), 0) + 1

    def count_slo(self, pool: str, result: str) -> None:
        """A request that was promised times ended; `result` is one of `SLO_RESULTS`."""
        self.slo_requests[pool, result] = self.slo_requests.get((pool, result), 0) + 1

    def count_rejection(self, pool: str, reason: str) -> None:
        """The gateway itself refused a request because of `reason`."""
        self.rejections[pool, reason] = self.rejections.get((pool, reason), 0) + 1

    def forget_pods(self, pods: Collection[str]) -> None:
        """Drop the series of pods that are gone for good: in Kubernetes every restart is a new label value.

        One pass for all pods: 0.1 ms for a thousand, where one pass each took 0.1 s.
        """
        for request in [key for key in self.requests if key[2] in pods]:
            pool, _, _, status = request
            self.gone[pool, status] = self.gone.get((pool, status), 0) + self.requests.pop(request)
        for ejection in [key for key in self.ejections if key[0] in pods]:
            del self.ejections[ejection]
