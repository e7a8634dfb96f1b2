"""A trial while it runs: this replica's counts, the last known counts of the others, and the verdict on their sum.

Synchronous and without I/O: `monitor.py` brings the others' figures and acts on the verdict. This is the `TrialView` of
a policy controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from router.trials.figures import TrialFigures, TrialReading, summed
from router.trials.fleet import PoolHistory
from router.trials.trial import Trial
from router.trials.verdict import Verdict, alarm, judge
from statesync.store.lineage import digest
from statesync.store.policy_record import CanaryGuard
from statesync.store.protocol import PolicyRecord


class RunningTrial:
    """One trial and the judgement on it."""

    def __init__(
        self,
        trial: Trial,
        reporter: str,
        clock: Callable[[], float],
        on_end: Callable[[RunningTrial, str], None],
        history: PoolHistory | None = None,
    ) -> None:
        """`reporter` is this process's name among all that share figures; `history` is of the pool.

        `on_end` is called once, with the note of the record that replaced the trial's.
        """
        self.trial = trial
        self.began_at = clock()
        self.broken: Verdict | None = None
        """The verdict by which the guard was found broken here. It stands, whatever is counted later."""
        self._identity = identity_of(trial.record)
        self._reporter = reporter
        self._clock = clock
        self._on_end = on_end
        self._others: Mapping[str, TrialFigures] = {}
        self._over = False
        self._history = history
        self._before = history.before() if history is not None else {}
        self._start = history.totals() if history is not None else ()

    def follows(self, earlier: RunningTrial) -> None:
        """This trial has the candidate of an earlier one: the pool is compared with what it was before that. Where the
        stage is the same, the counts go on."""
        self._before = earlier._before
        if self.trial.canary is earlier.trial.canary:
            self.began_at, self._start, self._others = earlier.began_at, earlier._start, earlier._others
            if earlier.broken is not None:
                self.stop(earlier.broken)

    @property
    def key(self) -> int:
        """The generation under which replicas share the figures."""
        return key_of(self.trial.record)

    def own(self) -> TrialFigures:
        """This replica's figures now."""
        figures = msgspec.structs.replace(self.trial.figures(self._clock()), of=self._identity)
        if self._history is None or self.trial.canary is None:
            return figures
        return msgspec.structs.replace(figures, before=self._before, during=self._history.since(self._start))

    def received(self, shared: Mapping[str, TrialFigures]) -> None:
        """The last figures of every reporter, this one included. After the shared state lost records, two of them may
        have had the same generation: figures of the other one do not count."""
        self._others = {
            reporter: figures
            for reporter, figures in shared.items()
            if reporter != self._reporter and figures.of in ("", self._identity)
        }

    @property
    def reporters(self) -> list[str]:
        """The reporters whose figures are in the sum, this replica first."""
        return [self._reporter, *sorted(self._others)]

    def reading(self) -> TrialReading:
        """What this replica's metrics show."""
        trial = self.trial
        canary, shadow = trial.canary is not None, trial.shadow is not None
        return TrialReading(trial.pool, self.own(), canary, shadow, self.broken is not None)

    def figures(self) -> TrialFigures:
        """The sum over all replicas, including those that are gone: their requests happened."""
        return summed([self.own(), *self._others.values()], TrialFigures())

    def look(self) -> Verdict | None:
        """The verdict where the guard is broken; None otherwise. Looking costs no certainty."""
        canary = self.trial.record.canary
        if canary is not None and self.broken is None and (found := alarm(canary, self.figures())) is not None:
            self.stop(found)
        return self.broken

    def stop(self, broken: Verdict) -> None:
        """Send nothing more to the candidate from this replica; the record is changed later."""
        self.broken = broken
        self.trial.halted = True

    def verdict(self, figures: TrialFigures) -> Verdict | None:
        """The verdict on these figures, for display; None without a canary. It ends nothing."""
        canary = self.trial.record.canary
        return self.broken if canary is None or self.broken is not None else judge(canary, figures)

    def objection(self) -> str:
        """Why the candidate should not be promoted; empty if nothing speaks against it."""
        verdict = self.verdict(self.figures())
        if verdict is None or verdict.state == "within":
            return ""
        name = self.trial.record.canary.choice.name if self.trial.record.canary is not None else ""
        return f"canary {name} is not ready: {verdict.reason}; promote it all the same with `force`"

    def summary(self) -> str:
        """What was found of the canary, in a line for the history; empty without one, or where the guard ended it."""
        figures = self.figures()
        verdict = self.verdict(figures)
        if verdict is None or verdict.state == "broken":
            return ""
        found = "; ".join(each.describe() for each in verdict.comparisons) or verdict.reason
        return f"canary after {figures.baseline.placed + figures.canary.placed} requests: {found}"

    def end(self, note: str) -> None:
        """Another record is live; `note` is that record's."""
        if not self._over:
            self._over = True
            self._on_end(self, note)
            if self.trial.shadow is not None:
                self.trial.shadow.stop("ended")

    @property
    def age_s(self) -> float:
        """Seconds since it began here."""
        return self._clock() - self.began_at


def key_of(record: PolicyRecord) -> int:
    """The generation under which the figures of a record's trial are shared: that in which its stage began."""
    return (record.canary.since if record.canary is not None else 0) or record.generation


def identity_of(record: PolicyRecord) -> str:
    """The same for records that compare the same: those of one stage of a canary, whatever its shadow and its limits.
    Generations alone are not enough, since another record may have one after the shared state lost it."""
    canary, key = record.canary, key_of(record)
    if canary is None:
        return digest(PolicyRecord(record.name, record.params, key, record.shadow))
    canary = canary._replace(began=canary.began or key, since=key, guard=CanaryGuard())
    return digest(PolicyRecord(record.name, record.params, key, None, canary))
