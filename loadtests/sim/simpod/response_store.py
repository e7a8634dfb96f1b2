"""Responses that can be fetched, cancelled, deleted and gone on with: in memory, the oldest forgotten first.

It knows no HTTP. Followers are streams of a background response's events, from its first one or from a later one on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.faults import Outlet
from loadtests.sim.simpod.responses import Messages, Written

_ENDED = ("completed", "incomplete", "cancelled", "failed")


class Kept:
    """One stored response."""

    def __init__(self, written: Written) -> None:
        self.body = written.started
        self.turn = written.turn
        self.events: list[bytes] = []
        self.streamed = False
        """Its events were recorded."""
        self.over = False
        """No more events will come."""
        self.cancel: Callable[[], None] = lambda: None
        """Ends the engine's request, while it runs in the background."""
        self.followers: set[Follower] = set()


class ResponseStore:
    """The responses of one pod."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def add(self, name: str, written: Written) -> Kept:
        """Store a response."""
        kept = self._kept[name] = Kept(written)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return kept

    def get(self, name: str) -> Kept:
        """ApiError 404 for one that is unknown or was forgotten."""
        found = self._kept.get(name)
        if found is None:
            message = f"Response with id '{name}' not found."
            raise ApiError(404, message, "invalid_request_error", "response_id")
        return found

    def conversation(self, name: str | None) -> Messages:
        """What a response that names this one as its predecessor goes on with."""
        return [] if name is None else self.get(name).turn

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancel a response in the background; ApiError 400 for one that is over or never was there."""
        kept = self.get(name)
        if kept.body["status"] not in ("queued", "in_progress"):
            message = "Cannot cancel a synchronous response."
            raise ApiError(400, message, "invalid_request_error", "response_id")
        kept.body = kept.body | {"status": "cancelled"}
        kept.cancel()
        end(kept)
        return kept.body

    def delete(self, name: str) -> dict[str, Any]:
        """Forget a response. OpenAI has this, vLLM 0.32 does not."""
        kept = self.get(name)
        if kept.body["status"] not in _ENDED:
            self.cancel(name)
        del self._kept[name]
        return {"id": name, "object": "response", "deleted": True}


def complete(kept: Kept, body: dict[str, Any]) -> None:
    """The answer is there; a cancelled response stays cancelled."""
    if kept.body["status"] != "cancelled":
        kept.body = body


def end(kept: Kept) -> None:
    """No more events will come: followers end."""
    kept.over = True
    for follower in list(kept.followers):
        follower.push()


class Recorder:
    """The outlet of a background response: its events are kept and passed to followers."""

    paused = False

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """Stored already, when its last token was made."""

    def open(self, content_type: bytes) -> None:
        """Events will come."""
        self._kept.streamed = True

    def send(self, data: bytes) -> None:
        """One event."""
        self._kept.events.append(data)
        for follower in list(self._kept.followers):
            follower.push()

    def end(self) -> None:
        """The last event was sent."""
        end(self._kept)


class Follower:
    """A client that reads the events of a response."""

    def __init__(self, kept: Kept, outlet: Outlet, start: int) -> None:
        self._kept, self._outlet, self._next = kept, outlet, start
        kept.followers.add(self)
        outlet.open(b"text/event-stream; charset=utf-8")
        self.push()

    def push(self) -> None:
        """Send what is there."""
        if self not in self._kept.followers:
            return
        while self._next < len(self._kept.events) and not self._outlet.paused:
            self._outlet.send(self._kept.events[self._next])
            self._next += 1
        if self._kept.over and self._next >= len(self._kept.events):
            self._kept.followers.discard(self)
            self._outlet.end()

    def resume(self) -> None:
        """The client reads again."""
        self.push()

    def cancel(self) -> None:
        """The client is gone; the response goes on."""
        self._kept.followers.discard(self)
