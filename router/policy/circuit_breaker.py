"""What happens when a policy fails at a request: another decides, the failure is counted and told, and a policy that
fails too often decides no more. Knows no HTTP, and of a policy only its answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from router.telemetry.metrics import Metrics
from schedulers.guard import Failure, GuardLimits, Strikes, slow
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo

_log = logging.getLogger("turnout.policy")

TakeOut = Callable[[str, Scheduler, str], None]
"""Hears that in this pool this scheduler, the very object, must decide no more, and why."""

Strike = Callable[[str, Scheduler], None]
"""Hears that in this pool this scheduler, the very object, failed at a request."""


class _Record(NamedTuple):
    scheduler: Scheduler
    strikes: Strikes


class PolicyCircuitBreaker:
    """Stands behind every pick of one replica."""

    def __init__(
        self, safe: Scheduler, metrics: Metrics, clock: Callable[[], float], limits: GuardLimits | None = None
    ) -> None:
        """`safe` decides where others fail; it is one of the gateway's own and is never taken out."""
        self.safe = safe
        self.limits = limits or GuardLimits()
        self._metrics = metrics
        self._clock = clock
        self._records: dict[tuple[str, str], _Record] = {}
        self._out: dict[tuple[str, str], Scheduler] = {}
        self._heard: list[TakeOut] = []
        self._strikes_heard: list[Strike] = []

    def listen(self, take_out: TakeOut) -> None:
        """Tell this one too when a policy must go."""
        self._heard.append(take_out)

    def listen_to_strikes(self, strike: Strike) -> None:
        """Tell this one of every failure."""
        self._strikes_heard.append(strike)

    def failed(
        self, scheduler: Scheduler, request: RequestInfo, snapshot: LoadSnapshot, failure: Failure
    ) -> Decision | Rejection:
        """Count the failure; the safe policy's answer instead."""
        self.struck(scheduler, snapshot.pool, failure)
        return self.safe.pick(request, snapshot)

    def slow(self, scheduler: Scheduler, pool: str, took_s: float, answer: Decision | Rejection) -> None:
        """A pick took longer than `slow_s`; its answer stands. One that was broken off was counted already."""
        if isinstance(answer, Rejection) or answer.policy == scheduler.name:
            self.struck(scheduler, pool, slow(took_s))

    def struck(self, scheduler: Scheduler, pool: str, failure: Failure) -> None:
        """Count a failure of this policy in this pool; take it out if that was one too many."""
        self._metrics.count_policy_failure(pool, scheduler.name, failure.reason)
        for strike in self._strikes_heard:
            strike(pool, scheduler)
        key = (pool, scheduler.name)
        record = self._records.get(key)
        if record is None or record.scheduler is not scheduler:
            # Set anew by an operator it is another object, and begins with a clean count.
            record = self._records[key] = _Record(scheduler, Strikes(self.limits))
        if not record.strikes.add(self._clock()):
            _log.warning("pool %s: policy %s %s; %s decides", pool, scheduler.name, failure.words, self.safe.name)
        elif scheduler.name != self.safe.name and self._out.get(key) is not scheduler:
            self._take_out(key, scheduler, record.strikes.words(failure))

    def stand_in(self, scheduler: Scheduler, pool: str) -> Scheduler:
        """Who decides where a request asks for `scheduler`: the safe policy, if that one is out."""
        return self.safe if self._out and self._out.get((pool, scheduler.name)) is scheduler else scheduler

    def _take_out(self, key: tuple[str, str], scheduler: Scheduler, why: str) -> None:
        pool, name = key
        self._out[key] = scheduler
        _log.error("pool %s: policy %s is taken out, %s decides from now on: %s", pool, name, self.safe.name, why)
        for take_out in self._heard:
            take_out(pool, scheduler, why)
