"""The little of WebSocket (RFC 6455) that a relay needs: what an offer is, the answer that accepts it, where a frame
ends, and a close frame. Pure; knows no message and no extension.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from router.dataplane.http.header_rules import KEEP, RESPONSE

SWITCHING: Final = b"HTTP/1.1 101"
"""How an answer begins that accepts an offer."""

HEAD: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
OFFER: Final = b"connection: Upgrade\r\nupgrade: websocket\r\n"

GOING_AWAY: Final = 1001
INTERNAL_ERROR: Final = 1011
"""Codes of close frames."""

MAX_REASON_BYTES: Final = 123

_CLOSE: Final = 0x8
_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")


def is_offer(method: bytes, header_map: Mapping[bytes, bytes]) -> bool:
    """Whether a request asks for a WebSocket."""
    return (
        method == b"GET"
        and b"sec-websocket-key" in header_map
        and header_map.get(b"upgrade", b"").strip().lower() == b"websocket"
        and b"upgrade" in {token.strip().lower() for token in header_map.get(b"connection", b"").split(b",")}
    )


def accepted(head: bytes) -> list[bytes]:
    """The lines of a pod's 101 that are passed on; `head` ends with its blank line. Raises ValueError."""
    lines = []
    for line in head[:-4].split(b"\r\n")[1:]:
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"not a header: {line[:32]!r}")
        name = found[1].lower()
        if RESPONSE.get(name, KEEP) & KEEP and not name.startswith(b"x-turnout-"):
            lines.append(name + b": " + found[2] + b"\r\n")
    return lines


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame."""
    payload = code.to_bytes(2) + reason.encode()[:MAX_REASON_BYTES]
    return bytes((0x80 | _CLOSE, len(payload))) + payload


def is_close(data: bytes) -> bool:
    """Whether these bytes, which came together from a client, are one close frame. A client's frames are not followed:
    they may be millions."""
    return 6 <= len(data) <= 131 and data[0] & 0xF == _CLOSE and len(data) == 6 + (data[1] & 0x7F)


class FrameScanner:
    """Follows the frames of one direction. Looks at their headers only."""

    __slots__ = ("_header", "_left", "closed")

    def __init__(self) -> None:
        self._header = b""
        """The beginning of a frame's header."""
        self._left = 0
        """Bytes of the present frame's payload that have not come."""
        self.closed = False
        """Whether a close frame has come: no other frame may follow it."""

    @property
    def between(self) -> bool:
        """Whether the last byte was the last of a frame, so that another frame may be put after it."""
        return not self._left and not self._header and not self.closed

    def feed(self, data: bytes) -> None:
        """Follow further bytes."""
        at, size = 0, len(data)
        while at < size:
            if self._left:
                here = min(self._left, size - at)
                self._left -= here
                at += here
                continue
            missing = _header_bytes(self._header) - len(self._header)
            self._header += data[at : at + missing]
            at += missing
            if len(self._header) == _header_bytes(self._header):
                self._left = _payload_bytes(self._header)
                self.closed = self.closed or self._header[0] & 0xF == _CLOSE
                self._header = b""


def _header_bytes(header: bytes) -> int:
    """The length of a header of which these bytes are the beginning, as far as they show it."""
    if len(header) < 2:
        return 2
    length = header[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if header[1] & 0x80 else 0)


def _payload_bytes(header: bytes) -> int:
    length = header[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(header[2 : 4 if length == 126 else 10])
