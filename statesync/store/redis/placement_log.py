"""The position up to which the log of placements is folded in, so that each entry is folded once, and none is missed.
Pure.

Entries come two ways: live over the channel, and from the log when a replica starts or was disconnected. While the log
is being read, live entries wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from statesync.store.redis.messages import PlacementMessage

LogId = tuple[int, int]
"""A stream id, ordered."""

START: LogId = (0, 0)

Fold = Callable[[Sequence[PlacementMessage]], None]


def parse_id(text: str) -> LogId:
    """`ms-seq` as two numbers; `START` if it is not of that form."""
    ms, _, seq = text.partition("-")
    return (int(ms), int(seq)) if ms.isdecimal() and seq.isdecimal() else START


def format_id(log_id: LogId) -> str:
    """The inverse of `parse_id`."""
    return f"{log_id[0]}-{log_id[1]}"


class PlacementLog:
    """Passes each entry's placements to `fold`, once."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self.folded: LogId = START
        """The last entry folded."""
        self._waiting: list[tuple[LogId, Sequence[PlacementMessage]]] | None = None
        """Entries from the channel while the log is being read; None otherwise."""

    def behind(self) -> None:
        """Let entries from the channel wait until `caught_up`."""
        if self._waiting is None:
            self._waiting = []

    def received(self, log_id: str, placements: Sequence[PlacementMessage]) -> None:
        """Take an entry from the channel. Without placements it is an own one, which needs no folding."""
        at = parse_id(log_id)
        if self._waiting is not None:
            self._waiting.append((at, placements))
        else:
            self._take(at, placements)

    def read(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        """Take an entry from the log."""
        self._take(log_id, placements)

    def caught_up(self) -> None:
        """The log was read to its end: fold the entries that waited, except those read from the log, too."""
        waiting, self._waiting = self._waiting or [], None
        for log_id, placements in waiting:
            self._take(log_id, placements)

    def server_ends_at(self, last: LogId) -> None:
        """The server's last entry. If it is before the last one folded, the log was lost or reset, and ids start
        again."""
        self.folded = min(self.folded, last)

    def restored(self, log_id: LogId) -> None:
        """A checkpoint that holds everything up to that entry was restored."""
        self.folded = max(self.folded, log_id)

    def _take(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        if log_id > self.folded:
            self.folded = log_id
            if placements:
                self._fold(placements)

    def __repr__(self) -> str:
        reading = "" if self._waiting is None else f", {len(self._waiting)} waiting"
        return f"<PlacementLog folded to {format_id(self.folded)}{reading}>"
