"""Where an answer ends and where it may be cut, by its framing alone. Pure: bytes in, positions out.

An answer's chunk framing is passed through as it came, so the only things to know are where the message ends and
which positions are safe: right after a chunk that ends an SSE event. Bytes past the last safe position are of no use to
an SSE reader yet, so holding them back delays nothing, and a pod that dies leaves the client at an event boundary,
where an error event can follow.
"""

from __future__ import annotations

from typing import Final

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_EVENT_ENDS: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
_LONGEST_END: Final = max(map(len, _EVENT_ENDS))
_MAX_LINE: Final = 4096


class BadChunk(ValueError):
    """Bytes that are not chunked framing."""


_SIZES: Final = {form % size: size for size in range(16, 4096) for form in (b"%x", b"%X")}
"""The size lines that a token's event has, two or three digits, read: a look-up instead of 1.0 us of parsing."""


class ChunkScanner:
    """Follows chunked framing (RFC 9112, 7.1) without copying or decoding the chunks."""

    __slots__ = ("_tail", "left", "line", "safe", "trailing")

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the current chunk still to come, its CRLF included."""
        self.line = b""
        self.trailing = False
        self.safe = 0
        """After `feed`: how many of its bytes end with a chunk that ends an SSE event."""
        self._tail = b""
        """The last payload bytes since the last safe position, for event ends that came in pieces."""

    def feed(self, data: bytes) -> int:
        """Read on. Returns the index just past the message's end, or -1 when there is more to come."""
        at, size = 0, len(data)
        if size > 20 and not self.left and not self.line and not self.trailing:
            # What an engine sends a token at a time: one whole chunk, one whole event. Bytes looked at one by one,
            # because a `find` costs as much, compiled, as all of this.
            eol = 3 if data[3] == 13 else 2
            if (
                data[eol] == 13
                and data[eol + 1] == 10
                and eol + 4 + _SIZES.get(data[:eol], size) == size
                and data.endswith(b"\n\n\r\n")
            ):
                self.safe = size
                self._tail = b""
                return -1
        self.safe = 0
        while at < size:
            if self.left:
                end = at + self.left
                if end > size:
                    self.left = end - size
                    self._tail = (self._tail + data[at:])[-_LONGEST_END:]
                    return -1
                if data[end - 1] != 10:
                    raise BadChunk("a chunk is longer than it says")
                if data.endswith(_EVENT_ENDS, at, end) or self._ends_here(data[at:end]):
                    self.safe = end
                    self._tail = b""
                at, self.left = end, 0
                continue
            eol = data.find(b"\n", at)
            if eol < 0:
                self._keep(data[at:])
                return -1
            line = (self.line + data[at:eol]).rstrip(b"\r")
            self.line = b""
            at = eol + 1
            if self.trailing:
                if not line:
                    return at
            else:
                self._size(line)
        return -1

    def _ends_here(self, rest: bytes) -> bool:
        """Whether a chunk's `rest`, its CRLF included, ends an event that began in earlier chunks or reads."""
        seen = self._tail + rest[-_LONGEST_END:]
        self._tail = seen[:-2][-_LONGEST_END:]
        return seen.endswith(_EVENT_ENDS)

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
            raise BadChunk(f"not a chunk size: {line[:32]!r}")
        length = int(digits, 16)
        if length:
            self.left = length + 2
        else:
            self.trailing = True

    def _keep(self, part: bytes) -> None:
        self.line += part
        if len(self.line) > _MAX_LINE:
            raise BadChunk("a chunk header without an end")


def payloads(scanner: ChunkScanner, data: bytes) -> tuple[list[bytes], int]:
    """The chunk contents of `data` (for a client that knows no chunks), and what `feed` would return."""
    out: list[bytes] = []
    at = 0
    while at < len(data):
        if scanner.left:
            whole = scanner.left
            piece = data[at : at + whole]
            scanner.left = whole - len(piece)
            keep = len(piece) - max(0, 2 - scanner.left)
            if keep > 0:
                out.append(piece[:keep])
            at += len(piece)
            continue
        eol = data.find(b"\n", at)
        upto = eol + 1 if eol >= 0 else len(data)
        if scanner.feed(data[at:upto]) >= 0:
            return out, upto
        at = upto
    return out, -1


def events_end(payload: bytes) -> int:
    """The position just past the last SSE event that ends in `payload`; 0 where none does."""
    end = payload.rfind(b"\n\n") + 2
    crlf_end = payload.rfind(b"\r\n\r\n") + 4
    return max(end if end > 1 else 0, crlf_end if crlf_end > 3 else 0)
