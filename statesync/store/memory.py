"""A store inside one process: the default, and the real thing to run several gateways in one test.

`memory://` is private: nobody else hears it. Stores opened on the same `memory://name` share a hub and see each
other as replicas do through Redis: what one says reaches the others' listeners later on the event loop, coalesced,
never from inside the call. All stores of a hub live on one event loop. This file knows no view and no index.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

from schedulers.types import PodId
from statesync.errors import StaleGeneration, StateError
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord, ReplicaInfo, StateListener, StoreHealth
from statesync.store.redis.lease import weight
from statesync.store.redis.policy_cache import own_copy
from statesync.types import EngineReport, InflightNumbers

PLACEMENTS = 1_000
"""Placements kept for replicas that start later; of what lies before, a live one gives a checkpoint."""

REPORTS = 4_096
"""Engines whose last report is kept for replicas that start later."""

TRIALS = 64
"""Trials whose figures are kept."""

_UNUSED = InflightNumbers()
_FORGOTTEN: Sequence[int] = ()
"""A placement without blocks says that the engine restarted: placements before it are void, those after it stand."""


class MemoryHub:
    """What the stores of one name share. It lives as long as one of them does."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Empty: private to one store."""
        self.members: dict[str, MemoryStore] = {}
        """Started stores by replica."""
        self.history: dict[str, deque[PolicyRecord]] = {}
        """By pool, newest first."""
        self.placements: deque[tuple[PodId, Sequence[int]]] = deque(maxlen=PLACEMENTS)
        self.logged = 0
        """Placements ever put there."""
        self.reports: dict[PodId, tuple[EngineReport, float]] = {}
        """The last one of each engine and when it was made, on the loop's clock."""
        self.trials: dict[tuple[str, int], dict[str, bytes]] = {}
        """By pool and generation what each teller told; the latest trials last."""

    def __repr__(self) -> str:
        return f"<Hub {self.name or '(private)'}: {', '.join(self.members) or 'nobody'}>"


_hubs: WeakValueDictionary[str, MemoryHub] = WeakValueDictionary()


class MemoryStore:
    """A `StateStore` that needs no server."""

    def __init__(self, name: str = "") -> None:
        self._hub = _hubs.setdefault(name, MemoryHub(name)) if name else MemoryHub("")
        self._replica = ""
        self._listener: StateListener | None = None
        """None before `start` and after `aclose`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers: dict[PodId, InflightNumbers] = {}
        """This replica's own, without unused pods: what a replica that starts later is told."""
        self._unsent_numbers: dict[PodId, InflightNumbers] = {}
        self._unsent_placements: list[tuple[PodId, Sequence[int]]] = []
        self._unsent_reports: dict[PodId, tuple[EngineReport, float]] = {}
        self._flush_due = False

    @property
    def shared(self) -> bool:
        """Only a named hub can have other members."""
        return bool(self._hub.name)

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Join the hub as `replica`, then tell the listener all that the others know.

        Raises StateError if a live replica of the hub has that name.
        """
        hub = self._hub
        if self._listener is not None or replica in hub.members:
            raise StateError(f"a replica named {replica!r} is live on memory://{hub.name}")
        self._replica, self._listener, self._loop = replica, listener, asyncio.get_running_loop()
        for other, store in hub.members.items():
            if store._numbers:
                listener.replica_inflight(other, dict(store._numbers), True)
        self._tell_placements(listener)
        for pod, (report, at) in hub.reports.items():
            listener.reported_elsewhere(pod, report, max(0.0, self._loop.time() - at))
        for pool, records in hub.history.items():
            listener.policy_changed(pool, own_copy(records[0]))
        hub.members[replica] = self
        self._plan_flush()

    async def aclose(self) -> None:
        """Send what is pending and leave the hub. Safe to call twice."""
        if self._listener is None:
            return
        self._flush()
        replica = self._replica
        self._listener = None
        self._numbers.clear()
        del self._hub.members[replica]
        self._tell_others(lambda listener: listener.replica_gone(replica))

    def announce(self, pod: PodId, numbers: InflightNumbers, /) -> None:
        """Note this replica's absolute numbers for `pod`; the others hear the last ones of this turn of the loop."""
        if not self.shared:
            return
        if numbers == _UNUSED:
            self._numbers.pop(pod, None)
        else:
            self._numbers[pod] = numbers
        self._unsent_numbers[pod] = numbers
        self._plan_flush()

    def placed(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Note that a prompt with these block hashes went to `pod`."""
        if not self._hub.name or self._listener is None or not blocks:
            return
        self._unsent_placements.append((pod, tuple(blocks)))
        self._plan_flush()

    def forgot(self, pod: PodId, /) -> None:
        """Note that `pod`'s engine restarted; told in turn with the placements before and after."""
        if not self.shared or self._listener is None:
            return
        self._unsent_placements.append((pod, _FORGOTTEN))
        self._plan_flush()

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """Note an engine's own report; the others hear the last one of this turn of the loop."""
        if not self.shared or self._loop is None or self._listener is None:
            return
        self._unsent_reports[pod] = report, self._loop.time()
        self._plan_flush()

    def elected(self, pod: PodId, /) -> bool:
        """True on one member of the hub: the one whose name and the pod's hash highest together."""
        if self._listener is None:
            return True
        return self._replica == max(self._hub.members, key=lambda name: weight(name, pod))

    def health(self) -> StoreHealth:
        """Well from `start` to `aclose`; nothing travels."""
        started = self._listener is not None
        return StoreHealth(connected=started, warm=started)

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None where none was ever set."""
        records = self._hub.history.get(pool)
        return own_copy(records[0]) if records else None

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first; empty where none was ever set."""
        return [own_copy(record) for record in self._hub.history.get(pool, ())]

    async def put_policy(
        self,
        pool: str,
        name: str,
        params: Mapping[str, object],
        /,
        *,
        if_generation: int | None,
        shadow: PolicyChoice | None = None,
        canary: Canary | None = None,
        note: str = "",
        restores: int | None = None,
    ) -> PolicyRecord:
        """Compare-and-set; see `StateStore.put_policy`. Raises StaleGeneration."""
        records = self._hub.history.setdefault(pool, deque(maxlen=POLICY_HISTORY))
        generation = records[0].generation if records else 0
        if if_generation is not None and if_generation != generation:
            raise StaleGeneration(f"pool {pool!r} is at generation {generation}, not {if_generation}")
        record = own_copy(PolicyRecord(name, params, generation + 1, shadow, canary, note, restores))
        records.appendleft(record)
        news = own_copy(record)
        self._tell_others(lambda listener: listener.policy_changed(pool, news))
        return own_copy(record)

    async def share_trial(self, pool: str, generation: int, teller: str, figures: bytes, /) -> Mapping[str, bytes]:
        """This replica's figures, for those of all tellers of the hub."""
        trials = self._hub.trials
        told = trials.pop((pool, generation), {})
        trials[pool, generation] = told | {teller: figures}
        while len(trials) > TRIALS:
            del trials[next(iter(trials))]
        return dict(trials[pool, generation])

    def replicas(self) -> Sequence[ReplicaInfo]:
        """Live replicas, this one first. What lives in one process was heard just now."""
        mine = [ReplicaInfo(self._replica, 0.0)] if self._listener is not None else []
        return mine + [ReplicaInfo(store._replica, 0.0) for store in self._others()]

    def age_s(self) -> float:
        """0.0: nothing has to travel."""
        return 0.0

    def __repr__(self) -> str:
        state = "serving" if self._listener is not None else "not started"
        return f"<MemoryStore {self._replica or '?'} on {self._hub!r}, {state}>"

    def _others(self) -> list[MemoryStore]:
        return [store for store in self._hub.members.values() if store is not self]

    def _tell_others(self, news: Callable[[StateListener], None]) -> None:
        """Later, each in its own callback: one listener that raises takes nothing from the others."""
        for store in self._others():
            if store._loop is not None:
                store._loop.call_soon(store._hear, news)

    def _hear(self, news: Callable[[StateListener], None]) -> None:
        if self._listener is not None:
            news(self._listener)

    def _plan_flush(self) -> None:
        if self._listener is None or self._loop is None or self._flush_due:
            return
        if self._unsent_numbers or self._unsent_placements or self._unsent_reports:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _tell_placements(self, listener: StateListener) -> None:
        """What is placed where: the log, and where it no longer reaches back to its start, a member's index first."""
        hub = self._hub
        if hub.logged > len(hub.placements) and (member := next(iter(hub.members.values()), None)) is not None:
            assert member._listener is not None
            for page in member._listener.checkpoint():
                listener.restored(page)
        for pod, blocks in list(hub.placements):
            _tell_placement(listener, pod, blocks)

    def _flush(self) -> None:
        """Hand over all that is unsent. Never from inside `announce`: the others may answer with requests of theirs."""
        self._flush_due = False
        numbers, self._unsent_numbers = self._unsent_numbers, {}
        placements, self._unsent_placements = self._unsent_placements, []
        reports, self._unsent_reports = self._unsent_reports, {}
        self._hub.placements.extend(placements)
        self._hub.logged += len(placements)
        self._keep(reports)
        replica, loop = self._replica, self._loop

        def news(listener: StateListener) -> None:
            if numbers:
                listener.replica_inflight(replica, numbers, False)
            for pod, blocks in placements:
                _tell_placement(listener, pod, blocks)
            # After the placements: a restart is said before the report that shows it.
            for pod, (report, at) in reports.items():
                listener.reported_elsewhere(pod, report, max(0.0, loop.time() - at) if loop is not None else 0.0)

        if self._listener is not None:
            self._tell_others(news)

    def _keep(self, reports: Mapping[PodId, tuple[EngineReport, float]]) -> None:
        kept = self._hub.reports
        for pod, report in reports.items():
            kept.pop(pod, None)  # so that the dict is in the order of the last report
            kept[pod] = report
        while len(kept) > REPORTS:
            del kept[next(iter(kept))]


def _tell_placement(listener: StateListener, pod: PodId, blocks: Sequence[int]) -> None:
    if blocks:
        listener.placed_elsewhere(pod, blocks)
    else:
        listener.forgotten_elsewhere(pod)
