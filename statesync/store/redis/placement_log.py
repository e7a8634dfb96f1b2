"""The position up to which the log of placements is folded in, so that each entry is folded once, and none is missed.
Pure.

Entries come two ways: live over the channel, and from the log when a replica starts or was disconnected. While the log
is being read, live entries wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from statesync.store.redis.messages import PlacementMessage

LogId = tuple[int, int]
"""A stream id, ordered."""

START: LogId = (0, 0)

LEAP_MS: Final = 3_600_000
"""Milliseconds between the last entry folded and one of the channel. Beyond them the log is read instead: an id that
the server never gave would make this replica ignore all entries up to it."""

NO_TIME_MS: Final = 10**17
"""From here on the milliseconds of an id are no server's time. A log that has such an entry takes no other."""

_MAX_CHARACTERS: Final = 41
"""Of an id: two numbers of 64 bits."""

Fold = Callable[[Sequence[PlacementMessage]], None]


def parse_id(text: str) -> LogId:
    """`ms-seq` as two numbers; `START` if it is not of that form."""
    ms, _, seq = text.partition("-")
    good = len(text) <= _MAX_CHARACTERS and ms.isdecimal() and seq.isdecimal()
    return (int(ms), int(seq)) if good else START


def format_id(log_id: LogId) -> str:
    """The inverse of `parse_id`."""
    return f"{log_id[0]}-{log_id[1]}"


class PlacementLog:
    """Passes each entry's placements to `fold`, once."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self.folded: LogId = START
        """The last entry folded."""
        self._confirmed: LogId = START
        """The last entry that the server itself had when the log was read."""
        self._waiting: list[tuple[LogId, Sequence[PlacementMessage]]] | None = None
        """Entries from the channel while the log is being read; None otherwise."""

    def behind(self) -> None:
        """Let entries from the channel wait until `caught_up`."""
        if self._waiting is None:
            self._waiting = []

    def received(self, log_id: str, placements: Sequence[PlacementMessage]) -> bool:
        """Take an entry from the channel. Without placements it is an own one, which needs no folding. False if it is
        too far from the last one and the log has to be read."""
        at = parse_id(log_id)
        if self._waiting is not None:
            self._waiting.append((at, placements))
        elif START not in (at, self.folded) and abs(at[0] - self.folded[0]) > LEAP_MS:
            return False
        else:
            self._take(at, placements)
        return True

    def read(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        """Take an entry from the log."""
        self._take(log_id, placements)
        if log_id <= self.folded:
            self._confirmed = max(self._confirmed, log_id)

    def caught_up(self) -> None:
        """The log was read to its end: fold the entries that waited, except those read from the log, too."""
        waiting, self._waiting = self._waiting or [], None
        for log_id, placements in waiting:
            if self.folded == START or log_id[0] - self.folded[0] <= LEAP_MS:
                self._take(log_id, placements)

    def server_ends_at(self, last: LogId) -> None:
        """The server's last entry. If it is before the last one folded, the log was lost or reset, and ids start
        again; or that one's id was never the server's."""
        if self.folded > last:
            self.folded = min(self._confirmed, last)
        self._confirmed = self.folded

    def restored(self, log_id: LogId) -> None:
        """A checkpoint that holds everything up to that entry was restored."""
        self.folded = self._confirmed = max(self.folded, log_id)

    def _take(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        if self.folded < log_id < (NO_TIME_MS, 0):
            self.folded = log_id
            if placements:
                self._fold(placements)

    def __repr__(self) -> str:
        reading = "" if self._waiting is None else f", {len(self._waiting)} waiting"
        return f"<PlacementLog folded to {format_id(self.folded)}{reading}>"
