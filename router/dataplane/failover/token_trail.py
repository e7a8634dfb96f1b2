"""The token ids of an answer and its prompt, as far as another pod can go on behind them. Pure; ids stay JSON.

An engine that begins behind a part of a character gives out all of its prompt as text. It keeps a token's text back
until its last character is whole, so a chunk of one token with text ends with a whole one. Of a chunk of several tokens
that shows only with the next text: what was kept back comes first, and is no ASCII.
"""

from __future__ import annotations

_ASCII_END = "\x80"


class TokenTrail:
    """The ids of one pod: its prompt, which may have the beginning of the answer, and what it made."""

    __slots__ = ("_at", "_ids", "_sure", "chars", "tokens")

    def __init__(self) -> None:
        self._ids = bytearray()
        """With commas between; empty where they are not all known."""
        self._at = 0
        """Characters of the answer that the pod has come to."""
        self._sure = 0
        """Bytes of `_ids` that end with a whole character."""
        self.tokens = 0
        """Tokens of the answer in `ids`."""
        self.chars = 0
        """Characters of the answer in `ids`."""

    @property
    def ids(self) -> bytes:
        """The ids with which another pod can go on; empty where they are not known."""
        return bytes(self._ids[: self._sure])

    @property
    def has_more(self) -> bool:
        """Whether ids came that are not among these."""
        return len(self._ids) > self._sure

    def begin(self, ids: bytes, tokens: int, chars: int) -> None:
        """A pod has a prompt of these ids, in which there are so many tokens and characters of the answer."""
        self._ids = bytearray(ids)
        self._at = chars
        self._settle(tokens)

    def add(self, ids: bytes, text: str, before: int, after: int) -> None:
        """The ids and the text of a chunk, with the tokens of the answer before and after it."""
        if not self._ids:
            return
        if text and not ids:
            self.lose()  # without those of this text the others are of no use
            return
        if text and text[0] < _ASCII_END:
            self._settle(before)
        if ids:
            self._ids += b"," + ids
        self._at += len(text)
        if text and b"," not in ids:
            self._settle(after)

    def lose(self) -> None:
        """The ids are not known any more."""
        self._ids = bytearray()
        self._sure = 0

    def _settle(self, tokens: int) -> None:
        self._sure, self.tokens, self.chars = len(self._ids), tokens, self._at
