"""What the gateway knows of server-sent events: how their lines and events end, and which event is the last. Pure.

Only the end of what a client has is looked at, and only when an answer ends before its time.
"""

from __future__ import annotations

import re
from typing import Final

LINE_ENDS: Final = (b"\n", b"\r")
EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")

_LAST_TYPES: Final = rb"(?:message_stop|response\.(?:completed|incomplete|failed|cancelled|done))"
_LAST_EVENT: Final = re.compile(
    rb'(?:^|[\r\n])(?:data: ?\[DONE\]|event: ?%b[\r\n]|data: ?\{ ?"type": ?"%b")' % (_LAST_TYPES, _LAST_TYPES)
)
"""The events after which clients close: that of chats and completions, of /v1/messages and of /v1/responses. A line of
its own begins each; in the text that a model wrote, line ends are escaped."""

_FRONT_BYTES: Final = 64


def has_last_event(passed: bytes) -> bool:
    """Whether the bytes that were passed on last hold the event after which clients close."""
    return _LAST_EVENT.search(passed) is not None


def kept_of(piece: bytes, most: int) -> bytes:
    """At most about `most` bytes of a piece of a stream: enough for the questions of this file. The event that ends an
    answer of /v1/responses repeats the answer, so its type stands far from the end."""
    if len(piece) <= most:
        return piece
    at = -1
    if b"event: response." in piece:
        at = max(piece.rfind(b"event: response." + name) for name in (b"completed", b"incomplete", b"failed"))
    front = piece[:_FRONT_BYTES] if at < 0 else piece[max(0, at - 1) : at + _FRONT_BYTES]
    return front + b" " + piece[-most:]
