"""A command as sent to a Redis server (RESP: an array of bulk strings). Knows no connection and no command.

hiredis packs most of them. It formats every part by C's `sprintf`: 1,300 instructions each, 30,000 a flush. Flushes are
sent hundreds of times a second, and most of their parts are always the same, so they are packed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import hiredis

Part: TypeAlias = bytes | str | int | float
"""An argument of a command. Text goes as UTF-8, numbers as Python writes them."""

_packed: Final = cast("Callable[[tuple[Part, ...]], bytes]", hiredis.pack_command)

_BEFORE: Final = tuple([b"\r\n$%d\r\n" % size for size in range(1024)])
"""By the size of the next part, in bytes: the separator before it."""


def pack(*command: Part) -> bytes:
    """A command's bytes; those of several may be joined and sent together."""
    return _packed(command)


class PreparedCommand:
    """A command whose first parts are always the same."""

    __slots__ = ("_first", "_first_bytes")

    def __init__(self, *first: Part) -> None:
        self._first = len(first)
        self._first_bytes = _packed(first)[len(b"*%d" % len(first)) : -2]
        """Without the count before the parts and the end of the last one."""

    def pack(self, rest: Sequence[bytes]) -> bytes:
        """The whole command; `rest` are its last parts."""
        parts = [b"*%d" % (self._first + len(rest)), self._first_bytes]
        for part in rest:
            size = len(part)
            parts.append(_BEFORE[size] if size < len(_BEFORE) else b"\r\n$%d\r\n" % size)
            parts.append(part)
        parts.append(b"\r\n")
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<PreparedCommand: {self._first} parts, {len(self._first_bytes)} bytes>"
