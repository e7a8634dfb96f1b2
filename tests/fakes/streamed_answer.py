"""What a stream of a real engine says, whatever pieces it was cut into.

An engine that falls behind puts several tokens into one event, so two streams of the same answer may be cut
differently. The text is the same all the same, and so are the bytes of every event but for the text in it.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_TEXT = re.compile(rb'"(content|text)":"((?:[^"\\]|\\.)*)"')
_ENDS = re.compile(rb'"finish_reason":"')


class Streamed(NamedTuple):
    """One answer."""

    text: str
    framing: list[bytes]
    """Its events in order with their text taken out, but for those that hold nothing else."""
    pieces: set[bytes]
    """What those look like: one form, or none if the whole text came with the end."""

    def agrees(self, other: Streamed) -> bool:
        """Whether both have the same text and the same events around it, byte for byte.

        An event without text that looks like a piece is one: a token that ends within a character. Whether it stands
        alone is chance.
        """
        pieces = self.pieces | other.pieces
        framing, its_framing = ([form for form in each.framing if form not in pieces] for each in (self, other))
        return self.text == other.text and framing == its_framing and len(pieces) <= 1


def streamed(body: bytes) -> Streamed:
    """Read an SSE body, of OpenAI's or Anthropic's kind. Raises AssertionError if an event is torn."""
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
