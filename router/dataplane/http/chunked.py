"""Chunked framing (RFC 9112, 7.1), read strictly and in both directions: uploads of clients and answers of pods. Pure.

Chunks are passed on as they came, so what is let through must have one reading only: every line ends with CRLF, a size
is hexadecimal digits, an extension follows the grammar, a trailer is a header line with a name that a trailer may have.
Trailers are read and dropped.
"""

from __future__ import annotations

import re
from typing import Final

from router.dataplane.http.header_rules import NO_TRAILERS

LAST_CHUNK: Final = b"0\r\n\r\n"

_SIZE_LINES: Final = tuple([b"%x\r\n" % size for size in range(4096)])
"""By the size of a chunk: those of most events, made once."""

_MAX_LINE: Final = 4096
_MAX_TRAILER_BYTES: Final = 8192
_MAX_EXCESS: Final = 16384
"""Bytes of framing beyond what ordinary chunks have. Without a bound a body of a few bytes could cost gigabytes."""
_LINE_ALLOWANCE: Final = 16
"""Bytes that an ordinary size line may have."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED)
)
_SIZE_LINE_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{0,15}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*|[ \t]*)\r?")
_TRAILER: Final = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*\r\n" % _TOKEN)

_SIZES: Final = {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}
"""Size lines of up to three digits, as events of one token have, and their values: a look-up saves 1.0 us a token."""


class BadChunk(ValueError):
    """The bytes are not chunked framing."""


class ChunkScanner:
    """Follows one chunked message without copying its chunks."""

    __slots__ = ("_excess", "left", "safe", "settled")

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the current chunk still to come, its CRLF included."""
        self.settled = 0
        """After `feed`: how many of its bytes are read for good and may be passed on. The rest, a line's beginning,
        is to be given to it again, in front of the next bytes. At the message's end: index of the last chunk."""
        self.safe = 0
        """After `feed`: how many of its bytes end with a whole chunk."""
        self._excess = 0

    def feed(self, data: bytes, payload: list[bytes] | None = None) -> int:
        """Read further bytes; `payload` gets the contents of the chunks. Returns the index just past the message's end,
        or -1 before it. Raises BadChunk."""
        size = len(data)
        if size > 20 and not self.left and payload is None:
            # One whole chunk, as engines send for each token. Bytes are compared one by one: compiled, a single `find`
            # costs as much as all of this.
            eol = 3 if data[3] == 13 else 2
            if (
                data[eol] == 13
                and data[eol + 1] == 10
                and data[size - 2] == 13
                and data[size - 1] == 10
                and eol + 4 + _SIZES.get(data[:eol], size) == size
            ):
                self.safe = self.settled = size
                return -1
        return self._feed(data, size, payload)

    def passed(self, data: bytes, end: int) -> bytes:
        """What may be passed on of `data`, for which `feed` returned `end`: no trailers, and no line in part."""
        if end < 0:
            return data[: self.settled]
        if end - self.settled == len(LAST_CHUNK):
            return data if end == len(data) else data[:end]
        return data[: self.settled] + LAST_CHUNK

    def _feed(self, data: bytes, size: int, payload: list[bytes] | None) -> int:
        at = self.safe = 0
        while True:
            left = self.left
            if left:
                end = at + left
                if end > size:
                    here = min(size - at, left - 2)  # the CRLF behind the data is read whole
                    if payload is not None:
                        payload.append(data[at : at + here])
                    self.left = left - here
                    self.settled = at + here
                    return -1
                if data[end - 2] != 13 or data[end - 1] != 10:
                    raise BadChunk("a chunk is longer than it says")
                if payload is not None:
                    payload.append(data[at : end - 2])
                self.left = 0
                at = self.safe = end
            self.settled = at
            after = self._size(data, at, size)
            if after < 0:
                return -1
            if not self.left:
                return self._trailers(data, after, size)
            at = after

    def _size(self, data: bytes, at: int, size: int) -> int:
        """Read a size line into `left`; returns the index just past it, or -1 if it is not whole."""
        if at + 5 <= size:
            eol = at + 1 if data[at + 1] == 13 else at + 2 if data[at + 2] == 13 else at + 3
            if data[eol] == 13 and data[eol + 1] == 10 and (length := _SIZES.get(data[at:eol], 0)):
                self.left = length + 2
                return eol + 2
        line = _SIZE_LINE.match(data, at, at + _MAX_LINE)
        if line is None:
            if size - at > _MAX_LINE or not _SIZE_LINE_BEGUN.fullmatch(data, at):
                raise BadChunk(f"not a chunk size: {data[at : at + 32]!r}")
            return -1
        after, length = line.end(), int(line[1], 16)
        self.left = length + 2 if length else 0
        self._excess = max(0, self._excess + after - at - _LINE_ALLOWANCE - 2 * length)
        if self._excess > _MAX_EXCESS:
            raise BadChunk("its chunks are mostly extensions")
        return after

    def _trailers(self, data: bytes, at: int, size: int) -> int:
        """Read what follows the last chunk's size line. Until its end has come it is read anew each time."""
        start = at
        while not data.startswith(b"\r\n", at):
            line = _TRAILER.match(data, at, at + _MAX_TRAILER_BYTES)
            if line is None:
                if (
                    data.find(b"\n", at) >= 0
                    or size - start > _MAX_TRAILER_BYTES
                    or data.find(b"\r", at, size - 1) >= 0
                ):
                    raise BadChunk(f"not a trailer: {data[at : at + 32]!r}")
                return -1
            name = line[1].lower()
            if name in NO_TRAILERS or name.startswith(b"x-turnout-"):
                raise BadChunk(f"{name[:32]!r} may not be a trailer")
            at = line.end()
            if at - start > _MAX_TRAILER_BYTES:
                raise BadChunk("its trailers are too large")
        return at + 2


def chunk(data: bytes) -> bytes:
    """The data as one chunk."""
    return b"%b%b\r\n" % (size_line(len(data)), data)


def size_line(size: int) -> bytes:
    """The line before a chunk of so many bytes."""
    return _SIZE_LINES[size] if size < len(_SIZE_LINES) else b"%x\r\n" % size
