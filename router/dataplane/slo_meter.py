"""Measures an answer against the times that its request was promised, and counts its tokens. Stands between a pod's
connection and the relay, only for requests that were promised any times, whose tokens are limited, or whose policy is
on trial. Knows no policy.
"""

from __future__ import annotations

import re
from typing import Final

from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.relay import Relay
from router.errors import PodFailure
from router.telemetry.metrics import KEPT, LATE, SLOW
from schedulers.types import BYTES_PER_TOKEN, Slo

FRAMING_EVENTS: Final = 2
"""Events of a stream that hold no token: the role at its beginning, and [DONE]."""

_BEFORE: Final = 8
"""Bytes in which the length of a chunk and its line end are."""
_AFTER: Final = 4
"""Bytes of the line ends of an event and its chunk."""
_LINE_END: Final = 10
"""As a number: `bytes in bytes` first raises and drops an error, which takes ten times as long."""

_TOKENS: Final = b'_tokens"'
"""In every usage: most pieces have none, and a search for it costs a hundredth of that for the number."""

_USAGE: Final = re.compile(rb'(?<!\\)"(?:completion|output)_tokens"\s*:\s*(\d{1,9})\b')


class SloMeter:
    """A `Receiver` that passes everything on."""

    __slots__ = ("_arrived", "_body_bytes", "_direct", "_events", "_last_at", "_next", "_relay")

    def __init__(self, arrived: float, relay: Relay, receiver: Receiver) -> None:
        """`receiver` takes what is passed on: the relay, or what stands in front of it."""
        self._arrived = arrived
        self._relay = relay
        self._next = receiver
        self._direct = relay if receiver is relay else None
        """The relay, where nothing stands in front of it: a compiled call costs a tenth of one to any receiver."""
        self._events = self._body_bytes = 0
        self._last_at = 0.0
        """When the last event with a token came."""

    def goes_on(self, relay: Relay, receiver: Receiver) -> SloMeter:
        """Another pod goes on with the stream; returns this meter."""
        self._relay, self._next = relay, receiver
        self._direct = relay if receiver is relay else None
        return self

    def connected(self, connection: UpstreamConnection, /) -> None:
        """Pass on that the request is about to be sent."""
        self._next.connected(connection)

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """Pass the answer's head on."""
        return self._next.head(head, framing, length)

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Pass a piece on, and count its events."""
        self._body_bytes += len(piece)
        events = events_in(piece) if self._relay.sse else 0
        if events or not self._relay.sse:
            self._events += events
            self._last_at = now
        if self._direct is not None:
            self._direct.data(piece, safe, now)
        else:
            self._next.data(piece, safe, now)

    def end(self) -> None:
        """Pass the end on."""
        self._next.end()

    def failed(self, failure: PodFailure, /) -> None:
        """Pass the failure on."""
        self._next.failed(failure)

    def result(self, slo: Slo, /) -> str | None:
        """Which of the promised times a whole answer kept.

        A stream shows both, unless it is compressed. Of an answer in one piece only its end is seen: it is kept if that
        came within both together, and says nothing where only one is promised.
        """
        relay = self._relay
        if not relay.first_at or (relay.sse and not self._events):
            return None
        tokens = self.tokens()
        if not relay.sse:
            if not (slo.ttft_s and slo.tpot_s):
                return None
            return KEPT if self._last_at - self._arrived <= slo.ttft_s + slo.tpot_s * (tokens - 1) else LATE
        if not slo.met(relay.first_at - self._arrived, 0.0):
            return LATE
        each_s = (self._last_at - relay.first_at) / (tokens - 1) if tokens > 1 else 0.0
        return KEPT if slo.met(0.0, each_s) else SLOW

    def tokens(self) -> int:
        """Tokens of the answer, by its usage; without it an event is a token, and four bytes of a whole answer or of a
        stream that is compressed."""
        tail = self._relay.tail
        if tail.find(_TOKENS) >= 0 and (found := _USAGE.findall(tail)):
            return int(found[-1])
        if self._relay.sse and self._events:
            return self._events - FRAMING_EVENTS
        return self._body_bytes // BYTES_PER_TOKEN


def events_in(piece: bytes) -> int:
    """How many events begin in a piece of a stream. Nearly all pieces are one event, in a chunk or not: their line ends
    are in the first and the last few bytes, and the rest need not be searched for more."""
    # Compiled, a slice that ends before it begins raises: a short piece has none.
    if len(piece) > _BEFORE + _AFTER:
        if _LINE_END in piece[_BEFORE:-_AFTER]:
            return piece.count(b"data:")
        at = 4 if piece[4] == _LINE_END else 3  # the usual chunks, whose length has two or three digits
        if piece[at] == _LINE_END and piece[at + 1 : at + 6] == b"data:":
            return 1
    if piece.startswith(b"data:"):
        return 1
    return piece.count(b"\ndata:", 0, _BEFORE + 6)  # a longer length, or the line ends of the piece before
