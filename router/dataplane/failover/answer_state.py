"""What is kept of a streamed answer so that another pod can go on with it: its text, its tokens, its id. Pure; reads
events, knows no request and no pod.

Tokens count by the engine's own usage where chunks carry it, by their token ids where they have these, else a chunk is
a token.
"""

from __future__ import annotations

from typing import Final

import msgspec

from router.dataplane.failover.chunk_fields import Chunk, ChunkChoice, ChunkDelta, decode_chunk

DONE: Final = b"[DONE]"

_JOINED: Final = 512
"""So many pieces of text are put together at once: a piece of its own costs 60 bytes."""


class AnswerState:
    """An answer so far. After a move it goes on with the events of the next pod."""

    __slots__ = (
        "_max_chars",
        "_pieces",
        "_solid",
        "_trimmed",
        "chars",
        "created",
        "done",
        "failed",
        "finished",
        "has_role",
        "id",
        "ids",
        "moves",
        "owed",
        "prompt_tokens",
        "reason",
        "sent_on",
        "tokens",
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
        self.chars = 0
        self.tokens = 0
        """Tokens of the answer so far."""
        self.prompt_tokens = 0
        """Of the client's own prompt; 0 where the first pod's chunks do not say."""
        self.id = ""
        self.created = 0
        self.has_role = False
        self.ids: list[int] = []
        """The token ids, where chunks have them."""
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
        """Blanks at the end of the text that the next pod makes once more."""

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
        if chunk.usage is not None:
            self.tokens = self.sent_on + chunk.usage.completion_tokens
            if not self.moves:
                self.prompt_tokens = chunk.usage.prompt_tokens
        if chunk.choices:
            self._choice(chunk, chunk.choices[0], len(chunk.choices))
        return chunk

    def go_on(self, owed: str, *, again: bool = False) -> None:
        """The text goes to another pod, without the blanks `owed` at its end; `again`: the one before sent nothing."""
        self.sent_on = self.tokens = self._solid
        self.owed = owed
        self.moves += not again
        self.finished = self.done = False
        self.failed = ""

    def give_up(self, reason: str) -> None:
        """The answer is not moved any more, because of `reason`, a key of `REASONS`."""
        if not self.reason:
            self.reason = reason
        self._pieces = []  # what is not moved needs no text
        self.ids = []

    def _choice(self, chunk: Chunk, choice: ChunkChoice, count: int) -> None:
        delta = choice.delta
        if count > 1 or choice.index:
            self.give_up("choices")
        if choice.logprobs is not None:
            self.give_up("logprobs")
        text = choice.text
        if delta is not None:
            text = delta.content
            if delta.role is not None:
                self.has_role = True
            self._check(delta)
        self._count(chunk, choice, text)
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

    def _count(self, chunk: Chunk, choice: ChunkChoice, text: str | None) -> None:
        ids = choice.token_ids
        if ids is not None and not self.reason:
            self.ids += ids
        if chunk.usage is None:
            if ids is not None:
                self.tokens += len(ids)
            elif text or choice.delta is None or choice.delta.role is None:
                self.tokens += 1
        if text and not (self._trimmed and text.isspace()):
            self._solid = self.tokens

    def _without_owed(self, text: str) -> str:
        """The text without those of its first blanks that the client has."""
        at, most = 0, min(len(text), len(self.owed))
        while at < most and text[at].isspace():
            at += 1
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


def _message_of(error: object) -> str:
    """What an engine says of its failure."""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:300] or "error"
