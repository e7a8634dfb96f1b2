"""How far the log of placements is folded in, so that each entry is folded once and none is left out. Pure.

Entries come two ways: told live over the channel, and read from the log by who starts or was away. While the log is
being read, what is told waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from statesync.store.redis.messages import PlacementMessage

LogId = tuple[int, int]
"""A stream id, ordered."""

START: LogId = (0, 0)

Fold = Callable[[Sequence[PlacementMessage]], None]


def parse_id(text: str) -> LogId:
    """`ms-seq` as two numbers; `START` where it is neither."""
    ms, _, seq = text.partition("-")
    return (int(ms), int(seq)) if ms.isdecimal() and seq.isdecimal() else START


def format_id(log_id: LogId) -> str:
    """The inverse of `parse_id`."""
    return f"{log_id[0]}-{log_id[1]}"


class PlacementLog:
    """`fold` takes the placements of another replica's entry."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self.folded: LogId = START
        """The last entry that is in."""
        self._waiting: list[tuple[LogId, Sequence[PlacementMessage]]] | None = None
        """What was told while the log is being read."""

    def behind(self) -> None:
        """From now on what is told waits, until `caught_up`."""
        if self._waiting is None:
            self._waiting = []

    def told(self, log_id: str, placements: Sequence[PlacementMessage]) -> None:
        """An entry came over the channel. Without placements it is an own one, which is in already."""
        at = parse_id(log_id)
        if self._waiting is not None:
            self._waiting.append((at, placements))
        else:
            self._take(at, placements)

    def read(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        """An entry was read from the log."""
        self._take(log_id, placements)

    def caught_up(self) -> None:
        """The log was read to its end: fold what was told meanwhile, but for what was read too."""
        waiting, self._waiting = self._waiting or [], None
        for log_id, placements in waiting:
            self._take(log_id, placements)

    def server_ends_at(self, last: LogId) -> None:
        """The server's log ends before what is folded in: it was emptied or set back, and its ids begin anew."""
        self.folded = min(self.folded, last)

    def restored(self, log_id: LogId) -> None:
        """A checkpoint that holds all up to that entry is in."""
        self.folded = max(self.folded, log_id)

    def _take(self, log_id: LogId, placements: Sequence[PlacementMessage]) -> None:
        if log_id > self.folded:
            self.folded = log_id
            if placements:
                self._fold(placements)

    def __repr__(self) -> str:
        reading = "" if self._waiting is None else f", {len(self._waiting)} waiting"
        return f"<PlacementLog folded to {format_id(self.folded)}{reading}>"
