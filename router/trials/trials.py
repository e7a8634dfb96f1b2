"""All trials of a replica: made with the record that begins them, ended with the next one, reported.

`monitor.py` shares their figures with the other replicas and ends what is found wanting. No I/O here, and no policy is
changed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from router.trials.evidence import Interval
from router.trials.figures import TrialFigures, TrialReading
from router.trials.fleet import PoolHistory
from router.trials.report import describe_canary, describe_shadow
from router.trials.running import RunningTrial, identity_of
from router.trials.shadow import PER_S, Later, Shadow
from router.trials.trial import Trial
from router.trials.verdict import Comparison, Verdict
from schedulers.protocols import Scheduler
from statesync.store.policy_record import PolicyChoice
from statesync.store.protocol import PolicyRecord

KEPT: Final = 5
"""Reports of ended trials that are kept by pool."""


def _call_later(seconds: float, work: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, work)


class Trials:
    """Makes and reports trials."""

    def __init__(
        self,
        reporter: str,
        clock: Callable[[], float],
        *,
        shadow_per_s: float = PER_S,
        pick_clock: Callable[[], float] = time.perf_counter,
        later: Later = _call_later,
        histories: Mapping[str, PoolHistory] = MappingProxyType({}),
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`reporter` names this process among all that ever share figures; requests arrive on `clock`, picks are timed
        by `pick_clock`. A shadow sees at most `shadow_per_s` requests of a pool.
        """
        self._histories = histories
        self._wall = wall
        self.reporter = reporter
        self.running: dict[str, Trial] = {}
        """By pool, for the data plane: trials that want the next request. A canary wants every one."""
        self._clock = clock
        self._shadow_per_s = shadow_per_s
        self._pick_clock = pick_clock
        self._later = later
        self._watched: dict[str, RunningTrial] = {}
        self._ended_reports: dict[str, deque[dict[str, object]]] = {}
        """The reports of each pool's last trials as they ended, newest first."""

    @property
    def watched(self) -> Mapping[str, RunningTrial]:
        """Every running trial, by pool."""
        return self._watched

    def make(
        self,
        pool: str,
        record: PolicyRecord,
        scheduler: Scheduler,
        shadow: Scheduler | None,
        candidate: Scheduler | None,
    ) -> RunningTrial | None:
        """What runs beside the policy of a record that is live from now on; None where nothing is tried."""
        if shadow is None and candidate is None:
            return None
        beside = (
            Shadow(pool, shadow, self._later, self._pick_clock, self._shadow_per_s, self._shadow_wants)
            if shadow is not None
            else None
        )
        earlier = self._watched.get(pool)
        clocks = self._clock, self._wall
        arms = earlier.trial.arms if earlier is not None and _same_stage(earlier.trial.record, record) else None
        trial = self.running[pool] = Trial(pool, record, scheduler, candidate, beside, arms, clocks)
        history = self._histories.get(pool)
        running = self._watched[pool] = RunningTrial(trial, self.reporter, self._clock, self._ended, history)
        if earlier is not None and _same_candidate(earlier.trial.record, record):
            running.follows(earlier)
        return running

    def note_pools(self) -> None:
        """Keep what the pools' times are now, to compare with while a later canary runs."""
        for history in self._histories.values():
            history.note(self._clock())

    def report(self, pool: str) -> dict[str, object]:
        """The state of the pool's trial, over all replicas; `last` and `earlier` are the reports of those before, as
        they ended."""
        running = self._watched.get(pool)
        now = self._report(running) if running is not None else {}
        last, *earlier = self._ended_reports.get(pool) or (None,)
        return {"pool": pool, "running": running is not None, **now, "last": last, "earlier": earlier}

    def summary(self, pool: str, record: PolicyRecord) -> str:
        """What was found of this record's canary, in a line for the history; empty if it is not on trial here."""
        running = self._watched.get(pool)
        return running.summary() if running is not None and running.trial.record == record else ""

    def readings(self) -> list[TrialReading]:
        """Every running trial, as this replica counts it."""
        return [running.reading() for running in self._watched.values()]

    def policy_failed(self, pool: str, scheduler: Scheduler) -> None:
        """A policy failed at a request, and the safe one decided."""
        trial = self.running.get(pool)
        if trial is not None and trial.canary is not None and trial.canary.scheduler is scheduler:
            trial.canary.policy_failures += 1

    def policy_taken_out(self, pool: str, scheduler: Scheduler, why: str) -> None:
        """A policy failed too often and was taken out: if it was a candidate, its trial is broken."""
        running = self._watched.get(pool)
        if running is not None and running.trial.canary is not None and running.trial.canary.scheduler is scheduler:
            failures = running.trial.canary.policy_failures
            comparison = Comparison("policy_failures", Interval(failures, failures, failures), 0.0, True, False)
            running.stop(Verdict("broken", f"broken: policy_failures, {why}", (comparison,)))

    def _ended(self, running: RunningTrial, note: str) -> None:
        pool = running.trial.pool
        current = self._watched.get(pool)
        if current is None or current is running or current.trial.canary is not running.trial.canary:
            reports = self._ended_reports.setdefault(pool, deque(maxlen=KEPT))
            reports.appendleft(self._report(running) | {"ended": note})
        if self._watched.get(pool) is running:
            del self._watched[pool]
            self.running.pop(pool, None)

    def _shadow_wants(self, shadow: Shadow, wants: bool) -> None:
        """Without a canary, `running` holds the trial only while its shadow wants the next request: other requests pay
        nothing."""
        running = self._watched.get(shadow.pool)
        if running is None or running.trial.shadow is not shadow or running.trial.canary is not None:
            return
        if wants:
            self.running[shadow.pool] = running.trial
        else:
            self.running.pop(shadow.pool, None)

    def _report(self, running: RunningTrial) -> dict[str, object]:
        trial, figures = running.trial, running.figures()
        record = trial.record
        canary, verdict = record.canary, running.verdict(figures)
        judged = describe_canary(canary, figures, verdict) if canary is not None and verdict is not None else None
        return {
            "generation": record.generation,
            "policy": record.name,
            "params": dict(record.params),
            "age_s": round(running.age_s, 3),
            "replicas": running.reporters,
            "canary": judged,
            "shadow": self._shadow(record.shadow, trial.shadow, figures),
        }

    @staticmethod
    def _shadow(choice: PolicyChoice | None, shadow: Shadow | None, figures: TrialFigures) -> object:
        return describe_shadow(choice, figures.shadow, shadow) if choice is not None and shadow is not None else None


def _same_candidate(one: PolicyRecord, other: PolicyRecord) -> bool:
    if one.canary is None or other.canary is None or one.canary.choice != other.canary.choice:
        return False
    return (one.canary.began or one.generation) == (other.canary.began or other.generation)


def _same_stage(one: PolicyRecord, other: PolicyRecord) -> bool:
    return _same_candidate(one, other) and identity_of(one) == identity_of(other)
