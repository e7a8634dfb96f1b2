"""The content of a real engine's stream, however it was cut into events.

An engine that falls behind puts several tokens into one event, so that two streams of one answer may be cut
differently. Their text is equal, and so are the bytes of every event except for its text.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_TEXT = re.compile(rb'"(content|text)":"((?:[^"\\]|\\.)*)"')
_ENDS = re.compile(rb'"finish_reason":"')


class Streamed(NamedTuple):
    """One streamed answer."""

    text: str
    framing: list[bytes]
    """Its events in order with their text removed, without those that hold only text."""
    pieces: set[bytes]
    """The form of the events that hold only text: one form, or none if the whole text came with the last event."""

    def agrees(self, other: Streamed) -> bool:
        """Whether both have the same text and the same events around it, byte for byte.

        An event with empty text counts as a text event: its token ends within a character. Whether such an event stands
        alone depends on timing.
        """
        pieces = self.pieces | other.pieces
        framing, its_framing = ([form for form in each.framing if form not in pieces] for each in (self, other))
        return self.text == other.text and framing == its_framing and len(pieces) <= 1


def streamed(body: bytes) -> Streamed:
    """Read an SSE body of OpenAI's or Anthropic's kind. Raises AssertionError if an event is incomplete."""
    assert body.endswith(b"\n\n"), body[-100:]
    text: list[str] = []
    framing: list[bytes] = []
    pieces: set[bytes] = set()
    for event in body[:-2].split(b"\n\n"):
        found = _TEXT.search(event)
        said = json.loads(b'"%b"' % found[2]) if found else ""
        text.append(said)
        form = _TEXT.sub(rb'"\1":"-"', event)
        if said and not _ENDS.search(event):
            pieces.add(form)
        else:
            framing.append(form)
    return Streamed("".join(text), framing, pieces)
