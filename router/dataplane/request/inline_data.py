"""Inline images and audio in a prompt: how many there are, and how many bytes of base64. Pure; knows no JSON.

Base64 says nothing of the number of tokens, so a clip counts for a fixed number. Every step looks at each byte at most
a few times, whatever the text is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from schedulers.types import BYTES_PER_TOKEN

IMAGE_TOKENS: Final = 1024
"""Tokens that an inline image or audio clip counts for, instead of its base64 length."""

DATA_BYTES: Final = IMAGE_TOKENS * BYTES_PER_TOKEN
"""Base64 text of at least this many bytes counts as an image; shorter text counts by its length."""

_BLANK: Final = 0x20
_NEAR: Final = 24
"""How many bytes are searched for a blank one by one before `rfind` is called: 0.2 us faster where words are short."""

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_MARKS: Final = bytes([0x41 if code in _BASE64 else _BLANK for code in range(256)])
"""By byte: the letter A for one of base64, a blank for any other."""


class InlineData(NamedTuple):
    """The clips in a text."""

    clips: int
    size: int
    """Bytes of all of them."""


def may_hold_data(body: bytes) -> bool:
    """Whether a body has a word as long as data, and a mark of it. On 32 KB of prose, counting the data itself costs 40
    us, looking for the marks of data URLs, Anthropic's sources and OpenAI's audio 10 us (five bytes each, because
    CPython's search skips faster for needles under six), and for a word as long as data 1.5 us."""
    return _has_long_word(body) and (b"ase64" in body or b"_audi" in body)


def inline_data(text: bytes | memoryview) -> InlineData:
    """The runs of at least `DATA_BYTES` of base64. Such a run covers a multiple of `DATA_BYTES`, so only the runs at
    these positions are measured, from the end of the last one measured to the first other byte."""
    marks = bytes(text).translate(_MARKS)
    clips = size = end = 0
    at, last = 0, len(marks)
    while at < last:
        if marks[at] != _BLANK:
            start = marks.rfind(b" ", end, at) + 1 or end
            end = marks.find(b" ", at)
            if end < 0:
                end = last
            if end - start >= DATA_BYTES:
                clips += 1
                size += end - start
            at = end - end % DATA_BYTES
        at += DATA_BYTES
    return InlineData(clips, size)


def _has_long_word(body: bytes) -> bool:
    """Whether there are `DATA_BYTES` without a blank. In prose, only a few bytes of each such stretch are read."""
    at, last = 0, len(body) - DATA_BYTES
    while at <= last:
        blank = at + DATA_BYTES - 1
        near = blank - _NEAR
        while blank > near and body[blank] != _BLANK:
            blank -= 1
        if blank == near:
            blank = body.rfind(b" ", at, near + 1)
            if blank < 0:
                return True
        at = blank + 1
    return False
