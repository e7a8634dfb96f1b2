"""Sessions in real time: each turn is sent at its moment after the answer to the last, and timed by the client.

A session of one turn is an open-loop request. The generator reports how late it was itself: where that is not small,
its figures are of this machine and not of what it measured. It knows no router.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Final

import msgspec

from loadtests.sim import chat
from loadtests.sim.chat import TrafficError
from loadtests.sim.http_client import Client
from loadtests.sim.ports import HOST
from loadtests.sim.prompts import body
from loadtests.sim.simulate.sessions import Session

LEAD_S: Final = 0.5
"""Between making the tasks and the first request."""
UNANSWERED: Final = "unanswered"


class Sent(msgspec.Struct, frozen=True):
    """One request, as its client saw it. Times in seconds; a failed one has no answer's numbers."""

    session: int
    turn: int
    prompt_tokens: int
    due_s: float
    """When it was to be sent, from the start."""
    late_s: float = 0.0
    """Sent so much after that."""
    ttft_s: float = 0.0
    e2e_s: float = 0.0
    output_tokens: int = 0
    cached_tokens: int = 0
    """As the engine's usage says."""
    failure: str = ""
    """Kind of failure; empty for a complete answer."""


async def play(sessions: Sequence[Session], unit_tokens: int, port: int, limit_s: float) -> list[Sent]:
    """Send all turns to that port. What has no answer `limit_s` after the start has failed."""
    bodies = [[body(turn, unit_tokens) for turn in session.turns] for session in sessions]
    clock = _Clock(perf_counter() + LEAD_S, limit_s)
    with _calm_memory():
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(_converse(clock, port, at, session, bodies[at]))
                for at, session in enumerate(sessions)
            ]
        return [sent for task in asked for sent in task.result()]


class _Clock:
    """The run's start and end."""

    def __init__(self, start: float, limit_s: float) -> None:
        self._start = start
        self._limit_s = limit_s

    @property
    def now(self) -> float:
        """Seconds from the start."""
        return perf_counter() - self._start

    @property
    def left_s(self) -> float:
        """Until the end."""
        return self._limit_s - self.now

    def since(self, moment: float) -> float:
        """A moment of `perf_counter`, from the start."""
        return moment - self._start


async def _converse(clock: _Clock, port: int, number: int, session: Session, bodies: Sequence[bytes]) -> list[Sent]:
    found: list[Sent] = []
    client = Client(HOST, port)
    due = session.starts_s
    for at, turn in enumerate(session.turns):
        await asyncio.sleep(max(0.0, min(due - clock.now, clock.left_s)))
        planned = Sent(number, at, turn.prompt_tokens, due)
        if clock.left_s <= 0:
            found.append(msgspec.structs.replace(planned, failure=UNANSWERED))
            continue
        found.append(await _ask(clock, client, planned, bodies[at]))
        if at + 1 < len(session.turns):
            due = clock.now + session.turns[at + 1].at_s
    client.close()
    return found


async def _ask(clock: _Clock, client: Client, planned: Sent, payload: bytes) -> Sent:
    answer = await client.post(chat.PATH, payload, clock.left_s)
    late = clock.since(answer.sent_at) - planned.due_s
    try:
        reply = chat.reply(answer)
    except TrafficError as error:
        return msgspec.structs.replace(planned, late_s=late, failure=error.kind)
    return msgspec.structs.replace(
        planned,
        late_s=late,
        ttft_s=reply.ttft_s,
        e2e_s=answer.ended_at - answer.sent_at,
        output_tokens=reply.usage.completion_tokens,
        cached_tokens=reply.usage.cached_tokens,
    )


@contextlib.contextmanager
def _calm_memory() -> Iterator[None]:
    """No garbage collection meanwhile: one of all bodies and answers would make dozens of requests late."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
