"""The batches of one publisher in the order of their numbers: duplicates dropped, gaps filled, restarts found.

Pure: the caller receives bytes and asks for replays; `wants` says from which number. What a batch contains is
`held.py`'s.

A replay itself may have gaps: a publisher's socket drops what its queue has no room for (with vLLM 1,000 batches of a
buffer of 10,000). Then the rest is asked for.

After a restart numbers begin again at 0. It is found by a batch with a known number and a later time, and where the new
publisher has passed the old one's number, by a replay that begins with the last known batch: its time differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from statesync.kv_events.events import EventBatch

MOST_HELD: Final = 20_000
"""Batches that are kept while a replay is under way."""

_UNKNOWN: Final = -1


class EventFeed:
    """One publisher's order."""

    def __init__(self, apply: Callable[[EventBatch], None], reset: Callable[[bool], None]) -> None:
        """`apply` gets each batch once and in order. `reset` is called where nothing is known of the cache any more,
        with whether it is empty: then everything that follows is all there is."""
        self._apply = apply
        self._reset = reset
        self.wants: int | None = 0
        """Number of the first batch to ask for; None while nothing is missing."""
        self.next = _UNKNOWN
        """The number that comes next."""
        self._last_ts = 0.0
        self._held: list[tuple[int, EventBatch]] = []
        """Live batches that came since the replay was asked for."""
        self._replay: list[tuple[int, EventBatch]] = []
        self._checking = False
        self.gaps_total = 0
        """Counter: gaps found."""
        self.lost_total = 0
        """Counter: gaps that no replay filled."""
        self.restarts_total = 0
        """Counter: restarts found."""

    @property
    def in_step(self) -> bool:
        """Whether nothing is known to be missing."""
        return self.wants is None or self._checking

    def check(self) -> None:
        """Nothing came for a while: ask whether anything was missed. What is published while a subscription begins is
        lost, and so is the end of what a full queue drops."""
        if self.wants is None and self.next != _UNKNOWN:
            self.wants, self._checking = max(0, self.next - 1), True

    def live(self, seq: int, batch: EventBatch) -> None:
        """Take a batch as it was published."""
        if self.wants is not None:
            self._held.append((seq, batch))
            if len(self._held) > MOST_HELD:
                self.replay_failed()
        elif not self._take(seq, batch):
            self._held.append((seq, batch))

    def replayed(self, seq: int, batch: EventBatch) -> None:
        """Take a batch of the replay."""
        self._replay.append((seq, batch))

    def replay_done(self) -> None:
        """The replay has ended."""
        answers, self._replay = self._replay, []
        wanted, self.wants, self._checking = self.wants, None, False
        if wanted is not None and self.next == wanted + 1:
            if not answers or (answers[0][0] == wanted and answers[0][1].ts != self._last_ts):
                self._restarted()
                return
        elif not answers and self.next == _UNKNOWN:
            self._begin(self._held[0][0] if self._held else 0)  # it has published nothing yet, or keeps nothing
        before = self.next
        for at, (seq, batch) in enumerate(answers):
            if self.next == _UNKNOWN or seq > self.next:
                if at and self.next != before:  # the replay has a gap
                    self.wants = max(0, self.next - 1)
                    return
                self._begin(seq)  # the publisher does not keep what is missing
            if seq == self.next:
                self._accept(seq, batch)
        self._drain()

    def replay_failed(self) -> None:
        """There is no replay, or it broke off: go on with what came and comes."""
        if self._replay:
            before = self.next
            self.replay_done()
            if self.wants is None and self.next != before:
                self.wants = max(0, self.next - 1)  # its end is missing
            return
        self._replay, self.wants, self._checking = [], None, False
        if self._held:
            seq = self._held[0][0]
            if seq != self.next:
                self._begin(seq)
            self._drain()
        elif self.next == _UNKNOWN:
            self._reset(False)

    def resync(self) -> None:
        """The engine is said to have restarted: nothing is known until a replay has been read."""
        self._held, self._replay, self.next, self.wants, self._checking = [], [], _UNKNOWN, 0, False
        self._reset(False)

    def _take(self, seq: int, batch: EventBatch) -> bool:
        """Apply the batch if its turn has come; False if a replay is needed first."""
        if seq == self.next:
            self._accept(seq, batch)
            return True
        if self.next == _UNKNOWN:
            self.wants = 0
            return False
        if seq > self.next:
            self.gaps_total += 1
            self.wants = max(0, self.next - 1)  # the last known batch is asked for again: it shows a restart
            return False
        if batch.ts <= self._last_ts:
            return True  # a duplicate
        self._restarted()
        return False

    def _restarted(self) -> None:
        self.restarts_total += 1
        self.next, self.wants = _UNKNOWN, 0
        self._reset(False)

    def _begin(self, seq: int) -> None:
        """Go on at this number with an unknown cache, or at 0 with an empty one."""
        if self.next != _UNKNOWN:
            self.lost_total += 1
        self._reset(seq == 0)
        self.next = seq

    def _accept(self, seq: int, batch: EventBatch) -> None:
        self.next, self._last_ts = seq + 1, batch.ts
        self._apply(batch)

    def _drain(self) -> None:
        """Take what came during the replay."""
        held, self._held = self._held, []
        for at, (seq, batch) in enumerate(held):
            if seq > self.next != _UNKNOWN and batch.ts <= self._last_ts:
                continue  # of the process before
            if not self._take(seq, batch):
                self._held = held[at:]
                return
