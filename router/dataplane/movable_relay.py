"""The relays of pools whose streams may be moved. That of a stream passes on whole events only, and takes over from the
relay of a pod that died; that of a whole answer holds it back until it is complete. What an event means is for
`failover/` to say, whether the stream goes on for `StreamMover`.
"""

from __future__ import annotations

from typing import Final

from router.dataplane.exchange import Exchange, Placement
from router.dataplane.failover.splice import EVENT_END
from router.dataplane.failover.stream import MovableStream
from router.dataplane.http.response_parser import CHUNKED, LENGTH, ResponseHead
from router.dataplane.relay import MAX_HELD_BYTES, RAW, WRAP, Relay, RelayListener
from router.errors import CutMidAnswer, PodRefused

MAX_FIRST_BYTES: Final = 1 << 23
"""Of the first event of a pod that was asked for token ids: vLLM puts those of the whole prompt into it, a million at
most."""


class MovableRelay(Relay):
    """One attempt at a stream: the first, or one that goes on where another pod stopped."""

    __slots__ = ("_first", "_follows", "_goes_on", "_rest", "stream")

    def __init__(
        self,
        listener: RelayListener,
        exchange: Exchange,
        placement: Placement,
        stream: MovableStream,
        before: MovableRelay | None,
    ) -> None:
        """`before` is the relay of the pod that died, None for the first pod."""
        super().__init__(listener, exchange, placement)
        self.stream = stream
        self._rest = b""
        """The beginning of an event."""
        self._follows = False
        """Whether the answer is a stream that can be read."""
        self._goes_on = self._first = before is not None
        if before is not None:
            self.begun = True
            self.sse = True
            self.status = before.status
            """That of the answer, not what this pod says."""
            self.first_at, self.last_at = before.first_at, before.last_at
            self.last, self.tail = before.last, before.tail
            self._mode, self._framing = before._mode, before._framing

    # Called by the pod's connection

    def head(self, head: ResponseHead, framing: int, length: int) -> bool:
        """The client's head is made of that of the first pod; the others must only be able to go on."""
        readable = head.status == 200 and head.sse and not head.encoded and framing == CHUNKED
        if self._goes_on:
            return self._next_head(head.status, readable)
        bare = super().head(head, framing, length)
        if not readable or not self._head:
            return bare
        self._follows = True
        if self._mode == RAW:
            self._mode = WRAP
        return True

    def _next_head(self, status: int, readable: bool) -> bool:
        self.listener.answered(self, status)  # for the pod's health
        self._follows = readable
        if not readable:
            if 400 <= status < 500 and status != 429:
                self.stream.splice.state.give_up("refused")
            self.discard()
            super().failed(PodRefused(f"Pod {self.placement.pod.id} was to go on with a stream and answered {status}."))
        return True

    def data(self, piece: bytes, safe: int, now: float) -> None:
        """Pass whole events on."""
        if not self._follows:
            super().data(piece, safe, now)
            return
        if self._rest:
            piece, self._rest = self._rest + piece, b""
        if not piece.endswith(EVENT_END):
            cut = piece.rfind(EVENT_END) + len(EVENT_END) if EVENT_END in piece else 0
            piece, self._rest = piece[:cut], piece[cut:]
            if not self._goes_on and (len(self._rest) > self._most() or b"\r" in self._rest):
                self.stream.splice.state.give_up("events")
                piece, self._rest, self._follows = piece + self._rest, b"", False
                super().data(piece, len(piece), now)
                return
        if self._first:
            self._first = False
            self.listener.first_byte(self, now)
        splice = self.stream.splice
        if len(self._rest) > self._most():  # of a pod that goes on: its events cannot be passed on as they are
            splice.state.give_up("events")
            self._rest = b""
            self._break("went on with an event that is too long.")
            return
        said = splice.passed(piece) if piece else b""
        if said:
            super().data(said, len(said), now)
        if splice.counted:
            self.tail, splice.counted = splice.counted, b""
        if splice.state.failed:
            self._break(f"failed in the middle of its answer: {splice.state.failed}")

    def _most(self) -> int:
        """Bytes of an event."""
        stream = self.stream
        return MAX_FIRST_BYTES if stream.has_ids and stream.splice.state.opening else MAX_HELD_BYTES

    def end(self) -> None:
        """The pod's answer is over; of a stream that has no end yet it was cut."""
        state = self.stream.splice.state
        if self._follows and not (state.finished or state.done or state.reason):
            self.connection = None  # it may be in use again
            self._break("ended its stream before the end of the answer.")
            return
        if self._rest and not self._goes_on:
            self._held, self._rest = self._rest, b""
        super().end()

    def _break(self, what: str) -> None:
        self.cancel()
        super().failed(CutMidAnswer(f"Pod {self.placement.pod.address} {what}"))

    # Called by the stages above

    @property
    def readable(self) -> bool:
        """Whether the text that the client has is known."""
        return self._follows or self._goes_on

    def complete(self) -> bool:
        """The pod died, and the text may be complete: then the client gets what it lacks. Returns whether."""
        ending = self.stream.splice.ending() if self._follows else None
        if ending is None:
            return False
        if ending:
            self._pass_on(ending)
        super().end()
        return True


class HeldRelay(Relay):
    """One attempt at an answer in one piece: while the client has nothing of it, another pod can give it."""

    __slots__ = ("_holds", "_most", "_pieces")

    def __init__(self, listener: RelayListener, exchange: Exchange, placement: Placement, most: int) -> None:
        """An answer of up to `most` bytes is held."""
        super().__init__(listener, exchange, placement)
        self._most = most
        self._holds = False
        self._pieces: list[bytes] = []

    def head(self, head: ResponseHead, framing: int, length: int) -> bool:
        """Only an answer whose length is known is held: one without may come little by little, such as speech."""
        self._holds = framing == LENGTH and length <= self._most
        return super().head(head, framing, length)

    def data(self, piece: bytes, safe: int, now: float) -> None:
        """Hold the bytes, or pass them on."""
        if self._holds:
            self._pieces.append(piece)
        else:
            super().data(piece, safe, now)

    def end(self) -> None:
        """The answer is complete."""
        if self._pieces:
            held, self._pieces = b"".join(self._pieces), []
            super().data(held, len(held), self.exchange.edge.clock())
        super().end()
