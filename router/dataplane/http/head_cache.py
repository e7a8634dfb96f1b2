"""Heads that were parsed before, so that the same bytes are not parsed twice. Pure; the caller parses.

A client sends the same head with every request of a connection, and a pod the same head with every answer of a second,
apart from the value of Content-Length. So a head is looked up by all its bytes without that value: equal bytes mean an
equal parse, and where the value is not digits the look-up fails. `make guard` counts 329,000 instructions a request
with heads that were seen before and 500,000 with new ones.
"""

from __future__ import annotations

from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

Key = tuple[bytes, bytes]
"""The bytes of a head before the value of Content-Length, and those after it."""

# A named tuple's own constructor costs 0.35 us, this 0.15 us: two heads a request are split.
_new: Final = tuple.__new__

END: Final = b"\r\n\r\n"
_VALUE: Final = b"ength: "
_NAME: Final = b"\r\ncontent-length: "
_MAX_DIGITS: Final = 12

NEW_IN_A_ROW: Final = 8
"""After so many heads of one connection that were all new, its heads are taken for new: a client that traces its
requests sends none twice, and looking up and storing one costs a third of parsing it."""
UNSEEN: Final = 4
"""How many of them are then neither looked up nor stored before one is again. More saves little, and parses as many
where the same heads come again."""


class HeadSplit(NamedTuple):
    """A head as it is looked up."""

    key: Key
    end: int
    """Index just past the blank line."""
    length: int
    """Content-Length; -1 where the head has none."""


class HeadCache(Generic[T]):
    """Parsed heads by their bytes. A full cache is emptied: each head in use is back with its next request."""

    MAX_ENTRIES: ClassVar = 2048
    MAX_HEAD_BYTES: ClassVar = 4096

    def __init__(self) -> None:
        self._known: dict[Key, T] = {}

    def get(self, key: Key) -> T | None:
        """The parsed head; None if it is not in the cache."""
        return self._known.get(key)

    def learn(self, key: Key, meaning: T) -> None:
        """Store a parsed head. `meaning` is shared from now on and must not change. A head with a line end other than
        CRLF is not stored, because parsers differ in where such a head ends."""
        text = b"".join(key)
        if not text.count(b"\n") == text.count(b"\r") == text.count(b"\r\n"):
            return
        if len(self._known) >= self.MAX_ENTRIES:
            self._known.clear()
        self._known[key] = meaning

    def __len__(self) -> int:
        return len(self._known)


class HeadLookup(Generic[T]):
    """Looks heads up in a `HeadCache` for one connection: the last one is tried first, without hashing or slices."""

    __slots__ = ("_after", "_before", "_heads", "_meaning", "_new_ones", "_skipped", "_unseen", "missed")

    def __init__(self, heads: HeadCache[T], unseen: int = 0) -> None:
        """`unseen`: how many heads to skip after `NEW_IN_A_ROW` new ones."""
        self._heads = heads
        self._meaning: T | None = None
        self._before = b""
        self._after = b""
        self._new_ones = 0
        """How many heads in a row were new."""
        self._unseen = unseen
        self._skipped = 0
        """How many more are taken for new."""
        self.missed: HeadSplit | None = None
        """After a `recall` that found nothing: the head that may be learned, if any."""

    def expect_new(self) -> None:
        """The next head was never seen: it is neither looked up nor learned."""
        self._skipped = 1

    def recall(self, data: bytes) -> tuple[T, int, int] | None:
        """The parsed head that `data` begins with, the index just past it, and its Content-Length (-1: none). None when
        it is not in the cache."""
        meaning, before = self._meaning, self._before
        if meaning is not None and data.startswith(before):
            after, at = self._after, len(before)
            if not after:
                return meaning, at, -1
            # Digit by digit, and a slice compared: compiled 0.2 us less than `find`, `isdigit`, `int` and `startswith`.
            eol, length = at, 0
            last = min(len(data), at + _MAX_DIGITS)
            while eol < last and 48 <= data[eol] <= 57:
                length = length * 10 + data[eol] - 48
                eol += 1
            end = eol + len(after)
            if eol > at and data[eol:end] == after:
                return meaning, end, length
        return self._look_up(data)

    def _look_up(self, data: bytes) -> tuple[T, int, int] | None:
        self.missed = None
        if self._skipped:
            self._skipped -= 1
            return None
        found = split(data)
        if found is None:
            return None
        (before, after), end, length = found
        meaning = self._heads.get(found.key)
        if meaning is None:
            self.missed = found
            self._new_ones += 1
            if self._new_ones >= NEW_IN_A_ROW:
                self._skipped = self._unseen
            return None
        self._new_ones = 0
        self._meaning = meaning
        self._before, self._after = (before + END, b"") if length < 0 else (before, after + END)
        return meaning, end, length


def split(data: bytes) -> HeadSplit | None:
    """Split the head off `data`, which is not empty. None where there is no whole head of at most `MAX_HEAD_BYTES`, or
    its Content-Length is not plain digits.

    A head begins with a capital letter (a method, or HTTP); blank lines before it are left to the parser.
    """
    end = data.find(END)
    if end < 0 or end > HeadCache.MAX_HEAD_BYTES or not 65 <= data[0] <= 90:
        return None
    at = data.find(_VALUE, 0, end)
    if at < 0:
        return _new(HeadSplit, ((data[:end], b""), end + 4, -1))
    at += 7
    if at < 18 or data[at - 18 : at].lower() != _NAME:
        return None  # some other header ends in "ength": not worth a second look
    eol = data.find(b"\r", at, end + 1)
    digits = data[at:eol]
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    return _new(HeadSplit, ((data[:at], data[eol:end]), end + 4, int(digits)))
