"""The parts of a span as protobuf writes them (opentelemetry/proto/trace/v1/trace.proto). Pure: knows no request, no
collector and no library.

The SDK makes objects of spans, attributes and messages, each copied into the next one, which costs a recorded request
more than all of its routing.
"""

from __future__ import annotations

import struct
from typing import Final

from router.protobuf import field, varint

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans."""

_SPAN: Final = 2
_ATTRIBUTE: Final = 9
"""Fields of `ScopeSpans` and of `Span`."""

_DOUBLE: Final = struct.Struct("<d").pack
_TIME: Final = struct.Struct("<Q").pack
_TIMES: Final = struct.Struct("<BQBQ").pack
_ID: Final = struct.Struct(">Q").pack


def text_attribute(name: str, value: str) -> bytes:
    """An attribute whose value is text."""
    return field(_ATTRIBUTE, field(1, name.encode()) + field(2, field(1, value.encode())))


def flag_attribute(name: str, *, value: bool) -> bytes:
    """An attribute that is true or false."""
    return field(_ATTRIBUTE, field(1, name.encode()) + field(2, b"\x10\x01" if value else b"\x10\x00"))


class CountAttribute:
    """An attribute whose value is a whole number."""

    __slots__ = ("_before",)

    def __init__(self, name: str) -> None:
        """`name` has at most 100 bytes."""
        key = field(1, name.encode())
        sizes = range(11)
        self._before = [
            bytes((_ATTRIBUTE << 3 | 2, len(key) + 3 + size)) + key + bytes((0x12, 1 + size, 0x18)) for size in sizes
        ]
        """What precedes a number of so many bytes."""

    def of(self, value: int) -> bytes:
        """The attribute with this value."""
        number = varint(value)
        return self._before[len(number)] + number


class SecondsAttribute:
    """An attribute whose value is a number of seconds."""

    __slots__ = ("_before",)

    def __init__(self, name: str) -> None:
        """`name` has at most 100 bytes."""
        key = field(1, name.encode())
        self._before = bytes((_ATTRIBUTE << 3 | 2, len(key) + 11)) + key + b"\x12\x09\x21"

    def of(self, value: float) -> bytes:
        """The attribute with this value."""
        return self._before + _DOUBLE(value)


class EventName:
    """An event without attributes."""

    __slots__ = ("_after", "_before")

    def __init__(self, name: str) -> None:
        """`name` has at most 100 bytes."""
        self._after = field(2, name.encode())
        self._before = bytes((11 << 3 | 2, 9 + len(self._after), 0x09))

    def at(self, unix_ns: int) -> bytes:
        """The event at this time."""
        return self._before + _TIME(unix_ns) + self._after


def named(name: str, kind: int, *, failed: bool = False) -> bytes:
    """Name, kind and status."""
    return field(5, name.encode()) + b"\x30" + varint(kind) + (b"\x7a\x02\x18\x02" if failed else b"\x7a\x00")


def begin(trace_id: int) -> bytes:
    """What all spans of a trace begin with; the span's `id_bytes` follow."""
    return b"\x0a\x10" + _ID(trace_id >> 64) + _ID(trace_id & 0xFFFF_FFFF_FFFF_FFFF) + b"\x12\x08"


def id_bytes(span_id: int) -> bytes:
    """A span's id."""
    return _ID(span_id)


def below(parent_id: int) -> bytes:
    """The span's parent."""
    return b"\x22\x08" + _ID(parent_id)


def times(start_ns: int, end_ns: int) -> bytes:
    """Start and end, in Unix nanoseconds."""
    return _TIMES(0x39, start_ns, 0x41, end_ns)


LOCAL_PARENT: Final = b"\x85\x01" + struct.pack("<I", 0x100)
REMOTE_PARENT: Final = b"\x85\x01" + struct.pack("<I", 0x300)
"""Whether the parent is in another process, or there is none."""


def span(parts: list[bytes]) -> bytes:
    """A span of these parts, as a scope holds it."""
    return field(_SPAN, b"".join(parts))
