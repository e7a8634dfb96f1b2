"""HTTP/2's frames (RFC 9113): their numbers, and how each that is sent here is written. Pure; knows no state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Final

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
"""Types. PRIORITY, 2, means nothing any more."""

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20
"""Flags."""

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
"""Settings."""

HEAD_BYTES: Final = 9
LONGEST: Final = 1 << 14
"""Bytes of a frame's head, and of the longest frame until a side allows more."""

WINDOW: Final = 65_535
"""Bytes of a window until a side allows more."""

LAST_ID: Final = (1 << 31) - 1
"""The last stream, and the largest window. A GOAWAY that names it comes before the last one: no new streams, all of
those that there are."""


_HEAD: Final = Struct(">HBBBI").pack


class ErrorCode(IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionBroken(Exception):
    """The other side broke the protocol, so that nothing it sends can be understood any more."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    size = len(payload)
    return _HEAD(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: Mapping[int, int]) -> bytes:
    """The settings of this side."""
    pairs = [name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items()]
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def window_update(stream: int, more: int) -> bytes:
    """The other side may send so many bytes more."""
    return frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """The end of a stream at once."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int = ErrorCode.NO_ERROR) -> bytes:
    """No stream after this one is served."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def header_frames(stream: int, block: bytes, longest: int, *, end: bool) -> bytes:
    """A block of headers in as many frames as it needs."""
    flags = END_STREAM if end else 0
    if len(block) <= longest:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + longest] for at in range(0, len(block), longest)]
    made = [frame(HEADERS, flags, stream, pieces[0])]
    made += [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    return b"".join([*made, frame(CONTINUATION, END_HEADERS, stream, pieces[-1])])


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame holds beside padding and priority. Raises ConnectionBroken."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        begin, end = 1, end - (payload[0] if payload else 0)
    if flags & PRIORITIZED:
        begin += 5
    if begin > end:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame is shorter than its padding")
    return payload[begin:end] if flags & (PADDED | PRIORITIZED) else payload
