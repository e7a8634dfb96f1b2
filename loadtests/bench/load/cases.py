"""The loads: one case is one kind of request at one concurrency. Pure: `wrk.py` and `streams.py` send it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

ACTIVE = 64
"""Concurrent conversations, each one turn at a time."""

SERIAL = "%012d"
"""The printf format of each conversation's number, which makes its prompts unique."""

TURN_BYTES = 600
"""Added by each turn, question and answer together."""


class Case(NamedTuple):
    """One kind of load."""

    name: str
    prompt_bytes: int
    """Length of the whole request body; of the first turn's, where there are more."""
    connections: int
    seconds: int = 2
    """Of load, per peer and repeat."""
    repeats: int = 3
    stream: bool = False
    gap_s: float = 0.0
    """Between two chunks of a stream; 0 is full speed."""
    ramp_s: float = 0.5
    """Streams are opened over this time, before anything is counted."""
    turns: int = 1
    groups: int = 64
    """Number of system prompts that requests share, so that a prefix index finds matches."""
    title: str = ""


_PACED = Case("paced", 1_200, 256, seconds=3, repeats=2, stream=True)

CASES = {
    case.name: case
    for case in (
        Case("1k", 1_200, 32, title="1.2 KB prompt, whole answer, 32 connections"),
        Case("32k", 32_768, 16, groups=32, title="32 KB prompt, whole answer, 16 connections"),
        Case("400k", 409_600, 8, seconds=1, groups=8, title="400 KB prompt, whole answer, 8 connections"),
        Case("conversations", 1_200, 32, seconds=1, turns=10, title="10 turns of 0.6 KB, 32 connections"),
        Case("one", 1_200, 1, seconds=1, title="one connection, 1.2 KB prompt, whole answer"),
        Case("stream", 1_200, 32, stream=True, title="64-chunk streams at full speed, 32 connections"),
        _PACED._replace(name="paced-256", gap_s=0.02, ramp_s=1.3, title="256 streams, a chunk every 20 ms"),
        _PACED._replace(
            name="paced-2000", connections=2_000, gap_s=0.2, ramp_s=2.5, title="2,000 streams, a chunk every 200 ms"
        ),
        _PACED._replace(
            name="paced-5000",
            connections=5_000,
            gap_s=0.5,
            ramp_s=5,
            seconds=2,
            repeats=1,
            title="5,000 streams, a chunk every 500 ms",
        ),
    )
}
"""2,000 streams at 20 ms would be 100,000 chunks a second, more than one core of engines and load generator can send
and read: with the gaps given here all three paced cases carry 10,000 to 13,000 chunks a second."""

SMOKE = CASES["1k"]._replace(name="smoke")


def bodies(case: Case) -> list[tuple[str, str]]:
    """The body before and after the serial number, for each group and each of its turns (group 0's turns first).

    First turns are all `prompt_bytes` long.
    """
    return [body for group in range(case.groups) for body in _conversation(case, group)]


def _conversation(case: Case, group: int) -> Iterator[tuple[str, str]]:
    question = f"{SERIAL} and what follows from it?"
    empty = _encode(case, "", [question])
    room = case.prompt_bytes - len(empty) + len(SERIAL) - len(SERIAL % 0)
    if room < 0:
        raise ValueError(f"a body of {case.prompt_bytes} bytes is too short for its frame of {len(empty)}")
    text = f"You are assistant {group:02d}. " + "Answer briefly and cite the manual. " * (room // 36 + 1)
    said = [question]
    for turn in range(case.turns):
        before, after = _encode(case, text[:room], said).split(SERIAL)
        yield before, after
        said += [f"Answer {turn}. " + "x" * (TURN_BYTES - 60), f"And then, after {turn}?"]


def _encode(case: Case, system: str, said: list[str]) -> str:
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}]
    messages += [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    body = {"model": "bench", "max_tokens": 64, "stream": case.stream, "messages": messages}
    return json.dumps(body, separators=(",", ":"))


def place(number: int, case: Case) -> tuple[int, int]:
    """Which conversation the `number`-th request belongs to, and which body of `bodies` it sends.

    `ACTIVE` conversations take turns; when all have had their last one, as many new ones begin.
    """
    conversation = number // (ACTIVE * case.turns) * ACTIVE + number % ACTIVE
    return conversation, conversation % case.groups * case.turns + number // ACTIVE % case.turns
