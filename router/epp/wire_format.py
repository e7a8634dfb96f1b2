"""Protobuf's wire format, read: fields of a message one after the other. Knows no message.

Protobuf's objects for the dozen messages of a request took as long as the pick; the tests hold both to be equal.
"""

from __future__ import annotations

from typing import Final

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
"""How a field is written."""

_LONGEST: Final = 63
"""Bits before the last byte of the longest number."""


class NotAMessage(ValueError):
    """Bytes that are no message."""


class Reader:
    """Goes through the fields of a message."""

    __slots__ = ("_at", "_begin", "_data", "number", "scalar", "value")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._begin = 0
        self.number = 0
        """Of a field that is text, bytes or a message; 0 for others."""
        self.scalar = 0
        """The number of a field that is a varint; 0 for others. One in the wrong way is another, unknown field."""
        self.value = 0
        """Of a varint."""

    @property
    def content(self) -> bytes:
        """A field that is text, bytes or a message."""
        return self._data[self._begin : self._at]

    def next(self) -> bool:
        """Go to the next field; false at the end. Raises NotAMessage."""
        data, at = self._data, self._at
        if at >= len(data):
            return False
        tag, second = data[at], data[at + 1] if at + 1 < len(data) else 0x80
        if tag & 0x85 or second >= 0x80:
            return self._next()
        self._begin = at + 2  # the usual case: few bytes, or a small number
        if tag & _BYTES:
            self.number, self.scalar, size = tag >> 3, 0, second
        else:
            self.number, self.scalar, self.value, size = 0, tag >> 3, second, 0
        self._at = at + 2 + size
        if self._at > len(data):
            raise NotAMessage("a field is cut off")
        return True

    def _next(self) -> bool:
        tag = self._varint()
        kind, self.number, self.scalar, size = tag & 7, 0, 0, 0
        if kind == _BYTES:
            self.number, size = tag >> 3, self._varint()
        elif kind == _VARINT:
            self.scalar, self.value = tag >> 3, self._varint()
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            raise NotAMessage(f"no field is written in way {kind}")
        self._begin = self._at
        self._at += size
        if self._at > len(self._data):
            raise NotAMessage("a field is cut off")
        return True

    def _varint(self) -> int:
        data, at, value, shift = self._data, self._at, 0, 0
        while at < len(data) and shift <= _LONGEST:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = at
                return value
            shift += 7
        raise NotAMessage("a number does not end")


def last(message: bytes, content: int, value: int) -> tuple[bytes, int]:
    """The last text or bytes of one field, and the last number of another; empty and 0 where there are none. Raises
    NotAMessage."""
    found, number, reader = b"", 0, Reader(message)
    while reader.next():
        if reader.number == content:
            found = reader.content
        if reader.scalar == value:
            number = reader.value
    return found, number


def part(message: bytes, at: int) -> bytes:
    """The last text or bytes of a field; empty where there is none. Raises NotAMessage."""
    return last(message, at, 0)[0]


def merged(message: bytes, at: int) -> bytes:
    """The message of a field. One that comes in parts is their fields together. Raises NotAMessage."""
    parts, reader = list[bytes](), Reader(message)
    while reader.next():
        if reader.number == at:
            parts.append(reader.content)
    return b"".join(parts)


def entry(message: bytes, key: bytes) -> bytes | None:
    """The message under this key of the map that is field 1. Raises NotAMessage."""
    found, entries = None, Reader(message)
    while entries.next():
        if entries.number == 1:
            each = entries.content
            if part(each, 1) == key:
                found = merged(each, 2)
    return found
