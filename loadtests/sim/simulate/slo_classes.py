"""Promises and priorities for a trace that has none: which requests get which, by seed. Pure; it knows no policy.

A class is written `[share=0.3,][priority=1,]ttft=2,tpot=0.1`. All requests of a session are of one class.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtests.sim.simulate.traces import Arrival, Trace
from schedulers.types import Slo

_DEFAULTS: Final = {"share": 1.0, "ttft": 0.0, "tpot": 0.0}
_NUMBERS: Final = (*_DEFAULTS, "priority")


class BadSlo(ValueError):
    """A class that cannot be read; the message says why."""


class SloClass(NamedTuple):
    """A share of the requests, and what they are promised."""

    share: float
    priority: int | None
    """None keeps the trace's."""
    slo: Slo


def read_class(text: str) -> SloClass:
    """A class as it is written. Raises BadSlo."""
    numbers: dict[str, float] = {}
    for pair in text.split(","):
        key, _, value = pair.partition("=")
        try:
            numbers[_known(key)] = float(value)
        except ValueError:
            raise BadSlo(f"{pair!r} in {text!r} is not one of {', '.join(_NUMBERS)} and a number") from None
    share, ttft, tpot = (numbers.get(key, default) for key, default in _DEFAULTS.items())
    priority = numbers.get("priority", 0.0)
    if not (0 < share <= 1 and 0 <= ttft < float("inf") and 0 <= tpot < float("inf") and ttft + tpot > 0):
        raise BadSlo(f"{text!r}: a share is above 0 and at most 1; ttft and tpot are seconds, one of them above 0")
    if not priority.is_integer():
        raise BadSlo(f"{text!r}: a priority is a whole number")
    return SloClass(share, int(priority) if "priority" in numbers else None, Slo(ttft, tpot))


def _known(key: str) -> str:
    if key not in _NUMBERS:
        raise ValueError(key)
    return key


def with_classes(trace: Trace, classes: Sequence[SloClass], seed: int) -> Trace:
    """The trace, each request in its class; what the shares leave is promised nothing. Raises BadSlo."""
    if sum(each.share for each in classes) > 1.0 + 1e-9:
        raise BadSlo("the shares of the classes add up to more than 1")
    arrivals = [_with(each, at, classes, seed) for at, each in enumerate(trace.arrivals)]
    return trace._replace(arrivals=arrivals)


def _with(arrival: Arrival, number: int, classes: Sequence[SloClass], seed: int) -> Arrival:
    drawn = random.Random(f"{seed} {arrival.session or number}").random()
    for each in classes:
        if drawn < each.share:
            priority = arrival.priority if each.priority is None else each.priority
            return arrival._replace(priority=priority, slo=each.slo)
        drawn -= each.share
    return arrival
