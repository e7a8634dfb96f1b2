"""All trials of a replica: made with the record that begins them, told to the other replicas, judged, ended, reported.

Once a second each running trial's figures go to the store, for those of all; the guard is asked about their sum; a
broken one takes the candidate back for everybody, by compare-and-set against the generation that was judged, so that
the first replica that sees it does and the others follow. While the store is away a replica judges by what it knows,
and sends nothing more to a candidate that it found wanting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol

from router.telemetry.trials import TrialReading
from router.trials.figures import TrialFigures, pack, unpack
from router.trials.intervals import Interval
from router.trials.report import canary_shown, shadow_shown
from router.trials.running import RunningTrial
from router.trials.shadow import PER_S, Later, Shadow
from router.trials.trial import Trial
from router.trials.verdict import Comparison, Verdict
from schedulers.protocols import Scheduler
from statesync.errors import StateError, StoreUnavailable
from statesync.store.policy_record import PolicyChoice
from statesync.store.protocol import PolicyRecord

TELL_S: Final = 1.0
"""Between two times that figures are told and judged."""

_log = logging.getLogger("turnout.trials")


class TrialStore(Protocol):
    """The part of a StateStore that trials need."""

    async def share_trial(self, pool: str, generation: int, teller: str, figures: bytes, /) -> Mapping[str, bytes]:
        """See StateStore."""
        ...


class TrialDeps(NamedTuple):
    """What trials need of the rest of the gateway."""

    store: TrialStore
    take_back: Callable[[str, int, str], Awaitable[object]]
    """(pool, generation, note): end the pool's canary if the record still has this generation. Raises StateError."""
    note: Callable[[str], str]
    """The note of the pool's present record."""
    later: Later
    clock: Callable[[], float]
    """The one on which requests arrive."""
    pick_clock: Callable[[], float]
    """The one that picks are timed by."""


class Trials:
    """Makes, watches and reports trials."""

    def __init__(self, outside: TrialDeps, teller: str, per_s: float = PER_S) -> None:
        """`teller` names this process among all that ever run; `per_s` bounds what a shadow is shown of a pool."""
        self.running: dict[str, Trial] = {}
        """By pool, for the data plane: those that want the next request. A canary wants each, a shadow one at times."""
        self.taken_back: dict[str, int] = {}
        """Counter by pool: canaries that this replica's guard ended."""
        self._outside = outside
        self._teller = teller
        self._per_s = per_s
        self._watched: dict[str, RunningTrial] = {}
        self._last: dict[str, dict[str, object]] = {}
        """The report of each pool's last trial, as it ended."""

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
        outside = self._outside
        looking = Shadow(pool, shadow, outside.later, outside.pick_clock, self._per_s) if shadow is not None else None
        trial = self.running[pool] = Trial(pool, record, scheduler, candidate, looking)
        if looking is not None and candidate is None:
            looking.told = partial(self._in_the_way, trial)
        running = self._watched[pool] = RunningTrial(trial, self._teller, outside.clock, self._ended)
        return running

    def report(self, pool: str) -> dict[str, object]:
        """How the pool's trial goes, over all replicas; `last` is how the one before ended."""
        running = self._watched.get(pool)
        now = self._shown(running) if running is not None else {}
        return {"pool": pool, "running": running is not None, **now, "last": self._last.get(pool)}

    def readings(self) -> list[TrialReading]:
        """What runs, as this replica counts it."""
        return [
            TrialReading(
                pool, of.own(), of.trial.canary is not None, of.trial.shadow is not None, of.broken is not None
            )
            for pool, of in self._watched.items()
        ]

    def policy_failed(self, pool: str, scheduler: Scheduler) -> None:
        """A policy failed at a request, and the safe one decided."""
        trial = self.running.get(pool)
        if trial is not None and trial.canary is not None and trial.canary.scheduler is scheduler:
            trial.canary.policy_failures += 1

    def policy_taken_out(self, pool: str, scheduler: Scheduler, why: str) -> None:
        """A policy failed too often to decide any more: the end of its trial, if it was on one."""
        running = self._watched.get(pool)
        if running is not None and running.trial.canary is not None and running.trial.canary.scheduler is scheduler:
            failures = running.trial.canary.policy_failures
            comparison = Comparison("policy_failures", Interval(failures, failures, failures), 0.0)
            running.stop(Verdict("broken", f"broken: policy_failures, {why}", (comparison,)))

    async def run(self) -> None:
        """Tell and judge, again and again."""
        while True:
            await asyncio.sleep(TELL_S)
            await self.step()

    async def step(self) -> None:
        """Tell and judge every running trial once."""
        for running in list(self._watched.values()):
            await self._tell(running)
            verdict = running.look()
            if verdict is not None and verdict.state == "broken":
                await self._take_back(running, verdict)

    async def _tell(self, running: RunningTrial) -> None:
        trial = running.trial
        try:
            told = await self._outside.store.share_trial(
                trial.pool, trial.record.generation, self._teller, pack(running.own())
            )
        except StoreUnavailable:
            return  # the store's own log says so; what the others told last still counts
        running.heard(unpack(told))

    async def _take_back(self, running: RunningTrial, verdict: Verdict) -> None:
        """End the canary for everybody. Where that fails it is tried again: this replica has stopped using it."""
        record, pool = running.trial.record, running.trial.pool
        name = record.canary.choice.name if record.canary is not None else ""
        note = f"canary {name} rolled back: {verdict.words.removeprefix('broken: ')}"
        try:
            await self._outside.take_back(pool, record.generation, note)
        except StoreUnavailable as error:
            _log.error("pool %s: %s; here at once, elsewhere when the store is back (%s)", pool, note, error)
        except StateError as error:
            _log.warning("pool %s: %s; but the record has changed since: %s", pool, note, error)
        else:
            self.taken_back[pool] = self.taken_back.get(pool, 0) + 1
            _log.warning("pool %s: %s", pool, note)

    def _ended(self, running: RunningTrial) -> None:
        pool = running.trial.pool
        self._last[pool] = self._shown(running) | {"ended": self._outside.note(pool)}
        if self._watched.get(pool) is running:
            del self._watched[pool]
            self.running.pop(pool, None)

    def _in_the_way(self, trial: Trial, wanted: bool) -> None:
        """A shadow alone is in the way of the requests that it wants, and costs the others nothing."""
        running = self._watched.get(trial.pool)
        if running is None or running.trial is not trial:
            return
        if wanted:
            self.running[trial.pool] = trial
        else:
            self.running.pop(trial.pool, None)

    def _shown(self, running: RunningTrial) -> dict[str, object]:
        trial, figures = running.trial, running.figures()
        record = trial.record
        canary, verdict = record.canary, running.verdict(figures)
        judged = canary_shown(canary, figures, verdict) if canary is not None and verdict is not None else None
        return {
            "generation": record.generation,
            "policy": record.name,
            "params": dict(record.params),
            "age_s": round(running.age_s, 3),
            "replicas": running.tellers,
            "canary": judged,
            "shadow": self._shadow(record.shadow, trial.shadow, figures),
        }

    @staticmethod
    def _shadow(choice: PolicyChoice | None, shadow: Shadow | None, figures: TrialFigures) -> object:
        return shadow_shown(choice, figures.shadow, shadow) if choice is not None and shadow is not None else None
