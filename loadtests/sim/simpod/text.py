"""Prompts to hash ids, and answers that follow from the prompt. Pure.

A token is four bytes of text, in prompts and answers: every token of an answer is a blank and a three-letter word. So
an answer has the same length and hashes as part of the next turn's prompt as when it was generated.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import xxhash

BYTES_PER_TOKEN = 4

_WORDS = (
    "the and for are but not you all any can had her was one our out day get has him his how man new now "
    "old see two way who boy did its let put say she too use dad mom sun sky red big box cat dog ear eye "
    "far few fly fox fun got hat hot ice joy key lab map net"
)
VOCABULARY = tuple(b" " + word.encode() for word in _WORDS.split())
"""64 tokens, so that six bits of a hash choose one."""
_NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}

_PAGE = 4096
_BOOK = b"".join(VOCABULARY[xxhash.xxh3_64_intdigest(b"%d" % at) & 63] for at in range(_PAGE))
"""Answers are read from here, from a place that the prompt's hash chooses."""


class Prompt(NamedTuple):
    """A prompt's text as an engine sees it."""

    text: bytes
    tokens: int
    seed: int
    """64 bits that follow from the text: an answer's only randomness."""
    begun: int = 0
    """Bytes at its end that are the beginning of the answer; the seed follows from those before."""
    ids: Sequence[int] = ()
    """Its tokens, if they were given as numbers."""

    def token_ids(self) -> list[int]:
        """The numbers of its tokens, as `token_id` gives them: routers ask for those of long prompts."""
        if self.ids:
            return list(self.ids)
        count = -(-len(self.text) // BYTES_PER_TOKEN)
        return list(struct.unpack(f"<{count}I", self.text.ljust(count * BYTES_PER_TOKEN, b"\0")))


def prompt_of(text: bytes) -> Prompt:
    """Count and hash a prompt's text; an empty one counts one token."""
    return Prompt(text, max(1, -(-len(text) // BYTES_PER_TOKEN)), xxhash.xxh3_64_intdigest(text))


def prompt_of_ids(ids: Sequence[int]) -> Prompt:
    """The prompt that token ids are; it may end with the beginning of its own answer."""
    return going_on(prompt_of(text_of(ids)))._replace(ids=ids, tokens=len(ids))


def chat_text(messages: Sequence[object], system: object = None, tools: object = None) -> bytes:
    """Messages through a chat template, up to where the answer starts. ValueError names what is no message."""
    parts = []
    if tools:
        parts.append("<|tools|>\n" + msgspec.json.encode(tools).decode() + "\n")
    if system is not None:
        parts.append("<|system|>\n" + content_text(system) + "\n")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError("each message is an object with a role")
        extra = message.get("tool_calls")
        calls = msgspec.json.encode(extra).decode() if extra else ""
        parts.append(f"<|{message['role']}|>\n{content_text(message.get('content'))}{calls}\n")
    parts.append("<|assistant|>\n")
    return "".join(parts).encode(errors="surrogatepass")


def chat_begun(messages: Sequence[object], tools: object = None) -> bytes:
    """The same where the last message is the beginning of the answer."""
    if not messages or not isinstance(messages[-1], dict):
        raise ValueError("there is no message to continue")
    return chat_text(messages[:-1], tools=tools) + content_text(messages[-1].get("content")).encode()


def going_on(prompt: Prompt) -> Prompt:
    """The prompt, as one that ends with the beginning of its own answer where it does: the next word is a function of
    all words before it, as with a real engine at temperature 0. The longest such beginning counts."""
    text = prompt.text
    first = len(text)
    while first >= BYTES_PER_TOKEN and text[first - BYTES_PER_TOKEN : first] in _NUMBERS:
        first -= BYTES_PER_TOKEN
    for at in range(first, len(text), BYTES_PER_TOKEN):
        seed = xxhash.xxh3_64_intdigest(text[:at])
        if seed & 63 == _NUMBERS[text[at : at + BYTES_PER_TOKEN]]:
            begun = len(text) - at
            if at and answer_text(seed, begun // BYTES_PER_TOKEN) == text[at:]:
                return prompt._replace(seed=seed, begun=begun)
    return prompt


def content_text(content: object) -> str:
    """A message's content: a string, a list of parts, or nothing; what is no text counts as its JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return msgspec.json.encode(content).decode()


def _part_text(part: object) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    return part if isinstance(part, str) else msgspec.json.encode(part).decode()


def answer_text(seed: int, tokens: int) -> bytes:
    """An answer of `tokens` tokens: equal seeds give equal texts, and a longer answer starts with the shorter one."""
    first = b"".join(VOCABULARY[seed >> shift & 63] for shift in (0, 6, 12, 18))
    start = (seed >> 24) % _PAGE * BYTES_PER_TOKEN
    need = max(0, tokens * BYTES_PER_TOKEN - len(first))
    rest = _BOOK[start : start + need]
    while len(rest) < need:
        rest += _BOOK[: need - len(rest)]
    return (first + rest)[: tokens * BYTES_PER_TOKEN]


def answer_length(seed: int, mean_tokens: float) -> int:
    """Where the answer would end by itself: exponentially distributed, at least 1, at most eight times the mean."""
    share = ((seed >> 11) + 1) / (2**53 + 1)
    return max(1, min(round(-mean_tokens * math.log(share)), round(8 * mean_tokens)))


def pieces_of(text: bytes) -> list[bytes]:
    """The text token by token."""
    return [text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN)]


def token_id(piece: bytes) -> int:
    """The number of a token."""
    return int.from_bytes(piece[:BYTES_PER_TOKEN], "little")


def text_of(tokens: Sequence[int]) -> bytes:
    """The text that token numbers stand for; the reverse of `pieces_of` and `token_id`."""
    return b"".join((token & 0xFFFFFFFF).to_bytes(BYTES_PER_TOKEN, "little").rstrip(b"\0") for token in tokens)


def chained_ids(text: bytes, block_tokens: int) -> list[int]:
    """One hash per full block of the text, each chained to the one before: equal ids mean an equal prefix."""
    size = block_tokens * BYTES_PER_TOKEN
    ids: list[int] = []
    chain = 0
    for at in range(0, len(text) - size + 1, size):
        chain = xxhash.xxh3_64_intdigest(text[at : at + size], chain)
        ids.append(chain)
    return ids
