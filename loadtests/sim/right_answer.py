"""Whether an answer is right. Pure: the answer of a simulated engine follows from its prompt, so it is known
beforehand, byte for byte; one that is shorter, longer or another prompt's is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from loadtests.sim import chat
from loadtests.sim.chat import Usage
from loadtests.sim.http_client import Answer
from loadtests.sim.simpod.text import answer_text, chat_text, prompt_of

NO_USAGE = Usage()


class Verdict(NamedTuple):
    """What is wrong with an answer, and its text."""

    fault: str
    """"" | `no_answer` | `http_503` ... | `truncated` | `wrong_text` | `error_event` | `unreadable`"""
    text: str = ""
    usage: Usage = NO_USAGE


def expected(messages: Sequence[object], tokens: int) -> bytes:
    """A simulated engine's answer to these messages when asked for exactly `tokens` tokens."""
    return answer_text(prompt_of(chat_text(messages)).seed, tokens)


def judge(answer: Answer, *, stream: bool, wanted: bytes) -> Verdict:
    """Compare an answer with the text that it must have."""
    if answer.status != 200:
        return Verdict(f"http_{answer.status}" if answer.status else "no_answer")
    if not answer.complete:
        return Verdict("truncated")
    try:
        return _stream(answer, wanted) if stream else _whole(answer, wanted)
    except msgspec.DecodeError:
        return Verdict("unreadable")


def _whole(answer: Answer, wanted: bytes) -> Verdict:
    completion = chat.read(answer.body)
    return Verdict(_fault(completion.text, wanted), completion.text, completion.usage or NO_USAGE)


def _stream(answer: Answer, wanted: bytes) -> Verdict:
    said, usage, data = "", NO_USAGE, b""
    for data, _ in chat.events(answer.pieces, answer.times):
        if data == chat.DONE:
            continue
        event = chat.read(data)
        if event.error is not None:
            return Verdict("error_event")
        said += event.text
        usage = event.usage or usage
    if data != chat.DONE:
        return Verdict("truncated")
    return Verdict(_fault(said, wanted), said, usage)


def _fault(said: str, wanted: bytes) -> str:
    text = said.encode()
    if text == wanted:
        return ""
    return "truncated" if wanted.startswith(text) else "wrong_text"
