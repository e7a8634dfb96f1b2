"""What a canary's figures say, in sentences: how far it is, what is certain, and what the comparison cannot show.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from router.trials.clusters import MANY_SESSIONS, heaviest, sessions
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.trial import WASHOUT
from router.trials.verdict import Comparison, Verdict, spent
from statesync.store.policy_record import Canary

_SUBJECTS: Final = {
    "error_rate": "Error rate, canary minus baseline",
    "ttft_p50_ratio": "Median time to first token, canary over baseline",
    "ttft_p95_ratio": "95th percentile of the time to first token, canary over baseline",
    "e2e_p95_ratio": "95th percentile of the time to a whole answer, canary over baseline",
    "tpot_p50_ratio": "Median time per token after the first one, canary over baseline",
    "pool_p95_ratio": "95th percentile of the pool's time to first token, over that before the trial",
    "policy_failures": "Requests at which the candidate itself failed",
}

DASH: Final = "`-` stands for a figure that nothing was counted for yet, or a bound that the counts do not allow."


def sentences(canary: Canary, figures: TrialFigures, verdict: Verdict) -> Iterator[str]:
    """The report, a sentence or two each."""
    yield f"The canary {_STATES[verdict.state]}{verdict.reason}."
    yield _size(canary, figures)
    for each in verdict.comparisons:
        yield f"{_SUBJECTS[each.guard]}: {_found(each)}."
    yield _certainty(canary)
    yield _interference(canary)
    yield DASH


_STATES: Final = {"waiting": "", "undecided": "is ", "within": "is ", "broken": "was taken back, as it is "}


def _size(canary: Canary, figures: TrialFigures) -> str:
    unit = f"spans of {canary.switchback_s:g} s" if canary.switchback_s else "sessions"
    counted = f"Canary: {_arm(figures.canary, unit)}; baseline: {_arm(figures.baseline, unit)}."
    if not canary.stage:
        return counted
    return f"{counted} This is share {canary.stage + 1} of this candidate; it keeps the sessions that it has."


def _arm(arm: ArmFigures, unit: str) -> str:
    number = sessions(arm.placed_by)
    count = f"more than {number}" if number >= MANY_SESSIONS else f"about {number}"
    return f"{arm.placed} requests in {count} {unit}, of which the heaviest has at most {heaviest(arm.placed_by):.1%}"


def _found(of: Comparison) -> str:
    if of.broken or of.within:
        state = "certainly over" if of.broken else "certainly below"
    elif of.guard == "pool_p95_ratio" and of.found.low > of.limit:
        # A busier hour has the same figure.
        state = "not certainly by picks of fuller pods, but certainly over"
    elif of.more:
        state = f"undecided, about {of.more} more requests,"
    else:
        state = "undecided and close to"
    return f"{of.figure()}, {state} the limit of {of.shown(of.limit)}"


def _certainty(canary: Canary) -> str:
    confidence = canary.guard.confidence
    return (
        f"The bounds hold at {confidence:.4g} for all guards together, however often they are looked at: of candidates "
        f"at their limits or better at most {1.0 - confidence:.2g} are ever taken back, over all their shares of "
        f"traffic; {spent(canary):.2g} at this one. Requests of a session count as what they say together."
    )


def _interference(canary: Canary) -> str:
    if canary.switchback_s:
        return (
            f"All of the pool follows one policy for {canary.switchback_s:g} s, so the figures contain what requests "
            f"do to each other, as a full roll-out would; the first {WASHOUT:.0%} of each span are not counted. "
            "Conversations meet both policies, so what depends on keeping them on their pods is not shown."
        )
    return (
        "Both arms share the pods: what the candidate does to a pod is in both arms' figures, so a full roll-out may "
        "differ more from the policy in force than these figures do. `--switchback SECONDS` compares the whole pool "
        "under each policy in turn."
    )
