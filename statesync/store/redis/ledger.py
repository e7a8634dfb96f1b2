"""This replica's own numbers, placements and reports, and which of them are unsent. Pure.

Memory is bounded: numbers and reports by the number of pods, placements by `PLACEMENTS`. So it grows with the pods
during an outage, not with the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from schedulers.types import PodId
from statesync.types import EngineReport, InflightNumbers

PLACEMENTS: Final = 10_000
"""Most unsent placements; while the server is unreachable the oldest are dropped."""

PER_FLUSH: Final = 256
"""Most placements in a flush: receivers fold them in one go, 10 to 50 us each."""

REPORT_S: Final = 60.0
"""Seconds after which an own report is not sent to new replicas any more."""

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

_NO_BLOCKS: Final[Sequence[int]] = ()


def _no_sender() -> None:
    """Before a sender is set."""


class UpdateBatch(NamedTuple):
    """The content of one flush."""

    numbers: Mapping[PodId, InflightNumbers]
    dropped: Sequence[PodId]
    """Pods idle for long, to be removed from the stored numbers."""
    placements: Sequence[tuple[PodId, Sequence[int]]]
    reports: Mapping[PodId, tuple[EngineReport, float]]
    """Each with the time of its reading."""
    noted_at: float
    """When the oldest change in it was noted."""
    full: bool
    """Whether it holds all of this replica's numbers."""
    models: Collection[PodId] = ()
    """Pods whose lists of models have changed."""
    served: Mapping[str, int] = NOTHING
    """What was served, by name: the counts that have changed."""


class PendingUpdates:
    """This replica's part of the shared state, and the changes not sent yet."""

    __slots__ = (
        *("_dropped", "_touched", "numbers", "placements", "placements_dropped", "reports"),
        *("unsent_models", "unsent_numbers", "unsent_reports", "unsent_served", "urgent", "waiting", "wake"),
    )

    def __init__(self) -> None:
        self.wake: Callable[[], None] = _no_sender
        """Called on the first change after each `take`, and on the first urgent one."""
        self.waiting = False
        """Whether there are changes to take."""
        self.urgent = False
        """Whether a dispatch is among them: until it is sent, other replicas see a pod idler than it is, and may all
        choose it."""
        self.numbers: dict[PodId, InflightNumbers] = {}
        """All own numbers, except those not taken yet."""
        self.unsent_numbers: dict[PodId, InflightNumbers] = {}
        self.placements: deque[tuple[PodId, Sequence[int]]] = deque(maxlen=PLACEMENTS)
        self.placements_dropped = 0
        self.reports: dict[PodId, tuple[EngineReport, float]] = {}
        self.unsent_reports: dict[PodId, tuple[EngineReport, float]] = {}
        self.unsent_models: set[PodId] = set()
        self.unsent_served: dict[str, int] = {}
        self._dropped: list[PodId] = []
        self._touched: set[PodId] = set()
        """Pods with changes since the last `sweep`."""

    def announce(self, pod: PodId, numbers: InflightNumbers) -> None:
        """Note a pod's numbers; they replace earlier ones."""
        if self.urgent:
            self.unsent_numbers[pod] = numbers
            return
        known = self.unsent_numbers.get(pod) or self.numbers.get(pod)
        self.unsent_numbers[pod] = numbers
        self._note(known is None or known.dispatched != numbers.dispatched)

    def placed(self, pod: PodId, blocks: Sequence[int]) -> None:
        """Note a placement. The sequence itself is kept until it is sent: it must not change."""
        if not blocks:
            return
        if len(self.placements) == PLACEMENTS:
            self.placements_dropped += 1
        self.placements.append((pod, blocks))
        self._note(True)

    def forgot(self, pod: PodId) -> None:
        """Note that the pod's engine restarted, as a placement without blocks: it voids those before it."""
        if len(self.placements) == PLACEMENTS:
            self.placements_dropped += 1
        self.placements.append((pod, _NO_BLOCKS))
        self._note(False)

    def report(self, pod: PodId, report: EngineReport, now: float) -> None:
        """Note a pod's report; it replaces earlier ones."""
        self.reports[pod] = self.unsent_reports[pod] = (report, now)
        self._note(False)

    def models_changed(self, pod: PodId) -> None:
        """Note that the pod lists other models now."""
        self.unsent_models.add(pod)
        self._note(False)

    def served(self, name: str, count: int) -> None:
        """Note how much was served under a name."""
        self.unsent_served[name] = count
        self._note(False)

    def take(self, noted_at: float, full: bool) -> UpdateBatch | None:
        """The unsent changes, or everything if `full`; None if there is nothing. At most `PER_FLUSH` placements."""
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
        models, self.unsent_models = self.unsent_models, set()
        served, self.unsent_served = self.unsent_served, {}
        self.numbers.update(numbers)
        self._touched.update(numbers)
        if full:
            return UpdateBatch(dict(self.numbers), (), placements, dict(self.reports), noted_at, True, models, served)
        return UpdateBatch(numbers, dropped, placements, reports, noted_at, False, models, served)

    def give_back(self, batch: UpdateBatch) -> None:
        """Put back what only this batch has, which was perhaps not sent. Numbers and reports need not be sent again:
        the next link starts with all of them."""
        room = PLACEMENTS - len(self.placements)
        old = list(batch.placements)
        self.placements_dropped += max(0, len(old) - room)
        self.placements.extendleft(reversed(old[max(0, len(old) - room) :]))
        self.unsent_models.update(batch.models)
        self.unsent_served = {**batch.served, **self.unsent_served}
        self.waiting = self.urgent = True

    def _note(self, urgent: bool) -> None:
        """Note that there are changes; an urgent one makes all of them urgent."""
        if not self.waiting or urgent > self.urgent:
            self.waiting, self.urgent = True, urgent
            self.wake()

    def sweep(self, now: float) -> None:
        """Drop pods that were idle since the last sweep, and old reports: those pods are most likely gone."""
        idle = [pod for pod, n in self.numbers.items() if not n.requests and pod not in self._touched]
        idle = [pod for pod in idle if pod not in self.unsent_numbers]
        for pod in idle:
            del self.numbers[pod]
        self._dropped += idle
        self._touched.clear()
        self.reports = {pod: kept for pod, kept in self.reports.items() if now - kept[1] < REPORT_S}

    def __repr__(self) -> str:
        return (
            f"<PendingUpdates: {len(self.numbers)} pods; unsent: {len(self.unsent_numbers)} numbers, "
            f"{len(self.placements)} placements, {len(self.unsent_reports)} reports>"
        )
