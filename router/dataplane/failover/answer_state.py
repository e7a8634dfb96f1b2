"""What is kept of a streamed answer so that another pod can go on with it: its text, its tokens, its id. Pure; reads
events, knows no request and no pod.

Tokens count by the engine's own usage where chunks carry it, by their token ids where they have these, else a chunk is
a token. Token ids are kept as JSON has them: no one reads one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from router.dataplane.failover.chunk_fields import Chunk, ChunkChoice, ChunkDelta, decode_chunk
from router.dataplane.failover.token_trail import TokenTrail

DONE: Final = b"[DONE]"

_JOINED: Final = 512
"""So many pieces of text are put together at once: a piece of its own costs 60 bytes."""


class AnswerState:
    """An answer so far. After a move it goes on with the events of the next pod."""

    __slots__ = (
        "_asked",
        "_exact",
        "_max_chars",
        "_pieces",
        "_solid",
        "_text_owed",
        "_trimmed",
        "chars",
        "created",
        "done",
        "failed",
        "finished",
        "has_role",
        "id",
        "moves",
        "opening",
        "owed",
        "prompt_tokens",
        "reason",
        "sent_on",
        "tokens",
        "trail",
    )

    def __init__(self, max_chars: int, *, trimmed: bool) -> None:
        """Up to `max_chars` characters of text are kept; a longer answer is not moved. `trimmed`: blanks at the end of
        the text may be lost on the way to the next pod's prompt, as chat templates drop them."""
        self._max_chars = max_chars
        self._trimmed = trimmed
        self._pieces: list[str] = []
        self.sent_on = 0
        """Tokens of the text that the present pod got."""
        self._solid = 0
        """`tokens` as it was at the end of the text that the next pod is sure to get."""
        self.trail = TokenTrail()
        """The token ids, where chunks have them."""
        self.opening = True
        """No chunk of the present pod has come."""
        self._asked = b""
        """The ids with which the present pod was to go on."""
        self._text_owed = ""
        """`owed` if it goes on with the text instead."""
        self.chars = 0
        self.tokens = 0
        """Tokens of the answer so far."""
        self.prompt_tokens = 0
        """Of the client's own prompt; 0 where the first pod's chunks do not say."""
        self.id = ""
        self.created = 0
        self.has_role = False
        self.finished = False
        """A finish reason came."""
        self.done = False
        """`[DONE]` came."""
        self.failed = ""
        """The message of the error with which the engine ended the stream."""
        self.reason = ""
        """Why the answer cannot be moved, a key of `REASONS`; empty while it can."""
        self.moves = 0
        """Pods that went on with it."""
        self.owed = ""
        """The end of the text, which the present pod makes once more."""
        self._exact = False
        """It makes that as it is, not only its blanks."""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def solid_tokens(self) -> int:
        """Tokens of the text that the next pod gets; it makes the others again."""
        return self._solid

    def read(self, data: bytes) -> Chunk | None:
        """Take the data of one event. Returns it decoded, its text without what was owed; None where it is no chunk, or
        nothing more is kept."""
        if data == DONE:
            self.done = True
            return None
        try:
            chunk = decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.give_up("events")
            return None
        if chunk.error is not None:
            self.failed = _message_of(chunk.error)
            return None
        if not self.id:
            self.id, self.created = chunk.id, chunk.created
        if self.opening and chunk.choices:
            self._open(chunk, chunk.choices[0])
        before = self.tokens
        if chunk.usage is not None:
            self.tokens = self.sent_on + chunk.usage.completion_tokens
            if not self.moves:
                self.prompt_tokens = chunk.usage.prompt_tokens
        if chunk.choices:
            self._choice(chunk, chunk.choices[0], before)
        return chunk

    def go_on(self, owed: str, ids: bytes = b"", behind: str = "", *, again: bool = False) -> None:
        """The text goes to another pod, without the blanks `owed` at its end, or as these ids, without the text
        `behind` them. `again`: the pod before sent nothing."""
        self._asked, self._text_owed, self.opening = ids, owed, True
        self.sent_on = self.tokens = self.trail.tokens if ids else self._solid
        self.owed, self._exact = (behind, True) if ids else (owed, False)
        self.moves += not again
        self.finished = self.done = False
        self.failed = ""

    def give_up(self, reason: str) -> None:
        """The answer is not moved any more, because of `reason`, a key of `REASONS`."""
        if not self.reason:
            self.reason = reason
        self._pieces = []  # what is not moved needs no text
        self.trail.lose()

    def _open(self, chunk: Chunk, choice: ChunkChoice) -> None:
        """The first chunk of a pod: it says which tokens its prompt has, if it knows how to."""
        self.opening = False
        ids = _ids_in(chunk.prompt_token_ids) or _ids_in(choice.prompt_token_ids)
        if self._asked and ids != self._asked:  # an engine that takes no ids for a chat
            self.owed, self._exact = self._text_owed, False
            self.sent_on = self.tokens = self._solid
        if not self.reason:
            self.trail.begin(ids, self.sent_on, self.chars - len(self.owed))

    def _choice(self, chunk: Chunk, choice: ChunkChoice, before: int) -> None:
        delta = choice.delta
        if len(chunk.choices) > 1 or choice.index:
            self.give_up("choices")
        if choice.logprobs is not None:
            self.give_up("logprobs")
        text = choice.text
        if delta is not None:
            text = delta.content
            if delta.role is not None:
                self.has_role = True
            self._check(delta)
        self._count(chunk, choice, text or "", before)
        if text and self.owed:
            text = self._without_owed(text)
            if delta is not None:
                delta.content = text
            else:
                choice.text = text
        if text and not self.reason:
            self._keep(text)
        if choice.finish_reason is not None:
            self.finished = True

    def _check(self, delta: ChunkDelta) -> None:
        """Give up for what a delta has besides text; an empty value is none."""
        if delta.tool_calls or delta.function_call:
            self.give_up("tools")
        if delta.reasoning or delta.reasoning_content:
            self.give_up("reasoning")
        if delta.refusal:
            self.give_up("option")

    def _count(self, chunk: Chunk, choice: ChunkChoice, text: str, before: int) -> None:
        ids = _ids_in(choice.token_ids)
        if chunk.usage is None:
            if ids:
                self.tokens += ids.count(b",") + 1
            elif text or choice.delta is None or choice.delta.role is None:
                self.tokens += 1
        self.trail.add(ids, text, before, self.tokens)
        if text and not (self._trimmed and text.isspace()):
            self._solid = max(self._solid, self.tokens)

    def _without_owed(self, text: str) -> str:
        """The text without what the client has of it."""
        at, most = 0, min(len(text), len(self.owed))
        if self._exact:
            at = most
            if text[:at] != self.owed[:at]:
                self.give_up("not_continued")
                self.failed = "it began anew"
        else:
            while at < most and text[at].isspace():
                at += 1
            if at < most:
                self.trail.lose()  # these are other blanks
        self.owed = "" if at < len(text) else self.owed[at:]
        return text[at:]

    def _keep(self, text: str) -> None:
        self.chars += len(text)
        if self.chars > self._max_chars:
            self.give_up("size")
            return
        pieces = self._pieces
        pieces.append(text)
        if len(pieces) >= _JOINED:
            self._pieces = ["".join(pieces)]


def _ids_in(raw: msgspec.Raw) -> bytes:
    """The numbers of a list, with commas between."""
    text = bytes(raw)
    return text[1:-1].replace(b" ", b"") if text.startswith(b"[") else b""


def _message_of(error: object) -> str:
    """What an engine says of its failure."""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:300] or "error"
