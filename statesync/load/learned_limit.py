"""How many requests an engine takes at a time, learned from its reports: `max_inflight_per_pod: auto`. Pure: a pod's
numbers in, a limit out.

An engine whose requests wait runs as many as it can: `max_num_seqs`, or what its KV cache holds. The limit is a little
more than that, so that a request is there as soon as one ends. Engines also keep requests waiting for other reasons (an
adapter, a prompt of many steps), so the limit never stays too low:

* It is never below what the engine was seen to run.
* Where all that it lets in runs, it grows by a quarter with each report.
* In `PROBE` of `WINDOW` reports with waiting requests it is a quarter higher. What more runs then, stays.
"""

from __future__ import annotations

import sys
from typing import Final

NO_LIMIT: Final = sys.maxsize
"""Of a pod that has none, in requests."""

SUSTAINED: Final = 2
"""Reports in a row in which requests wait before there is a limit: a burst waits for one step, and then runs."""

WINDOW: Final = 32
"""Reports with waiting requests after which what was seen before them no longer counts."""

PROBE: Final = 4
"""Of these, at the end, with a higher limit."""

STALE_S: Final = 30.0
"""Age of the last report from which on the pod has no limit."""


class LearnedLimit:
    """Of one pod."""

    __slots__ = ("_before", "_most", "_reports", "_waits", "value")

    def __init__(self) -> None:
        self.value = NO_LIMIT
        """The limit as of the last report."""
        self._most = self._before = 0
        """Most requests that ran at a time, in this window and in the one before it."""
        self._reports = 0
        """Of this window."""
        self._waits = 0
        """Reports in a row in which requests wait."""

    def read(self, running: int, queued: int, inflight: int, foreign: int) -> None:
        """Take a report. `inflight`: requests of gateways now; `foreign`: those of others."""
        limit = self.value
        if running > self._most:
            self._most = running
        if queued > 0:
            self._waits += 1
            self._reports += 1
            if self._reports > WINDOW:
                self._before, self._most, self._reports = self._most, running, 1
        else:
            self._waits = 0
            if limit <= inflight < NO_LIMIT:
                self._most = max(self._most, inflight + foreign) * 5 // 4
        if limit == NO_LIMIT and self._waits < SUSTAINED:
            return
        most = self._most if self._most > self._before else self._before
        most += max(2, most // 16)
        if self._reports > WINDOW - PROBE:
            most = most * 5 // 4
        self.value = max(1, most - foreign)

    def __repr__(self) -> str:
        return f"<LearnedLimit {self.value}>"
