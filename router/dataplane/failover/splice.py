"""Two or more pods' streams as the client's one: which bytes of each event it gets. Pure; knows no connection.

The first pod's events go on as they are, without the counts and ids that only the gateway asked for. Those of the next
pods get the first one's id and time, no second role, and the tokens of the whole answer.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from router.dataplane.failover.answer_state import AnswerState
from router.dataplane.failover.chunk_fields import Chunk

EVENT_END: Final = b"\n\n"
MOVED_COMMENT: Final = b": turnout moved\n\n"
_DATA: Final = b"data: "
_DATA_BYTES: Final = 6
_USAGE: Final = b',"usage":{'
_IDS: Final = b'token_ids":['
_NOTHING: Final = b'"delta":{}'
_LAST_EVENT: Final = b"data: [DONE]\n\n"


class Splice:
    """The events of one answer."""

    __slots__ = ("_moved", "_usage_passed", "_wants_counts", "_wants_ids", "_wants_usage", "counted", "state")

    def __init__(self, state: AnswerState, *, wants_usage: bool, wants_counts: bool, wants_ids: bool = False) -> None:
        """What the client asked for: the usage at the end, and that in every chunk; the token ids."""
        self.state = state
        self._wants_ids = wants_ids
        self._wants_usage = wants_usage
        self._wants_counts = wants_counts
        self._usage_passed = False
        self._moved = False
        """The client does not know yet that another pod goes on."""
        self.counted = b""
        """The event with the answer's usage, whether or not the client gets it."""

    def go_on(self, owed: str, ids: bytes = b"", behind: str = "") -> None:
        """The next events come from another pod; see `AnswerState.go_on`."""
        self.state.go_on(owed, ids, behind, again=self._moved)
        self._moved = True

    @property
    def waits(self) -> bool:
        """Whether nothing has come since the pod before died."""
        return self._moved

    def passed(self, events: bytes) -> bytes:
        """What the client gets of whole events; nothing after an error that the engine sent."""
        if not self._moved and events.endswith(EVENT_END) and events.find(EVENT_END) == len(events) - len(EVENT_END):
            return self._event(events[: -len(EVENT_END)])  # the usual case: one event
        out = [MOVED_COMMENT] if self._moved else []
        for event in events.split(EVENT_END):
            if not event:
                continue
            out.append(self._event(event))
            if self.state.failed:
                break
        said = b"".join(out)
        if self._moved and len(said) > len(MOVED_COMMENT):
            self._moved = False
        return b"" if self._moved else said

    def ending(self) -> bytes | None:
        """What the client lacks of an answer whose pod died after its text; None where that is not known."""
        if self.state.done:
            return b""
        lacks_usage = self._wants_usage and not self._usage_passed
        return None if lacks_usage or not self.state.finished else _LAST_EVENT

    def _event(self, event: bytes) -> bytes:
        state = self.state
        if event[:_DATA_BYTES] != _DATA or b"\n" in event:
            if not event.startswith(b":"):
                state.give_up("events")
            return event + EVENT_END
        data = event[_DATA_BYTES:]
        had_role = state.has_role
        chunk = state.read(data)
        if chunk is None:
            if state.failed and not state.moves and state.reason:
                state.failed = ""  # it cannot be moved: the client gets the engine's own words
            return b"" if state.failed else event + EVENT_END
        if state.moves:
            return self._of_next_pod(data, chunk, had_role)
        if not self._wants_ids and _IDS in event:
            if _NOTHING in event and not chunk.choices[0].finish_reason:
                return b""  # a chunk for the sake of its ids
            event = without_ids(event)
        if chunk.usage is None:
            return event + EVENT_END
        if not chunk.choices:
            self.counted = event + EVENT_END
            self._usage_passed = self._wants_usage
            return self.counted if self._wants_usage else b""
        return (event if self._wants_counts else without_usage(event)) + EVENT_END

    def _of_next_pod(self, data: bytes, chunk: Chunk, had_role: bool) -> bytes:
        state, usage = self.state, chunk.usage
        if state.failed:
            return b""
        if usage is not None and state.sent_on and usage.prompt_tokens < state.prompt_tokens + state.sent_on // 2:
            state.give_up("not_continued")
            state.failed = "it began anew"
            return b""
        said: dict[str, Any] = msgspec.json.decode(data)
        said["id"], said["created"] = state.id, state.created
        if usage is not None:
            self._correct(said["usage"])
        if not chunk.choices:
            said["turnout"] = {"moved": state.moves}
            self.counted = _DATA + msgspec.json.encode(said) + EVENT_END
            self._usage_passed = self._wants_usage
            return self.counted if self._wants_usage else b""
        if usage is not None and not self._wants_counts:
            del said["usage"]
        if not _adds(said, chunk, had_role, self._wants_ids):
            return b""
        return _DATA + msgspec.json.encode(said) + EVENT_END

    def _correct(self, usage: dict[str, Any]) -> None:
        """Make a pod's usage that of the whole answer."""
        state = self.state
        prompt = state.prompt_tokens or max(0, usage["prompt_tokens"] - state.sent_on)
        usage["prompt_tokens"], usage["completion_tokens"] = prompt, state.tokens
        usage["total_tokens"] = prompt + state.tokens
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            details["cached_tokens"] = min(prompt, details["cached_tokens"])


def _adds(said: dict[str, Any], chunk: Chunk, had_role: bool, wants_ids: bool) -> bool:
    """Take from a chunk what the client has or did not ask for; whether anything is left."""
    choice, read = said["choices"][0], chunk.choices[0]
    for owner, name in ((said, "prompt_token_ids"), (choice, "prompt_token_ids"), (choice, "token_ids")):
        if name in owner and not (wants_ids and name == "token_ids"):
            owner[name] = None
    if read.delta is None:
        choice["text"] = read.text or ""
    else:
        delta = choice["delta"]
        if had_role:
            delta.pop("role", None)
        if "content" in delta:
            delta["content"] = read.delta.content
    text = read.text if read.delta is None else read.delta.content
    new_role = read.delta is not None and read.delta.role is not None and not had_role
    return bool(text or choice.get("token_ids") or choice.get("finish_reason") or new_role)


def without_ids(event: bytes) -> bytes:
    """A chunk's event with null in the place of its lists of ids, as where none are asked for."""
    at = event.find(_IDS)
    while at >= 0:
        at += len(_IDS) - 1
        event = event[:at] + b"null" + event[event.find(b"]", at) + 1 :]
        at = event.find(_IDS, at)
    return event


def without_usage(event: bytes) -> bytes:
    """A chunk's event without the counts in it. What a model wrote is not mistaken for them: in a JSON string every
    quote is escaped."""
    at = event.rfind(_USAGE)
    if at < 0:
        said: dict[str, Any] = msgspec.json.decode(event[_DATA_BYTES:])
        said.pop("usage", None)
        return _DATA + msgspec.json.encode(said)
    end = event.find(b"}", at)
    opened = event.count(b"{", at, end)
    while opened > 1:  # details are objects within it
        opened -= 1
        start, end = end + 1, event.find(b"}", end + 1)
        opened += event.count(b"{", start, end)
    return event[:at] + event[end + 1 :]
