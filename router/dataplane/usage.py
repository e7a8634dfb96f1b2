"""The tokens of an answer as its engine reports them, read from the answer's end. Pure; knows no request and no pod.

No body is parsed: `usage` stands at the end, and its numbers are searched for by name. Text that a model wrote cannot
be taken for them, because in a JSON string every quote is escaped.
"""

from __future__ import annotations

import re
from typing import Final

_USAGE: Final = '"usage":'
_PROMPT: Final = '"prompt_tokens":'
_ANSWER: Final = '"completion_tokens":'
_OTHER: Final = 'put_tokens":'
"""In the names of Anthropic's API and of Responses: `input_tokens`, `output_tokens`."""

_PROMPTS: Final = re.compile(rb'"(prompt_|input_|cache_read_input_|cache_creation_input_)tokens": ?(\d{1,9})\b')
_ANSWERS: Final = re.compile(rb'"(?:completion|output)_tokens": ?(\d{1,9})\b')


class Usage:
    """Tokens of a prompt and of its answer; -1 where the engine does not say."""

    __slots__ = ("answer", "prompt")

    def __init__(self, prompt: int, answer: int) -> None:
        self.prompt = prompt
        self.answer = answer

    def named(self) -> dict[str, int]:
        """What is known, by OpenAI's names."""
        found = {"prompt_tokens": self.prompt} if self.prompt >= 0 else {}
        return {**found, "completion_tokens": self.answer} if self.answer >= 0 else found

    def __repr__(self) -> str:
        return f"<Usage {self.prompt} + {self.answer}>"


UNKNOWN: Final = Usage(-1, -1)
"""Of an answer whose end reports nothing."""


def usage_of(tail: bytes) -> Usage:
    """What the end of an answer reports."""
    text = tail.decode("latin-1")  # a character for each byte: compiled, searches of text take a third of the time
    at = text.rfind(_USAGE)
    if at < 0:
        return UNKNOWN
    prompt_at, answer_at = text.rfind(_PROMPT, at), text.find(_ANSWER, at)
    if prompt_at > 0 and answer_at > 0 and text.find(_OTHER, at) < 0:
        prompt, answer = _count(tail, prompt_at + len(_PROMPT)), _count(tail, answer_at + len(_ANSWER))
        if prompt >= 0 and answer >= 0:
            return Usage(prompt, answer)
    return _search(tail, at)


def _count(text: bytes, at: int) -> int:
    """The number that begins there and ends before a comma or a brace; -1 for anything else."""
    end, count = len(text), 0
    if at < end and text[at] == 32:
        at += 1
    last = min(end, at + 9)
    begin = at
    while at < last and 48 <= text[at] <= 57:
        count = count * 10 + text[at] - 48
        at += 1
    return count if begin < at < end and (text[at] == 44 or text[at] == 125) else -1


def _search(tail: bytes, at: int) -> Usage:
    """The numbers in any form. Anthropic counts what was read from the cache and written to it apart; the prompt is the
    sum."""
    prompts, answer = dict(_PROMPTS.findall(tail, at)), _ANSWERS.search(tail, at)
    if not prompts and answer is None:
        return UNKNOWN
    prompt = sum(map(int, prompts.values())) if prompts else -1
    return Usage(prompt, int(answer[1]) if answer is not None else -1)
