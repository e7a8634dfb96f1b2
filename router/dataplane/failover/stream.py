"""A request whose answer may be moved: its answer so far, and the request as the first pod got it. Pure."""

from __future__ import annotations

from router.dataplane.failover.answer_state import AnswerState
from router.dataplane.failover.continuation import CHAT, Continuation, Opened, continuation, original
from router.dataplane.failover.reasons import NotMoved
from router.dataplane.failover.splice import Splice


class MovableStream:
    """One stream, from its request to its end."""

    __slots__ = ("_opened", "_path", "attempts", "has_ids", "splice")

    def __init__(self, path: bytes, opened: Opened, max_chars: int, *, ids: bool = False) -> None:
        """`ids`: as `opened` was asked for them."""
        self.has_ids = ids or opened.wants_ids
        """The first event may have the ids of the whole prompt."""
        self._path = path
        self._opened = opened
        state = AnswerState(max_chars, trimmed=path == CHAT)
        self.splice = Splice(
            state, wants_usage=opened.wants_usage, wants_counts=opened.wants_counts, wants_ids=opened.wants_ids
        )
        self.attempts = 0
        """Attempts to move it."""

    @property
    def can_move(self) -> bool:
        """See `MovableAnswer`."""
        return not self.splice.state.reason

    @property
    def goes_on(self) -> bool:
        """Whether the client has the beginning of the answer."""
        return self.splice.state.moves > 0

    def original(self) -> bytes:
        """The request as the client sent it."""
        return original(self._opened)

    def next_request(self) -> Continuation | NotMoved:
        """What the next pod is asked."""
        return continuation(self._path, self._opened.body, self.splice.state, wants_ids=self._opened.wants_ids)


class FixedStream:
    """An answer that cannot be moved, in a pool that moves streams."""

    __slots__ = ("_body", "held_bytes", "why")

    goes_on = can_move = False

    def __init__(self, body: bytes, why: NotMoved, held_bytes: int = 0) -> None:
        """An answer of up to `held_bytes` is held back until it is complete, so that it can begin anew."""
        self._body = body
        self.held_bytes = held_bytes
        self.why = why

    def original(self) -> bytes:
        """The request as the client sent it."""
        return self._body
