"""The users: conversations at a constant rate, and streams of a minute. Each request leaves one record, good or bad.

Talkers and askers send a request every `period_s`, for whole answers and streams at random, so that the rate does not
follow the latency as it does in `sim/traffic.py`, the closed-loop load. A talker's turn contains the earlier ones.
Listeners hold one long stream after the other. Nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from loadtests.sim import chat
from loadtests.sim.chat import Usage
from loadtests.sim.conversation import Conversation, Shape
from loadtests.sim.http_client import Client
from loadtests.sim.right_answer import NO_USAGE, Verdict, expected, judge

WHOLE, STREAM, LONG = "whole", "stream", "long"
"""Kinds of requests."""
UNFINISHED = "unfinished"
"""The fault of a request that was open when the run was cut off."""


TALK = Shape(systems=10_000, system_tokens=2000, turns=16, turn_tokens=50, max_tokens=4, think_s=0.0)
"""Conversations about a document of their own: its cached prefix outweighs differences of the pods' loads, so that
a turn goes to another pod only if its replica does not know the prefix. A conversation lasts ten seconds."""

ASK = Shape(systems=4, system_tokens=100, turns=1, turn_tokens=20, max_tokens=4, think_s=0.0)
"""Questions with a common system prompt."""


@dataclass(frozen=True)
class Mix:
    """The size of the load."""

    talkers: int = 36
    """Conversations at a time."""
    askers: int = 90
    """Users with single questions."""
    period_s: float = 0.6
    """Between two requests of a talker or asker: users / period_s is the rate."""
    listeners: int = 240
    """Long streams open at a time."""
    long_tokens: int = 600
    ramp_s: float = 10.0
    """Users join over this time."""
    talk: Shape = TALK
    ask: Shape = ASK
    model: str = "sim-model"
    timeout_s: float = 400.0
    """Many times the duration of the longest stream."""


class Record(NamedTuple):
    """One request. Times are `perf_counter`'s."""

    kind: str
    started_at: float
    first_at: float
    ended_at: float
    fault: str
    """"": a whole and right answer."""
    replica: str
    pod: str
    usage: Usage = NO_USAGE
    session: str = ""
    """Of the conversation: cache hits of its requests are not independent."""

    @property
    def ttft_s(self) -> float:
        """Time to the first byte of the answer's body: for streams, the first token."""
        return self.first_at - self.started_at


class Load:
    """All users against one address."""

    def __init__(self, host: str, port: int, mix: Mix, seed: int = 0) -> None:
        self._host, self._port, self._mix, self._seed = host, port, mix, seed
        self.records: list[Record] = []
        self.open: dict[str, int] = {WHOLE: 0, STREAM: 0, LONG: 0}
        """Requests under way, by kind."""
        self.no_more = asyncio.Event()
        """Once set, no new request is sent; those under way end."""
        self.no_more_long = asyncio.Event()

    async def run(self) -> None:
        """Until `no_more` is set and the last request has ended."""
        mix = self._mix
        async with asyncio.TaskGroup() as group:
            for number in range(mix.talkers):
                group.create_task(self._talk(number, mix.talk, mix.ramp_s * number / mix.talkers))
            for number in range(mix.askers):
                group.create_task(self._talk(mix.talkers + number, mix.ask, mix.ramp_s * number / mix.askers))
            for number in range(mix.listeners):
                group.create_task(self._listen(number, mix.ramp_s * number / mix.listeners))

    async def _talk(self, number: int, shape: Shape, delay_s: float) -> None:
        conversation = Conversation(shape, self._seed * 100_003 + number)
        rng, client = random.Random(number), Client(self._host, self._port)
        due = perf_counter() + delay_s + self._mix.period_s * rng.random()
        try:
            while not await _set_before(self.no_more, due):
                # A late request is not made up for: two at once would be a different load.
                due = max(due, perf_counter()) + self._mix.period_s
                messages, stream = conversation.ask(), rng.random() < 0.5
                verdict = await self._ask(client, messages, shape.max_tokens, stream, session=conversation.session)
                if verdict.fault:
                    conversation.failed()
                else:
                    conversation.answered(verdict.text)
        finally:
            client.close()

    async def _listen(self, number: int, delay_s: float) -> None:
        client, story = Client(self._host, self._port), 0
        due, tokens = perf_counter() + delay_s, self._mix.long_tokens
        if number % 2:
            tokens //= 2  # for every other listener, so that streams begin and end at all times
        try:
            while not await _set_before(self.no_more_long, due) and not self.no_more.is_set():
                story += 1
                question = [{"role": "user", "content": f"Write story {story} of listener {number} of {self._seed}."}]
                await self._ask(client, question, tokens, True, LONG, session=f"listener {number}, story {story}")
                tokens = self._mix.long_tokens
                due = perf_counter() + 0.1
        finally:
            client.close()

    async def _ask(
        self,
        client: Client,
        messages: list[dict[str, str]],
        tokens: int,
        stream: bool,
        kind: str = "",
        *,
        session: str,
    ) -> Verdict:
        body = chat.body(self._mix.model, messages, tokens, stream=stream, ignore_eos=True)
        kind = kind or (STREAM if stream else WHOLE)
        self.open[kind] += 1
        began = perf_counter()
        try:
            answer = await client.post(chat.PATH, body, self._mix.timeout_s)
        except asyncio.CancelledError:
            self.records.append(Record(kind, began, 0.0, perf_counter(), UNFINISHED, "", "", session=session))
            raise
        finally:
            self.open[kind] -= 1
        verdict = judge(answer, stream=stream, wanted=expected(messages, tokens))
        times = answer.sent_at, answer.first_at, answer.ended_at
        where = answer.headers.get("x-turnout-replica", ""), answer.headers.get("x-turnout-pod", "")
        self.records.append(Record(kind, *times, verdict.fault, *where, verdict.usage, session))
        return verdict


async def _set_before(event: asyncio.Event, due: float) -> bool:
    """Wait until `due` or until the event is set; returns whether it is."""
    left_s = due - perf_counter()
    if left_s > 0 and not event.is_set():
        try:
            async with asyncio.timeout(left_s):
                await event.wait()
        except TimeoutError:
            pass
    return event.is_set()
