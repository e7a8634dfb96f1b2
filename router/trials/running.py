"""A trial while it runs: this replica's counts, the last known counts of the others, and the verdict on their sum.

Synchronous and without I/O: `monitor.py` brings the others' figures and acts on the verdict. This is the `TrialView` of
a policy controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.trials.figures import TrialFigures, TrialReading, summed
from router.trials.trial import Trial
from router.trials.verdict import Verdict, judge, look_at


class RunningTrial:
    """One trial and the judgement on it."""

    def __init__(
        self, trial: Trial, reporter: str, clock: Callable[[], float], on_end: Callable[[RunningTrial, str], None]
    ) -> None:
        """`reporter` is this process's name among all that share figures.

        `on_end` is called once, with the note of the record that replaced the trial's.
        """
        self.trial = trial
        self.began_at = clock()
        self.broken: Verdict | None = None
        """The verdict by which the guard was found broken here. It stands, whatever is counted later."""
        self._reporter = reporter
        self._clock = clock
        self._on_end = on_end
        self._others: Mapping[str, TrialFigures] = {}
        self._look = -1
        self._over = False

    def own(self) -> TrialFigures:
        """This replica's figures now."""
        return self.trial.figures(self._clock())

    def received(self, shared: Mapping[str, TrialFigures]) -> None:
        """The last figures of every reporter, this one included."""
        self._others = {reporter: figures for reporter, figures in shared.items() if reporter != self._reporter}

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
        """The guard's verdict where a look is due or the policy itself fails; None otherwise."""
        canary = self.trial.record.canary
        if canary is None or self.broken is not None:
            return self.broken
        figures = self.figures()
        due = look_at(canary.guard, figures.baseline, figures.canary)
        if due <= self._look and not figures.canary.policy_failures:
            return None
        verdict = judge(canary.guard, figures.baseline, figures.canary, due)
        if due <= self._look and not verdict.failing:
            return None
        self._look = max(self._look, due)
        if verdict.state == "broken":
            self.stop(verdict)
        return verdict

    def stop(self, broken: Verdict) -> None:
        """Send nothing more to the candidate from this replica; the record is changed later."""
        self.broken = broken
        self.trial.halted = True

    def verdict(self, figures: TrialFigures) -> Verdict | None:
        """The verdict on these figures, for display; None without a canary. It counts as no look and ends nothing."""
        canary = self.trial.record.canary
        if canary is None or self.broken is not None:
            return self.broken
        due = look_at(canary.guard, figures.baseline, figures.canary)
        return judge(canary.guard, figures.baseline, figures.canary, due)

    def objection(self) -> str:
        """Why the candidate should not be promoted; empty if nothing speaks against it."""
        verdict = self.verdict(self.figures())
        if verdict is None or verdict.state == "within":
            return ""
        name = self.trial.record.canary.choice.name if self.trial.record.canary is not None else ""
        return f"canary {name} is not ready: {verdict.reason}; promote it all the same with `force`"

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
