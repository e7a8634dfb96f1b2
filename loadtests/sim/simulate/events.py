"""What happens to pods during a run: `600:pod-3:slow=2` and its like, parsed and scheduled. Knows no policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from loadtests.sim.simulate.world import Router, World

SLOW: Final = "slow"
"""The pod's steps take `factor` times as long, until another `slow`."""
FAIL: Final = "fail"
"""The pod's process ends: its requests are lost or sent elsewhere, connections are refused."""
JOIN: Final = "join"
"""A new pod with an empty cache; or the process of one that failed is started again, as empty."""
LEAVE: Final = "leave"
"""Discovery takes the pod out; it finishes its requests."""

_EVENT: Final = re.compile(r"(?P<at>\d+(\.\d+)?):pod-(?P<pod>\d{1,5}):(?P<what>[a-z]+)(=(?P<factor>\d+(\.\d+)?))?")
FORM: Final = "SECOND:pod-N:slow=FACTOR, or SECOND:pod-N: and one of fail, join, leave"


class EventError(ValueError):
    """An event that cannot be read, or that cannot happen; the message says why."""


class PodEvent(NamedTuple):
    """Something that happens to a pod."""

    at_s: float
    """Seconds from the first arrival."""
    pod: int
    """Its index."""
    what: str
    """`SLOW`, `FAIL`, `JOIN` or `LEAVE`."""
    factor: float = 1.0
    """Of the duration of its steps, for `SLOW`."""

    def __str__(self) -> str:
        factor = f"={self.factor:g}" if self.what == SLOW else ""
        return f"{self.at_s:g}:pod-{self.pod}:{self.what}{factor}"


def parse_event(text: str) -> PodEvent:
    """Raises EventError."""
    match = _EVENT.fullmatch(text)
    if match is None or match["what"] not in _ACTS or (match["what"] == SLOW) != (match["factor"] is not None):
        raise EventError(f"{text!r} is no event: {FORM}")
    factor = float(match["factor"] or 1.0)
    if not factor:
        raise EventError(f"{text!r}: a factor is above 0")
    return PodEvent(float(match["at"]), int(match["pod"]), match["what"], factor)


def pods_with(events: Sequence[PodEvent], pods: int) -> int:
    """How many pods there are in the whole run: the `pods` of the beginning and those that join.

    Raises EventError if an event names a pod that is not there at its time.
    """
    states = dict.fromkeys(range(pods), _SERVING)
    for event in sorted(events, key=_time):
        before = states.get(event.pod, _NEW if event.pod == len(states) else None)
        if before is None or event.what not in _AFTER[before]:
            known = f"pods are pod-0 to pod-{len(states) - 1}, the next to join is pod-{len(states)}"
            raise EventError(f"{event}: {_WHY.get(before or '', 'there is no such pod')}; {known}")
        states[event.pod] = _AFTER[before][event.what]
    return len(states)


def schedule(world: World, router: Router, events: Sequence[PodEvent]) -> None:
    """Let the events happen at their times, in their order."""
    for event in sorted(events, key=_time):
        world.at(event.at_s, partial(_ACTS[event.what], world, router, event))


def _slow(world: World, router: Router, event: PodEvent) -> None:
    world.slow(event.pod, event.factor)


def _fail(world: World, router: Router, event: PodEvent) -> None:
    world.fail(event.pod, router)


def _join(world: World, router: Router, event: PodEvent) -> None:
    world.start(event.pod)
    router.joined(event.pod)


def _leave(world: World, router: Router, event: PodEvent) -> None:
    router.left(event.pod)


_ACTS: Final[Mapping[str, Callable[[World, Router, PodEvent], None]]] = {
    SLOW: _slow,
    FAIL: _fail,
    JOIN: _join,
    LEAVE: _leave,
}

_NEW: Final = "new"
_SERVING: Final = "serving"
_FAILED: Final = "failed"
_GONE: Final = "gone"

_AFTER: Final[Mapping[str, Mapping[str, str]]] = {
    _NEW: {JOIN: _SERVING},
    _SERVING: {SLOW: _SERVING, FAIL: _FAILED, LEAVE: _GONE},
    _FAILED: {JOIN: _SERVING, LEAVE: _GONE},
    _GONE: {},
}
"""A pod's state -> what can happen to it -> its state then."""

_WHY: Final[Mapping[str, str]] = {
    _NEW: "it has not joined",
    _SERVING: "it is there",
    _FAILED: "it has failed",
    _GONE: "it has left, and another name takes its place",
}


def _time(event: PodEvent) -> float:
    return event.at_s
