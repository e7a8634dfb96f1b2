"""How protobuf writes numbers and fields. Pure; knows no message.

Protobuf's own objects for a message of a few fields take longer than what is done with it, so the endpoint picker's
messages and the spans of traces are written from these; tests hold both against protobuf's.
"""

from __future__ import annotations

from typing import Final

_BYTES: Final = 2
"""How a field of a length and bytes is marked."""

_ONE: Final = [bytes((number,)) for number in range(256)]


def varint(number: int) -> bytes:
    """A number of 64 bits; a negative one as its two's complement."""
    if 0 <= number < 0x4000:  # a length, as a rule
        return _ONE[number] if number < 0x80 else _ONE[number & 0x7F | 0x80] + _ONE[number >> 7]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    parts = []
    while number > 0x7F:
        parts.append(_ONE[number & 0x7F | 0x80])
        number >>= 7
    parts.append(_ONE[number])
    return b"".join(parts)


def field(number: int, content: bytes) -> bytes:
    """A field that is text, bytes or a message; `number` is at most 15."""
    return b"".join([_ONE[number << 3 | _BYTES], varint(len(content)), content])


def nested(numbers: tuple[int, ...], content: bytes) -> bytes:
    """A field in a field; the innermost comes first. The content is copied once."""
    head = b""
    for number in numbers:
        head = _ONE[number << 3 | _BYTES] + varint(len(head) + len(content)) + head
    return head + content
