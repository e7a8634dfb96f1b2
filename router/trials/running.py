"""A trial while it runs: this replica's counts, what the others last told of theirs, and the verdict on the sum.

Synchronous and without I/O: `trials.py` brings the others' figures and acts on the verdict. What a policy switch holds
of a trial is this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.trials.figures import TrialFigures, summed
from router.trials.trial import Trial
from router.trials.verdict import Verdict, judge, look_at


class RunningTrial:
    """One trial, watched."""

    def __init__(
        self, trial: Trial, teller: str, clock: Callable[[], float], ended: Callable[[RunningTrial], None]
    ) -> None:
        """`teller` is this process's name among all that tell figures; `ended` hears of the end, once."""
        self.trial = trial
        self.began_at = clock()
        self.broken: Verdict | None = None
        """The guard as it was found broken here; what was decided stays, whatever comes in later."""
        self._teller = teller
        self._clock = clock
        self._ended = ended
        self._others: Mapping[str, TrialFigures] = {}
        self._look = -1
        self._over = False

    def own(self) -> TrialFigures:
        """This replica's figures now."""
        return self.trial.figures(self._clock())

    def heard(self, told: Mapping[str, TrialFigures]) -> None:
        """What all tellers told, this one included."""
        self._others = {teller: figures for teller, figures in told.items() if teller != self._teller}

    @property
    def tellers(self) -> list[str]:
        """Whose figures are in the sum, this replica's first."""
        return [self._teller, *sorted(self._others)]

    def figures(self) -> TrialFigures:
        """The sum over all replicas, those included that are gone: their requests happened."""
        return summed([self.own(), *self._others.values()], TrialFigures())

    def look(self) -> Verdict | None:
        """The guard's verdict where a look is due or the policy itself fails; None where there is nothing to judge."""
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
        """Nothing more goes to the candidate from this replica; the record follows."""
        self.broken = broken
        self.trial.halted = True

    def verdict(self, figures: TrialFigures) -> Verdict | None:
        """How these figures stand, for who asks; None without a canary. Asking is no look: it ends nothing."""
        canary = self.trial.record.canary
        if canary is None or self.broken is not None:
            return self.broken
        due = look_at(canary.guard, figures.baseline, figures.canary)
        return judge(canary.guard, figures.baseline, figures.canary, due)

    def objection(self) -> str:
        """Why the candidate should not be promoted, in words; empty if nothing speaks against it."""
        verdict = self.verdict(self.figures())
        if verdict is None or verdict.state == "within":
            return ""
        name = self.trial.record.canary.choice.name if self.trial.record.canary is not None else ""
        return f"canary {name} is not ready: {verdict.words}; promote it all the same with `force`"

    def end(self) -> None:
        """A record without this trial is live."""
        if not self._over:
            self._over = True
            self._ended(self)
            if self.trial.shadow is not None:
                self.trial.shadow.stop("ended")

    @property
    def age_s(self) -> float:
        """Since it began here."""
        return self._clock() - self.began_at
