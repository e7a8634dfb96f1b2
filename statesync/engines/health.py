"""Decides from probes and answers whether a pod may get requests. A pure state machine: no clock, no network.

Two reasons block a pod. `probe`: it failed its active probes. `ejected`: requests to it failed; it is tried again after
a time that doubles with each failure.

**Never more than a share of a pool is blocked at once** (`max_ejected_ratio`, and never a pool's last pod), for both
reasons together. If all probes fail at the same moment, the prober or its network is more likely broken than every pod.
And if all pods are down, blocking the rest would only turn a failed attempt into a certain error. So pods beyond the
cap stay routable, and the data plane retries a dead pod's requests on another. A pod spared by the cap is `kept`: it
gets requests, and people and alerts see that it fails. It keeps its count of failures: the next one blocks it if there
is room then.

A pool that falls back to another pool with free pods needs no such protection from failed requests: all of its pods may
be ejected, so that the next request goes to the other pool at once. Of two pools that fall back to each other one keeps
its share. Failed probes alone never block more than the cap: a broken prober would find every pool dead.

A pod that has never answered a probe or a request is blocked by its first failed probe: it is more likely starting than
unreliable, and otherwise real requests would have to find out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from schedulers.types import PodId
from statesync.settings import Health

Reason = Literal["probe", "ejected"]

OnChange = Callable[[PodId, Reason, bool], None]
"""Called with (pod, reason, blocked) on each change; not for pods that have left."""

OnKept = Callable[[PodId, frozenset[Reason]], None]
"""Called with (pod, reasons) when the reasons change for which only the cap keeps it in the rotation."""

_NOTHING_KEPT: frozenset[Reason] = frozenset()

_NO_FALLBACKS: Mapping[str, Sequence[str]] = {}

_JITTER = 0.2
"""Fraction by which an ejection is shortened at most, at random."""


class Outcome(Enum):
    """How a request to a pod ended, as evidence of the pod's health."""

    OK = 1
    FAILURE = 2
    """Connect failure, reset, timeout, 500, 502, 504, garbage."""
    BUSY = 3
    """429, or 503 of a busy pod: load, no failure. It is no evidence for or against the pod."""


_OK = Outcome.OK  # a look-up in the enum doubles the cost of the usual `outcome` (3.11)


@dataclass(slots=True)
class _Record:
    """The state of one pod."""

    pools: set[str] = field(default_factory=set)
    blockers: set[Reason] = field(default_factory=set)
    kept: frozenset[Reason] = _NOTHING_KEPT
    failed_at: float = 0.0
    """When a request to it failed last."""
    proven: bool = False
    failed_probes: int = 0
    good_probes: int = 0
    failed_requests: int = 0
    good_requests: int = 0
    ejections: int = 0
    """Ejections in a row; more than 0 outside an ejection means that the pod is on trial."""


class HealthTracker:
    """Blocks and unblocks pods, by calls of `on_change`. All `now` are seconds on one monotonic clock."""

    def __init__(
        self,
        config: Health,
        on_change: OnChange,
        *,
        rng: Callable[[], float] = random.random,
        fallbacks: Mapping[str, Sequence[str]] = _NO_FALLBACKS,
        on_kept: OnKept = lambda pod, reasons: None,
    ) -> None:
        """`fallbacks`: by pool, the pools that take its requests when it has no pod."""
        self._config = config
        self._fallbacks = fallbacks
        self._on_change = on_change
        self._on_kept = on_kept
        self._rng = rng
        self._records: dict[PodId, _Record] = {}
        self._pools: dict[str, set[PodId]] = {}
        self._blocked: set[PodId] = set()
        self._until: dict[PodId, float] = {}
        self.unsettled: set[PodId] = set()
        """Pods whose next success changes something: they failed lately, or have not answered yet. Never replaced."""
        self.blocked_total: dict[Reason, int] = {"probe": 0, "ejected": 0}
        """Counter: times a pod was blocked, by reason."""
        self.spared_total = 0
        """Counter: times the cap kept a pod from being blocked."""

    def change_pods(self, pool: str, come: Iterable[PodId], gone: Iterable[PodId]) -> None:
        """Pods came to a pool or left it; those that did before are ignored. The state of a pod that is in no pool any
        more is dropped."""
        members = self._pools.setdefault(pool, set())
        for pod in come:
            if pod not in self._records:
                self._records[pod] = _Record()
                self.unsettled.add(pod)
            self._records[pod].pools.add(pool)
            members.add(pod)
        for pod in members.intersection(gone):
            members.discard(pod)
            self._records[pod].pools.discard(pool)
            if not self._records[pod].pools:
                self._forget(pod)
        self._fit(pool)

    def probe(self, pod: PodId, ok: bool, now: float) -> None:
        """Take the result of a probe. Ignored if the pod has left since."""
        self.due(now)
        record = self._records.get(pod)
        if record is None:
            return
        if not ok:
            record.good_probes = 0
            record.failed_probes += 1
            if record.failed_probes >= (self._config.failures if record.proven else 1):
                self._block(pod, record, "probe")
            return
        record.proven = True
        record.failed_probes = 0
        record.good_probes += 1
        if record.kept:
            self._answered(pod, record, now)
        if "probe" in record.blockers and record.good_probes >= self._config.successes:
            self._unblock(pod, record, "probe")

    def outcome(self, pod: PodId, outcome: Outcome, now: float) -> None:
        """Take the result of a request. The usual one, a success of a settled pod, takes 0.15 us."""
        if outcome is _OK and pod not in self.unsettled:
            return
        record = self._records.get(pod)
        # While a pod is ejected only requests sent before that can end: they are no new evidence.
        if record is None or outcome is Outcome.BUSY or "ejected" in record.blockers:
            return
        if outcome is _OK:
            self._succeeded(pod, record)
        else:
            self._failed(pod, record, now)

    def due(self, now: float) -> None:
        """End ejections whose time is over; those pods are on trial: the first failure ejects for twice the time."""
        if not self._until:
            return
        for pod in [pod for pod, until in self._until.items() if until <= now]:
            self._unblock(pod, self._records[pod], "ejected")

    def next_due(self) -> float | None:
        """When the next ejection is over; None while no pod is ejected."""
        return min(self._until.values(), default=None)

    def blockers(self, pod: PodId) -> frozenset[Reason]:
        """Why the pod is blocked; empty if it is not, or is unknown."""
        record = self._records.get(pod)
        return frozenset(record.blockers) if record else frozenset()

    def kept(self, pod: PodId) -> frozenset[Reason]:
        """Why it would be blocked if its pool had pods to spare; empty if it is blocked, well or unknown."""
        record = self._records.get(pod)
        return record.kept if record else _NOTHING_KEPT

    def probed_well(self, pod: PodId) -> bool:
        """Whether nothing that its probes showed speaks against the pod."""
        record = self._records.get(pod)
        return record is not None and "probe" not in record.blockers and "probe" not in record.kept

    def cap(self, pool: str) -> int:
        """How many of the pool's pods may be blocked at once."""
        count = len(self._pools.get(pool, ()))
        # The small term corrects binary fractions: 0.29 of 100 pods are 29, not 28.
        return max(0, min(int(count * self._config.max_ejected_ratio + 1e-9), count - 1))

    def _succeeded(self, pod: PodId, record: _Record) -> None:
        record.proven = True
        if "ejected" in record.kept:
            self._keep(pod, record, record.kept - {"ejected"})
        record.failed_requests = 0
        record.good_requests += 1
        if record.ejections and record.good_requests < self._config.eject_failures:
            return
        record.ejections = 0
        self.unsettled.discard(pod)

    def _failed(self, pod: PodId, record: _Record, now: float) -> None:
        self.unsettled.add(pod)
        record.good_requests = 0
        record.failed_requests += 1
        record.failed_at = now
        on_trial = record.ejections > 0
        if (on_trial or record.failed_requests >= self._config.eject_failures) and self._block(pod, record, "ejected"):
            nominal_s = min(self._config.eject_s * 2.0 ** min(record.ejections, 60), self._config.eject_max_s)
            # Shorter by up to a fifth, so that replicas do not all try the pod again at once.
            self._until[pod] = now + nominal_s * (1 - _JITTER * self._rng())
            record.ejections += 1
            record.failed_requests = 0

    def _block(self, pod: PodId, record: _Record, reason: Reason) -> bool:
        """Block the pod if each of its pools has room; returns whether it is now blocked for this reason."""
        if reason in record.blockers:
            return True
        if not record.blockers and not all(self._has_room(pool, reason) for pool in record.pools):
            self.spared_total += 1
            self._keep(pod, record, record.kept | {reason})
            return False
        record.blockers.add(reason)
        self._blocked.add(pod)
        self.blocked_total[reason] += 1
        self._on_change(pod, reason, True)
        self._keep(pod, record, _NOTHING_KEPT)
        return True

    def _answered(self, pod: PodId, record: _Record, now: float) -> None:
        """A kept pod answered a probe. Without requests nothing else shows that those would succeed again."""
        kept = record.kept
        if record.good_probes >= self._config.successes:
            kept -= {"probe"}
        if now - record.failed_at >= self._config.eject_max_s:
            kept -= {"ejected"}
        self._keep(pod, record, kept)

    def _keep(self, pod: PodId, record: _Record, reasons: frozenset[Reason]) -> None:
        if reasons != record.kept:
            record.kept = reasons
            self._on_kept(pod, reasons)

    def _unblock(self, pod: PodId, record: _Record, reason: Reason) -> None:
        record.blockers.discard(reason)
        record.good_probes = record.good_requests = 0
        if reason == "ejected":
            self._until.pop(pod, None)
        if not record.blockers:
            self._blocked.discard(pod)
        self._on_change(pod, reason, False)

    def _has_room(self, pool: str, reason: Reason) -> bool:
        return self._count(pool) < self.cap(pool) or (reason == "ejected" and self._has_refuge(pool))

    def _has_refuge(self, pool: str) -> bool:
        """Whether a fallback pool can take its requests now."""
        return any(
            self._count(other) < len(self._pools[other])
            for other in self._fallbacks.get(pool, ())
            if other in self._pools
        )

    def _count(self, pool: str) -> int:
        return len(self._pools[pool] & self._blocked)

    def _fit(self, pool: str) -> None:
        """Unblock pods of a pool that has shrunk below its cap, those ejected the longest first.

        Failed probes are the better evidence. A spared pod that fails again is blocked again when there is room.
        """
        excess = self._count(pool) - self.cap(pool)
        if excess <= 0 or self._has_refuge(pool):
            return
        blocked = self._pools[pool] & self._blocked
        ranked = sorted(("probe" in self._records[pod].blockers, self._until.get(pod, 0.0), pod) for pod in blocked)
        for _, _, pod in ranked[:excess]:
            self.spared_total += 1
            record = self._records[pod]
            reasons = frozenset(record.blockers)
            for reason in sorted(reasons):
                self._unblock(pod, record, reason)
            self._keep(pod, record, reasons)

    def _forget(self, pod: PodId) -> None:
        del self._records[pod]
        self._blocked.discard(pod)
        self.unsettled.discard(pod)
        self._until.pop(pod, None)
