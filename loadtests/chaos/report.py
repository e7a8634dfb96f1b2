"""The report of a run, and its verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from loadtests.chaos.load import Sent
from loadtests.chaos.oracle import CANCELLED, COMPLETE, EXPLAINED, OUTCOMES, Judged
from loadtests.chaos.run import Outcome

UNDISTURBED: Final = frozenset({COMPLETE, CANCELLED})
SHOWN: Final = 10
"""Examples of each thing that is wrong."""


def passed(outcome: Outcome) -> bool:
    """Whether every request had an outcome that it may have, nothing leaked, and no log reports a defect."""
    fine = all(judged.outcome in OUTCOMES for _, judged in outcome.sent)
    return fine and bool(outcome.sent) and not outcome.leaks and not outcome.complaints


def lines(outcome: Outcome) -> Iterator[str]:
    """The report."""
    plan = outcome.plan
    yield f"seed {plan.seed}, {plan.seconds:g} s, {len(outcome.sent)} requests, {outcome.refused} connections refused"
    yield "faults:    " + _counted(Counter(each.kind for each in outcome.windows))
    if outcome.skipped:
        yield "skipped:   " + _counted(Counter(outcome.skipped)) + " (needs Debian's faketime)"
    yield "requests:  " + _counted(Counter(sent.asked.name for sent, _ in outcome.sent))
    counts = Counter(judged.outcome for _, judged in outcome.sent)
    for name in (*OUTCOMES, *(other for other in counts if other not in OUTCOMES)):
        yield f"  {counts[name]:6d}  {name}"
    yield "reasons:   " + _counted(Counter(j.detail for _, j in outcome.sent if j.outcome == EXPLAINED))
    for sent, judged in [each for each in outcome.sent if each[1].outcome not in OUTCOMES][:SHOWN]:
        yield f"WRONG: {_error(sent, judged)}"
    yield from (f"LEFT: {each}" for each in outcome.leaks[:SHOWN])
    yield from (f"LOGGED: {each}" for each in outcome.complaints[:SHOWN])
    yield f"{'PASSED' if passed(outcome) else 'FAILED'}: python -m loadtests.chaos --seed {plan.seed} repeats the plan"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _error(sent: Sent, judged: Judged) -> dict[str, Any]:
    """One request that was not answered in full, on the clock of the faults' windows."""
    answer = sent.answer
    where = {key: answer.headers.get(f"x-turnout-{key}", "") for key in ("pod", "attempts")}
    times = {"sent": round(answer.sent_at, 3), "ended": round(answer.ended_at, 3)}
    return {
        **judged._asdict(),
        "kind": sent.asked.name,
        "replica": sent.replica,
        "status": answer.status,
        **where,
        **times,
    }


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All numbers."""
    return {
        "seed": outcome.plan.seed,
        "seconds": outcome.plan.seconds,
        "faults": [each._asdict() for each in outcome.windows],
        "outcomes": Counter(judged.outcome for _, judged in outcome.sent),
        "errors": [_error(sent, judged) for sent, judged in outcome.sent if judged.outcome not in UNDISTURBED],
        "reasons": Counter(judged.detail for _, judged in outcome.sent if judged.outcome == EXPLAINED),
        "leaks": outcome.leaks,
        "complaints": outcome.complaints,
        "passed": passed(outcome),
    }
