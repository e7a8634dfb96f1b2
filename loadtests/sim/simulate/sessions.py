"""Closed loops: sessions whose next turn comes only after the answer to the last, as an agent's do. Their turns are
generated (`agentic`) or a trace's (`sessions_of`). They know no policy; `World.play` plays traces by the clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from typing import NamedTuple

from loadtests.sim.simulate.traces import Arrival, Trace, TraceError
from loadtests.sim.simulate.world import Outcome, Router, World


class Session(NamedTuple):
    """One user's or agent's turns; each `Arrival.at_s` is the pause before it."""

    starts_s: float
    turns: Sequence[Arrival]


class Shape(NamedTuple):
    """The shape of agentic sessions: a prefix that all share, an own context, and turns that add to it.

    As it stands, 160 sessions grow to 60,000 tokens each, twice what the caches of eight H100s with an 8B model hold.
    """

    sessions: int = 160
    turns: int = 26
    shared_tokens: int = 8_192
    """System prompt and tools, the same for all."""
    first_tokens: int = 10_000
    """The first turn's whole prompt."""
    turn_tokens: int = 2_000
    """What each turn adds, the last answer among it."""
    answer_tokens: int = 256
    pause_s: float = 30.0
    """Mean time between an answer and the next turn: a tool runs, a user reads."""


def agentic(shape: Shape, unit_tokens: int, *, seed: int = 0) -> list[Session]:
    """Sessions of that shape; pauses and starts by `seed`, starts spread over a minute."""
    rng = random.Random(seed)
    return [_session(shape, at, unit_tokens, rng) for at in range(shape.sessions)]


def sessions_of(trace: Trace, rate: float) -> list[Session]:
    """The sessions of a trace, which start `rate` times as fast as there; the pauses in them stay as they are. A
    request without a session is a session of one turn.

    A pause is the trace's think time. Where that is not known it is the time between the two requests, in which the
    answer was made, too: then the sessions take longer than they did. Raises TraceError if there are no sessions.
    """
    grouped: dict[object, list[Arrival]] = {}
    for number, arrival in enumerate(trace.arrivals):
        grouped.setdefault(arrival.session or number, []).append(arrival)
    if not any(isinstance(key, str) for key in grouped):
        raise TraceError(f"{trace.name}: a closed loop needs the requests' sessions, and the trace has none")
    return [Session(turns[0].at_s / rate, _paused(turns)) for turns in grouped.values()]


def _paused(turns: Sequence[Arrival]) -> list[Arrival]:
    pauses = [turn.at_s - before.at_s if turn.think_s is None else turn.think_s for before, turn in pairwise(turns)]
    return [turn._replace(at_s=pause) for turn, pause in zip(turns, [0.0, *pauses], strict=True)]


def converse(
    world: World, sessions: Sequence[Session], router: Router, progress: Callable[[int], None] | None = None
) -> list[Outcome]:
    """Let all sessions begin and end; the outcomes, a session's turns together and in order.

    A turn that no pod can hold ends its session; one that was lost with its pod does not. `progress` is called with the
    number of turns that have ended.
    """
    turns = [turn for session in sessions for turn in session.turns]
    last: set[int] = set()
    at = 0
    for session in sessions:
        _arrive(world, at, turns, router, session.starts_s)
        at += len(session.turns)
        last.add(at - 1)

    ended = count(1)

    def go_on(number: int) -> None:
        if progress is not None:
            progress(next(ended))
        if number not in last and not world.was_rejected(number):
            _arrive(world, number + 1, turns, router, world.now + turns[number + 1].at_s)

    world.on_end = go_on
    return world.settle()


def _arrive(world: World, number: int, turns: Sequence[Arrival], router: Router, when: float) -> None:
    world.at(when, lambda: world.arrive(number, turns[number], router))


def _session(shape: Shape, at: int, unit_tokens: int, rng: random.Random) -> Session:
    shared = shape.shared_tokens // unit_tokens
    total = shape.first_tokens + (shape.turns - 1) * shape.turn_tokens
    own = [rng.getrandbits(64) for _ in range(total // unit_tokens - shared)]
    units = [*range(1, shared + 1), *own]
    turns = []
    for turn in range(shape.turns):
        prompt = shape.first_tokens + turn * shape.turn_tokens
        pause = rng.expovariate(1 / shape.pause_s)
        turns.append(Arrival(pause, prompt, shape.answer_tokens, tuple(units[: prompt // unit_tokens]), f"agent-{at}"))
    return Session(rng.random() * 60.0, turns)
