"""What makes an answer whole. Pure: the answer of a simulated engine follows from its prompt, so it is known
beforehand, byte for byte; one that is shorter, longer or somebody else's is not taken for a good one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from loadtests.sim.simpod.text import answer_text, chat_text, prompt_of

_TOKEN = re.compile(rb'"content":"( [a-z]{3})"')
_DONE = b"data: [DONE]\n\n"


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class Usage(msgspec.Struct):
    """The engine's own count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were in the engine's cache."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


class _Message(msgspec.Struct):
    content: str = ""


class _Choice(msgspec.Struct):
    message: _Message | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None


NO_USAGE = Usage()


class Verdict(NamedTuple):
    """What is wrong with an answer ("": nothing), and what it says."""

    fault: str
    """"" | `no_answer` | `http_503` ... | `truncated` | `wrong_text` | `error_event` | `unreadable`"""
    text: str = ""
    usage: Usage = NO_USAGE


def expected(messages: Sequence[object], tokens: int) -> bytes:
    """What a simulated engine says to these messages when asked for exactly so many tokens."""
    return answer_text(prompt_of(chat_text(messages)).seed, tokens)


def judge(status: int, body: bytes, *, complete: bool, stream: bool, wanted: bytes) -> Verdict:
    """`complete`: the end of the message was seen. `wanted`: what the answer must say."""
    if status != 200:
        return Verdict(f"http_{status}" if status else "no_answer")
    if not complete:
        return Verdict("truncated")
    return _stream(body, wanted) if stream else _whole(body, wanted)


def _whole(body: bytes, wanted: bytes) -> Verdict:
    try:
        answer = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        return Verdict("unreadable")
    message = answer.choices[0].message if answer.choices else None
    text = message.content if message else ""
    return Verdict(_told_apart(text.encode(), wanted), text, answer.usage or NO_USAGE)


def _stream(body: bytes, wanted: bytes) -> Verdict:
    if not body.endswith(_DONE):
        return Verdict("error_event" if b'data: {"error"' in body else "truncated")
    said = b"".join(_TOKEN.findall(body))
    last = body[: -len(_DONE)].rstrip(b"\n").rpartition(b"data: ")[2]
    try:
        usage = msgspec.json.decode(last, type=_Body).usage
    except msgspec.DecodeError:
        return Verdict("unreadable")
    return Verdict(_told_apart(said, wanted), said.decode(), usage or NO_USAGE)


def _told_apart(said: bytes, wanted: bytes) -> str:
    if said == wanted:
        return ""
    return "truncated" if wanted.startswith(said) else "wrong_text"
