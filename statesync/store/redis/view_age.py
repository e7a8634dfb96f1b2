"""The age of the shared view, measured without comparing clocks: by the echo of this replica's own messages.

Every message comes back to its sender over the channel that all replicas subscribe to. Pure; times are this process's
own.
"""

from __future__ import annotations

from collections import deque
from typing import Final

ALPHA: Final = 0.1
"""Weight of the newest echo in the moving average; higher follows changes sooner."""


class ViewAge:
    """Measures from the oldest change in a message to the message's echo."""

    def __init__(self, now: float) -> None:
        self._echoed_at = now
        self._awaited: deque[float] = deque()
        """For each message without an echo, when its oldest change was noted; echoes come in the order of sending."""
        self._usual_s = 0.0
        self._linked = False
        self.echo = b""
        """The last bytes that the message sent last will have as an echo; empty if unknown."""

    def linked(self) -> None:
        """A new link is up: messages sent over the old one have no echo."""
        self._awaited.clear()
        self._linked = True

    def unlinked(self) -> None:
        """The link is lost."""
        self._awaited.clear()
        self._linked = False

    def sent(self, noted_at: float, echo: bytes = b"") -> None:
        """A message was sent; the oldest change in it was noted at `noted_at`."""
        self._awaited.append(noted_at)
        self.echo = echo

    def echoed(self, now: float) -> None:
        """The echo of the next message arrived."""
        self._echoed_at = now
        if self._awaited:
            took_s = now - self._awaited.popleft()
            self._usual_s += (took_s - self._usual_s) * (ALPHA if self._usual_s else 1.0)

    def silent_s(self, now: float) -> float:
        """Seconds that the oldest message without an echo has waited for it."""
        return now - self._awaited[0] if self._awaited else 0.0

    def age_s(self, now: float) -> float:
        """The mean time of a change to its echo, or the time since the link last worked, if that is longer."""
        return max(self._usual_s, self.silent_s(now) if self._linked else now - self._echoed_at)
