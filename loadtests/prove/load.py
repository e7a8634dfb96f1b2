"""The client: sends requests at their moments to the replicas in rotation, in turns, and judges every answer.

Nothing is sent twice. A replica that is taken out of the rotation keeps the requests that it has.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from time import perf_counter
from typing import NamedTuple

from loadtests.processes.replica import ReplicaProcess
from loadtests.prove.traffic import Question
from loadtests.sim import chat
from loadtests.sim.http_client import Client
from loadtests.sim.ports import HOST
from loadtests.sim.right_answer import judge

TIMEOUT_S = 60.0
"""Longer than any request here takes, also on a busy machine: a request without an end by then is stuck."""


class Sent(NamedTuple):
    """One request and its fate. Times are `perf_counter`'s."""

    replica: str
    pod: str
    began: float
    first: float
    """The first byte of the answer's body."""
    ended: float
    fault: str
    """"": a whole and right answer."""
    prompt_tokens: int
    cached_tokens: int
    stream: bool

    @property
    def ttft_s(self) -> float:
        """Seconds to the first byte of the body."""
        return self.first - self.began


class Rotation:
    """The replicas that get requests, and the connections to each."""

    def __init__(self) -> None:
        self.replicas: list[ReplicaProcess] = []
        self.sent: list[Sent] = []
        self._turn = count()
        self._idle: defaultdict[int, list[Client]] = defaultdict(list)

    async def ask(self, question: Question, replica: ReplicaProcess | None = None) -> Sent:
        """One request, to this replica or to the next in turn."""
        slot = (replica or self.replicas[next(self._turn) % len(self.replicas)]).slot
        idle = self._idle[slot.port]
        client = idle.pop() if idle else Client(HOST, slot.port)
        answer = await client.post(chat.PATH, question.body, TIMEOUT_S)
        idle.append(client)
        verdict = judge(answer, stream=question.stream, wanted=question.wanted)
        sent = Sent(
            answer.headers.get("x-turnout-replica", slot.name),
            answer.headers.get("x-turnout-pod", ""),
            answer.sent_at,
            answer.first_at,
            answer.ended_at,
            verdict.fault,
            verdict.usage.prompt_tokens,
            verdict.usage.cached_tokens,
            question.stream,
        )
        self.sent.append(sent)
        return sent

    async def play(self, questions: Iterable[Question], replica: ReplicaProcess | None = None) -> list[Sent]:
        """All of them, each at its moment from now; returns when the last has ended."""
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            asked = []
            for question in questions:
                await asyncio.sleep(max(0.0, began + question.at_s - perf_counter()))
                asked.append(group.create_task(self.ask(question, replica)))
        return [each.result() for each in asked]

    def close(self) -> None:
        """Close the connections."""
        for clients in self._idle.values():
            for client in clients:
                client.close()
        self._idle.clear()
