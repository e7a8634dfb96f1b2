"""What is sent: one case is one kind of request at one concurrency. Pure; who sends it is `wrk.py`'s business."""

from __future__ import annotations

import json
from typing import NamedTuple

GROUPS = 64
"""Different system prompts that requests share, so that a prefix index has something to find."""

SERIAL = "%012d"
"""Where each request's own number goes, in printf's words: what makes every prompt new at its end."""


class Case(NamedTuple):
    """One kind of load."""

    name: str
    prompt_bytes: int
    """Length of the whole request body."""
    connections: int
    stream: bool = False


CASES = {
    "smoke": Case("smoke", prompt_bytes=1200, connections=32),
}


def bodies(case: Case) -> list[tuple[str, str]]:
    """For each group, the body before and after the serial number; all bodies are `prompt_bytes` long."""
    return [_body(case, group) for group in range(GROUPS)]


def _body(case: Case, group: int) -> tuple[str, str]:
    question = f"{SERIAL} and what follows from it?"
    empty = _encode(case, "", question)
    room = case.prompt_bytes - len(empty) + len(SERIAL) - len(SERIAL % 0)
    if room < 0:
        raise ValueError(f"a body of {case.prompt_bytes} bytes is too short for its frame of {len(empty)}")
    text = f"You are assistant {group:02d}. " + "Answer briefly and cite the manual. " * (room // 36 + 1)
    before, after = _encode(case, text[:room], question).split(SERIAL)
    return before, after


def _encode(case: Case, system: str, question: str) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    body = {"model": "bench", "max_tokens": 64, "stream": case.stream, "messages": messages}
    return json.dumps(body, separators=(",", ":"))
