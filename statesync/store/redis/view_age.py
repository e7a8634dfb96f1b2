"""How old the shared view is, measured without comparing clocks: by hearing oneself.

Whatever this replica sends comes back to it over the same channel that the others listen to. Pure; times are this
process's own.
"""

from __future__ import annotations

from collections import deque
from typing import Final

ALPHA: Final = 0.1
"""Weight of the newest echo in the average."""


class ViewAge:
    """From the oldest change in a message to the message's echo."""

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._awaited: deque[float] = deque()
        """When the oldest change of each message without an echo was noted; echoes come in the order of sending."""
        self._usual_s = 0.0
        self._linked = False
        self.echo = b""
        """How the message sent last will end when it comes back; empty where nobody said."""

    def linked(self) -> None:
        """A new link: what was sent over the old one comes back no more."""
        self._awaited.clear()
        self._linked = True

    def unlinked(self) -> None:
        """The link is lost."""
        self._awaited.clear()
        self._linked = False

    def sent(self, noted_at: float, echo: bytes = b"") -> None:
        """A message went out; the oldest change in it was noted then."""
        self._awaited.append(noted_at)
        self.echo = echo

    def echoed(self, now: float) -> None:
        """The next message came back."""
        self._heard_at = now
        if self._awaited:
            took_s = now - self._awaited.popleft()
            self._usual_s += (took_s - self._usual_s) * (ALPHA if self._usual_s else 1.0)

    def silent_s(self, now: float) -> float:
        """How long the oldest message without an echo has been waiting for it."""
        return now - self._awaited[0] if self._awaited else 0.0

    def age_s(self, now: float) -> float:
        """What a change usually takes; or how long it has been that the link did well, if that is longer."""
        return max(self._usual_s, self.silent_s(now) if self._linked else now - self._heard_at)
