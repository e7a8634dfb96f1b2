"""The numbers: this replica's own, what of them is unsent, and the shares of the others. Pure.

Everything is bounded by what exists, not by what happens: numbers and reports by pod, and placements, which are the
only thing that happens, by `PLACEMENTS`. So an outage costs memory by pods, not by requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from schedulers.types import PodId
from statesync.types import EngineReport, InflightNumbers

PLACEMENTS: Final = 10_000
"""Placements kept while the server is away; then the oldest go."""

PER_FLUSH: Final = 256
"""Placements that travel together: others fold them in at once, 10 to 50 us each."""

REPORT_S: Final = 60.0
"""An own report older than this is not told again."""

_NO_BLOCKS: Final[Sequence[int]] = ()


def _nobody() -> None:
    """Nobody sends yet."""


class UpdateBatch(NamedTuple):
    """What one flush carries."""

    numbers: Mapping[PodId, InflightNumbers]
    dropped: Sequence[PodId]
    """Idle for long: kept for nobody who joins."""
    placements: Sequence[tuple[PodId, Sequence[int]]]
    reports: Mapping[PodId, tuple[EngineReport, float]]
    """With the time of the reading."""
    noted_at: float
    """When the oldest change in it was noted."""
    full: bool
    """It holds all of this replica's numbers."""


class PendingUpdates:
    """What this replica knows and what of it the others have yet to hear."""

    __slots__ = (
        *("_dropped", "_touched", "numbers", "placements", "placements_dropped", "reports"),
        *("unsent_numbers", "unsent_reports", "urgent", "waiting", "wake"),
    )

    def __init__(self) -> None:
        self.wake: Callable[[], None] = _nobody
        """Called with the first change after each `take`, and with the first urgent one."""
        self.waiting = False
        """Whether there is something to take."""
        self.urgent = False
        """Whether a dispatch is in it: a pod has more to do than the others believe, who may all run to it."""
        self.numbers: dict[PodId, InflightNumbers] = {}
        """All own numbers, but for those not taken yet."""
        self.unsent_numbers: dict[PodId, InflightNumbers] = {}
        self.placements: deque[tuple[PodId, Sequence[int]]] = deque(maxlen=PLACEMENTS)
        self.placements_dropped = 0
        self.reports: dict[PodId, tuple[EngineReport, float]] = {}
        self.unsent_reports: dict[PodId, tuple[EngineReport, float]] = {}
        self._dropped: list[PodId] = []
        self._touched: set[PodId] = set()
        """Pods with changes since the last `sweep`."""

    def announce(self, pod: PodId, numbers: InflightNumbers) -> None:
        """The last numbers of a pod are the ones that count."""
        if self.urgent:
            self.unsent_numbers[pod] = numbers
            return
        known = self.unsent_numbers.get(pod) or self.numbers.get(pod)
        self.unsent_numbers[pod] = numbers
        self._note(known is None or known.dispatched != numbers.dispatched)

    def placed(self, pod: PodId, blocks: Sequence[int]) -> None:
        """Keeps the sequence itself until it is sent: it must not change."""
        if not blocks:
            return
        if len(self.placements) == PLACEMENTS:
            self.placements_dropped += 1
        self.placements.append((pod, blocks))
        self._note(True)

    def forgot(self, pod: PodId) -> None:
        """A placement without blocks: placements before it are void, those after it stand."""
        if len(self.placements) == PLACEMENTS:
            self.placements_dropped += 1
        self.placements.append((pod, _NO_BLOCKS))
        self._note(False)

    def report(self, pod: PodId, report: EngineReport, now: float) -> None:
        """The last reading of a pod is the one that counts."""
        self.reports[pod] = self.unsent_reports[pod] = (report, now)
        self._note(False)

    def take(self, noted_at: float, full: bool) -> UpdateBatch | None:
        """All that is unsent, or all there is; None if that is nothing. Of many placements the first `PER_FLUSH`."""
        if not (self.waiting or full):
            return None
        numbers, self.unsent_numbers = self.unsent_numbers, {}
        placements: Sequence[tuple[PodId, Sequence[int]]] = self.placements
        if len(placements) <= PER_FLUSH:
            self.placements = deque(maxlen=PLACEMENTS)
        else:
            placements = [self.placements.popleft() for _ in range(PER_FLUSH)]
        self.waiting = self.urgent = bool(self.placements)
        reports, self.unsent_reports = self.unsent_reports, {}
        dropped, self._dropped = self._dropped, []
        self.numbers.update(numbers)
        self._touched.update(numbers)
        if full:
            return UpdateBatch(dict(self.numbers), (), placements, dict(self.reports), noted_at, True)
        return UpdateBatch(numbers, dropped, placements, reports, noted_at, False)

    def give_back(self, batch: UpdateBatch) -> None:
        """It was not sent, or perhaps it was not: what is newer stays. Numbers and reports need no second sending,
        for the link is followed by one that starts with all there is."""
        room = PLACEMENTS - len(self.placements)
        old = list(batch.placements)
        self.placements_dropped += max(0, len(old) - room)
        self.placements.extendleft(reversed(old[max(0, len(old) - room) :]))
        self.waiting = self.urgent = True

    def _note(self, urgent: bool) -> None:
        """There is something to take; an urgent change makes all of it urgent."""
        if not self.waiting or urgent > self.urgent:
            self.waiting, self.urgent = True, urgent
            self.wake()

    def sweep(self, now: float) -> None:
        """Leave out pods that were idle since the last sweep, and old reports: they have most likely gone."""
        idle = [pod for pod, n in self.numbers.items() if not n.requests and pod not in self._touched]
        idle = [pod for pod in idle if pod not in self.unsent_numbers]
        for pod in idle:
            del self.numbers[pod]
        self._dropped += idle
        self._touched.clear()
        self.reports = {pod: kept for pod, kept in self.reports.items() if now - kept[1] < REPORT_S}

    def __repr__(self) -> str:
        return (
            f"<Outbox: {len(self.numbers)} pods; unsent: {len(self.unsent_numbers)} numbers, "
            f"{len(self.placements)} placements, {len(self.unsent_reports)} reports>"
        )
