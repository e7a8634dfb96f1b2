"""Which requests are played: stretches of recorded traffic as sessions. Pure: it sends nothing and simulates nothing.

They are of the traces' reporting halves, on which nothing is tuned. Conversations are an open loop: every request is a
session of one turn, at its stamp. Agents are a closed loop: all sessions of the trace at once, each request after the
answer to the last and the pause that the trace has between the two. A session is cut where, with answers as fast as
usual, it would reach the end of the stretch: so every router gets the same requests, and the load is even until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from loadtests.bench.scheduling.halves import half_of
from loadtests.sim.simulate.sessions import Session
from loadtests.sim.simulate.traces import Arrival, Trace

STARTS: Final = 1 / 3
"""Part of a stretch over which agents' sessions begin: all of them come with a context that no pod has."""
FIRST_S: Final = 1.0
TOKEN_S: Final = 0.02
"""A first token and each of the others, about, on an h100-8b with a few contexts of 60,000 tokens in its batch."""


class Stretch(NamedTuple):
    """A part of a trace, ready to be played."""

    traffic: str
    number: int
    """From 1."""
    rate: float
    seconds: float
    unit_tokens: int
    sessions: Sequence[Session]

    @property
    def name(self) -> str:
        """Such as `agents 2`."""
        return f"{self.traffic} {self.number}"

    @property
    def requests(self) -> int:
        """Turns of all sessions."""
        return sum(len(session.turns) for session in self.sessions)


class Cut(NamedTuple):
    """Which part of the trace, and how fast."""

    number: int
    of: int
    seconds: float
    rate: float
    """By which stamps, or pauses, come sooner than in the trace."""


class Traffic(NamedTuple):
    """A kind of traffic: its trace's file, and how the trace becomes sessions."""

    file: str
    rate: float
    sessions: Callable[[Sequence[Arrival], Cut], list[Session]]
    what: str


def stretch(traffic: str, whole: Trace, cut: Cut) -> Stretch:
    """That part of the trace's reporting half."""
    arrivals = half_of(whole, "report").arrivals
    sessions = TRAFFIC[traffic].sessions(arrivals, cut)
    return Stretch(traffic, cut.number, cut.rate, cut.seconds, whole.unit_tokens, sessions)


def open_loop(arrivals: Sequence[Arrival], cut: Cut) -> list[Session]:
    """Each request by the clock; part n of m begins where n / (m + 1) of all requests have arrived."""
    begin = arrivals[len(arrivals) * cut.number // (cut.of + 1)].at_s
    rated = [each._replace(at_s=(each.at_s - begin) / cut.rate) for each in arrivals]
    return [Session(each.at_s, [each._replace(at_s=0.0)]) for each in rated if 0 <= each.at_s < cut.seconds]


def closed_loop(arrivals: Sequence[Arrival], cut: Cut) -> list[Session]:
    """Each session's requests one after the other; part n of m begins at (n - 1) / m of each session's requests."""
    turns: dict[str, list[Arrival]] = {}
    for each in arrivals:
        turns.setdefault(each.session, []).append(each)
    gap_s = cut.seconds * STARTS / len(turns)
    return [
        _session(of_session[len(of_session) * (cut.number - 1) // cut.of :], at * gap_s, cut)
        for at, of_session in enumerate(turns.values())
    ]


def _session(turns: Sequence[Arrival], starts_s: float, cut: Cut) -> Session:
    now = starts_s
    kept: list[Arrival] = []
    for turn in turns:
        pause_s = (turn.think_s or 0.0) / cut.rate if kept else 0.0
        now += pause_s
        if now >= cut.seconds:
            break
        kept.append(turn._replace(at_s=pause_s))
        now += FIRST_S + turn.output_tokens * TOKEN_S
    return Session(starts_s, kept)


TRAFFIC: Final[Mapping[str, Traffic]] = MappingProxyType(
    {
        "conversation": Traffic(
            "mooncake_conversation.jsonl.gz", 2.0, open_loop, "the conversation trace at twice its rate, by the clock"
        ),
        "agents": Traffic(
            "agentic_a.jsonl.gz",
            4.0,
            closed_loop,
            "46 sessions of Claude Code at once, each request after the last answer and a quarter of its pause",
        ),
    }
)
