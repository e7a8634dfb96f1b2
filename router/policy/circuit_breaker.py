"""What happens when a policy fails at a request: the safe policy decides, the failure is counted and reported, and a
policy that fails too often is taken out. Knows no HTTP, and of a policy only its answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from router.policy_settings import PolicyGuard
from router.telemetry.metrics import Metrics
from schedulers.guard import Failure, Strikes, slow
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo

_log = logging.getLogger("turnout.policy")

OnTakenOut = Callable[[str, Scheduler, str], None]
"""(pool, scheduler, reason): this scheduler object must no longer decide in this pool."""

OnFailure = Callable[[str, Scheduler], None]
"""(pool, scheduler): this scheduler object failed at a request of this pool."""


class _Record(NamedTuple):
    scheduler: Scheduler
    strikes: Strikes


class PolicyCircuitBreaker:
    """Handles the policy failures of one replica."""

    def __init__(
        self,
        safe: Scheduler,
        metrics: Metrics,
        clock: Callable[[], float],
        limits: PolicyGuard | None = None,
        *,
        on_taken_out: Sequence[OnTakenOut] = (),
        on_failure: Sequence[OnFailure] = (),
    ) -> None:
        """`safe` decides where others fail; it is built in and is never taken out.

        Each of `on_taken_out` and `on_failure` is called in order, on the event loop, during the request that failed.
        """
        self.safe = safe
        self.limits = limits or PolicyGuard()
        self._metrics = metrics
        self._clock = clock
        self._records: dict[tuple[str, str], _Record] = {}
        self._out: dict[tuple[str, str], Scheduler] = {}
        self._on_taken_out = tuple(on_taken_out)
        self._on_failure = tuple(on_failure)

    def failed(
        self, scheduler: Scheduler, request: RequestInfo, snapshot: LoadSnapshot, failure: Failure
    ) -> Decision | Rejection:
        """Count the failure and return the safe policy's answer."""
        self.struck(scheduler, snapshot.pool, failure)
        return self.safe.pick(request, snapshot)

    def slow(self, scheduler: Scheduler, pool: str, took_s: float, answer: Decision | Rejection) -> None:
        """Count a pick that took longer than `slow_s`; its answer is used. An interrupted pick was counted already."""
        if isinstance(answer, Rejection) or answer.policy == scheduler.name:
            self.struck(scheduler, pool, slow(took_s))

    def struck(self, scheduler: Scheduler, pool: str, failure: Failure) -> None:
        """Count a failure of this policy in this pool; take the policy out at the limit."""
        self._metrics.count_policy_failure(pool, scheduler.name, failure.reason)
        for failed in self._on_failure:
            failed(pool, scheduler)
        key = (pool, scheduler.name)
        record = self._records.get(key)
        if record is None or record.scheduler is not scheduler:
            # A policy that an operator sets again is a new object, whose count starts at zero.
            record = self._records[key] = _Record(scheduler, Strikes(self.limits.failures, self.limits.window_s))
        if not record.strikes.add(self._clock()):
            _log.warning("pool %s: policy %s %s; %s decides", pool, scheduler.name, failure.words, self.safe.name)
        elif scheduler.name != self.safe.name and self._out.get(key) is not scheduler:
            self._take_out(key, scheduler, record.strikes.words(failure))

    def stand_in(self, scheduler: Scheduler, pool: str) -> Scheduler:
        """The scheduler that decides where a request asks for this one: the safe policy, if it was taken out."""
        return self.safe if self._out and self._out.get((pool, scheduler.name)) is scheduler else scheduler

    def _take_out(self, key: tuple[str, str], scheduler: Scheduler, why: str) -> None:
        pool, name = key
        self._out[key] = scheduler
        _log.error("pool %s: policy %s is taken out, %s decides from now on: %s", pool, name, self.safe.name, why)
        for taken_out in self._on_taken_out:
            taken_out(pool, scheduler, why)
