"""A listener for tests that keeps the state it receives, as a replica does, and a way to wait for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from schedulers.types import PodId
from statesync.store.protocol import PolicyRecord
from statesync.types import EngineReport, InflightNumbers, KnownPod, PrefixPage
from tests.fakes.virtual_time import real_moment
from tests.fakes.waiting import DEADLINE_S


class RecordingListener:
    """Its prefix index holds only the `pages` that a test sets."""

    def __init__(self) -> None:
        self.inflight: dict[str, dict[PodId, InflightNumbers]] = {}
        self.gone: list[str] = []
        self.placed: list[tuple[PodId, tuple[int, ...]]] = []
        """Placements in order; an entry without blocks means that the pod was forgotten."""
        self.reports: dict[PodId, EngineReport] = {}
        self.report_ages_s: dict[PodId, float] = {}
        self.policies: dict[str, PolicyRecord] = {}
        self.changed_lists: list[PodId] = []
        self.served: dict[str, dict[str, int]] = {}
        self.known: dict[PodId, KnownPod] = {}
        self.pages: list[PrefixPage] = []
        self.restored_pages: list[PrefixPage] = []

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        known = {} if full else self.inflight.pop(replica, {})
        if known or numbers:
            self.inflight[replica] = {**known, **numbers}
        else:
            self.inflight.pop(replica, None)

    def replica_gone(self, replica: str, /) -> None:
        self.gone.append(replica)
        self.inflight.pop(replica, None)

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        assert blocks
        self.placed.append((pod, tuple(blocks)))

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        self.placed.append((pod, ()))

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        self.reports[pod] = report
        self.report_ages_s[pod] = age_s

    def models_changed_elsewhere(self, pod: PodId, /) -> None:
        self.changed_lists.append(pod)

    def served_elsewhere(self, replica: str, served: Mapping[str, int], /) -> None:
        self.served.setdefault(replica, {}).update(served)

    def pods_elsewhere(self, known: Mapping[PodId, KnownPod], /) -> None:
        self.known.update(known)

    def checkpoint(self) -> Iterable[PrefixPage]:
        return self.pages

    def restored(self, page: PrefixPage, /) -> None:
        self.restored_pages.append(page)

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        self.policies[pool] = record


async def eventually(what: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not what():  # a store's background work has no event to wait for
        assert time.monotonic() < end, f"not within {DEADLINE_S:g} s"
        await real_moment()
