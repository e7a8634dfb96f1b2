"""A store inside one process: the default for one replica, and shared state for several gateways in one test.

`memory://` is private to one store. Stores opened on the same `memory://name` share a hub and see each other as
replicas do through Redis: changes reach the other stores' listeners later on the event loop, coalesced, never from
inside the call. All stores of a hub run on one event loop. This file knows no view and no index.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

from schedulers.types import PodId
from statesync.discovery.changes import PodChange
from statesync.errors import StaleGeneration, StateError, StoreUnavailable
from statesync.owners import OwnerTable
from statesync.shares import ShareAnswer, ShareAsk, ShareLedger
from statesync.store.policy_copy import own_copy
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord, ReplicaInfo, StateListener, StoreHealth
from statesync.store.redis.lease import weight
from statesync.store.redis.presence import OwnPods, together
from statesync.types import EngineReport, InflightNumbers

PLACEMENTS = 1_000
"""Most placements kept for replicas that start later; a live replica's checkpoint replaces older ones."""

REPORTS = 4_096
"""Most engines whose last report is kept for replicas that start later."""

TRIALS = 64
"""Most trials whose figures are kept."""

_UNUSED = InflightNumbers()
_FORGOTTEN: Sequence[int] = ()
"""The blocks of a placement that marks an engine's restart: it voids the placements before it."""


class MemoryHub:
    """The state that the stores of one name share. It lives as long as one of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Empty: private to one store."""
        self.members: dict[str, MemoryStore] = {}
        """Started stores by replica."""
        self.history: dict[str, deque[PolicyRecord]] = {}
        """By pool, newest first."""
        self.placements: deque[tuple[PodId, Sequence[int]]] = deque(maxlen=PLACEMENTS)
        self.logged = 0
        """Counter: placements ever added to `placements`."""
        self.reports: dict[PodId, tuple[EngineReport, float]] = {}
        """The last one of each engine and when it was made, on the loop's clock."""
        self.trials: dict[tuple[str, int], dict[str, bytes]] = {}
        """Figures by process, by pool and generation; the latest trials last."""

        self.owners = OwnerTable()
        """Which pod has the state behind an id."""
        self.limits = ShareLedger()

    def __repr__(self) -> str:
        return f"<MemoryHub {self.name or '(private)'}: {', '.join(self.members) or 'no store'}>"


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
        """This replica's numbers without unused pods, for replicas that start later."""
        self._unsent_numbers: dict[PodId, InflightNumbers] = {}
        self._unsent_placements: list[tuple[PodId, Sequence[int]]] = []
        self._unsent_reports: dict[PodId, tuple[EngineReport, float]] = {}
        self._unsent_models: set[PodId] = set()
        self._unsent_served: dict[str, int] = {}
        self._flush_due = False
        self._own_pods = OwnPods()

    @property
    def shared(self) -> bool:
        """Only a named hub can have other members."""
        return bool(self._hub.name)

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Join the hub as `replica`, then pass the others' state to the listener.

        Raises StateError if a live replica of the hub has that name.
        """
        hub = self._hub
        if self._listener is not None or replica in hub.members:
            raise StateError(f"a replica named {replica!r} is live on memory://{hub.name}")
        self._replica, self._listener, self._loop = replica, listener, asyncio.get_running_loop()
        for other, store in hub.members.items():
            if store._numbers:
                listener.replica_inflight(other, dict(store._numbers), True)
        self._pass_placements(listener)
        for pod, (report, at) in hub.reports.items():
            listener.reported_elsewhere(pod, report, max(0.0, self._loop.time() - at))
        for pool, records in hub.history.items():
            listener.policy_changed(pool, own_copy(records[0]))
        listener.pods_elsewhere(together([store._own_pods.pools for store in hub.members.values()]))
        hub.members[replica] = self
        self._plan_flush()

    async def aclose(self) -> None:
        """Send pending changes and leave the hub. Idempotent."""
        if self._listener is None:
            return
        self._flush()
        replica = self._replica
        self._listener = None
        self._numbers.clear()
        del self._hub.members[replica]
        self._call_others(lambda listener: listener.replica_gone(replica))

    def announce(self, pod: PodId, numbers: InflightNumbers, /) -> None:
        """Note this replica's absolute numbers for `pod`; the others get the last ones of this turn of the loop."""
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
        """Note that `pod`'s engine restarted; sent in order with the placements before and after."""
        if not self.shared or self._listener is None:
            return
        self._unsent_placements.append((pod, _FORGOTTEN))
        self._plan_flush()

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """Note an engine's report; the others get the last one of this turn of the loop."""
        if not self.shared or self._loop is None or self._listener is None:
            return
        self._unsent_reports[pod] = report, self._loop.time()
        self._plan_flush()

    def models_changed(self, pod: PodId, /) -> None:
        """Note that the pod lists other models now."""
        if not self.shared or self._listener is None:
            return
        self._unsent_models.add(pod)
        self._plan_flush()

    def served(self, name: str, count: int, /) -> None:
        """Note how much was served under a name."""
        if self.shared and self._listener is not None:
            self._unsent_served[name] = count
            self._plan_flush()

    def change_pods(self, pool: str, change: PodChange, /) -> None:
        """Note which pods this replica has."""
        self._own_pods.change_pods(pool, change)

    def probed(self, pod: PodId, well: bool, /) -> None:
        """Note what this replica's probes say of a pod now."""
        self._own_pods.probed(pod, well)

    def listed(self, pod: PodId, page: bytes, /) -> None:
        """Note which models a pod lists now."""
        self._own_pods.listed(pod, page)

    def elected(self, pod: PodId, /) -> bool:
        """True on the member of the hub with the greatest `weight` for the pod, of those that have it."""
        if self._listener is None:
            return True
        others = [store._replica for store in self._others() if store._own_pods.may_have(pod)]
        return self._replica == max([self._replica, *others], key=lambda name: weight(name, pod))

    def health(self) -> StoreHealth:
        """Connected from `start` to `aclose`; nothing is sent anywhere."""
        started = self._listener is not None
        return StoreHealth(connected=started, warm=started)

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None if none was ever set."""
        records = self._hub.history.get(pool)
        return own_copy(records[0]) if records else None

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first; empty if none was ever set."""
        return [own_copy(record) for record in self._hub.history.get(pool, ())]

    async def put_policy(self, pool: str, wanted: PolicyRecord, /, *, if_generation: int | None) -> PolicyRecord:
        """Compare-and-set; see `StateStore.put_policy`. Raises StaleGeneration."""
        records = self._hub.history.setdefault(pool, deque(maxlen=POLICY_HISTORY))
        generation = records[0].generation if records else 0
        if if_generation is not None and if_generation != generation:
            raise StaleGeneration(f"pool {pool!r} is at generation {generation}, not {if_generation}")
        record = own_copy(wanted._replace(generation=generation + 1))
        records.appendleft(record)
        # The newest one when the call is made: a listener's own change may have overtaken this one.
        self._call_others(lambda listener: listener.policy_changed(pool, own_copy(records[0])))
        return own_copy(record)

    async def share_trial(self, pool: str, generation: int, process: str, figures: bytes, /) -> Mapping[str, bytes]:
        """Store this process's figures; returns those of all processes of the hub."""
        trials = self._hub.trials
        known = trials.pop((pool, generation), {})
        trials[pool, generation] = known | {process: figures}
        while len(trials) > TRIALS:
            del trials[next(iter(trials))]
        return dict(trials[pool, generation])

    async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
        """Exchange shares with the ledger of the hub. Raises StoreUnavailable before `start`."""
        if self._loop is None or self._listener is None:
            raise StoreUnavailable("the store is not started")
        return self._hub.limits.grant(self._replica, self._hub.members, asks, self._loop.time())

    def own(self, key: bytes, pod: PodId, /) -> None:
        """Note that the state behind an id is on `pod`."""
        if self.shared:
            self._hub.owners.learn(key, pod)

    async def owner(self, key: bytes, /) -> PodId | None:
        """The pod that a store of the hub noted."""
        return self._hub.owners.owner(key)

    def replicas(self) -> Sequence[ReplicaInfo]:
        """Live replicas, this one first; all were seen just now."""
        mine = [ReplicaInfo(self._replica, 0.0)] if self._listener is not None else []
        return mine + [ReplicaInfo(store._replica, 0.0) for store in self._others()]

    def age_s(self) -> float:
        """0.0: nothing is sent anywhere."""
        return 0.0

    def __repr__(self) -> str:
        state = "serving" if self._listener is not None else "not started"
        return f"<MemoryStore {self._replica or '?'} on {self._hub!r}, {state}>"

    def _others(self) -> list[MemoryStore]:
        return [store for store in self._hub.members.values() if store is not self]

    def _call_others(self, call: Callable[[StateListener], None]) -> None:
        """Call the others' listeners later, each in its own callback: one that raises does not affect the others."""
        for store in self._others():
            if store._loop is not None:
                store._loop.call_soon(store._receive, call)

    def _receive(self, call: Callable[[StateListener], None]) -> None:
        if self._listener is not None:
            call(self._listener)

    def _plan_flush(self) -> None:
        if self._listener is None or self._loop is None or self._flush_due:
            return
        unsent = self._unsent_numbers, self._unsent_placements, self._unsent_reports, self._unsent_models
        if any(unsent) or self._unsent_served:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _pass_placements(self, listener: StateListener) -> None:
        """Pass the log of placements; before it a member's index, if the log no longer reaches back to its start."""
        hub = self._hub
        if hub.logged > len(hub.placements) and (member := next(iter(hub.members.values()), None)) is not None:
            assert member._listener is not None
            for page in member._listener.checkpoint():
                listener.restored(page)
        for pod, blocks in list(hub.placements):
            _pass_placement(listener, pod, blocks)

    def _flush(self) -> None:
        """Send all unsent changes. Never from inside `announce`: the listeners may change this store in turn."""
        self._flush_due = False
        numbers, self._unsent_numbers = self._unsent_numbers, {}
        placements, self._unsent_placements = self._unsent_placements, []
        reports, self._unsent_reports = self._unsent_reports, {}
        models, self._unsent_models = self._unsent_models, set()
        served, self._unsent_served = self._unsent_served, {}
        self._hub.placements.extend(placements)
        self._hub.logged += len(placements)
        self._keep(reports)
        replica, loop = self._replica, self._loop

        def call(listener: StateListener) -> None:
            if numbers:
                listener.replica_inflight(replica, numbers, False)
            for pod, blocks in placements:
                _pass_placement(listener, pod, blocks)
            # After the placements: a restart comes before the report that shows it.
            for pod, (report, at) in reports.items():
                listener.reported_elsewhere(pod, report, max(0.0, loop.time() - at) if loop is not None else 0.0)
            for pod in models:
                listener.models_changed_elsewhere(pod)
            if served:
                listener.served_elsewhere(replica, served)

        if self._listener is not None:
            self._call_others(call)

    def _keep(self, reports: Mapping[PodId, tuple[EngineReport, float]]) -> None:
        kept = self._hub.reports
        for pod, report in reports.items():
            kept.pop(pod, None)  # so that the dict is in the order of the last report
            kept[pod] = report
        while len(kept) > REPORTS:
            del kept[next(iter(kept))]


def _pass_placement(listener: StateListener, pod: PodId, blocks: Sequence[int]) -> None:
    if blocks:
        listener.placed_elsewhere(pod, blocks)
    else:
        listener.forgotten_elsewhere(pod)
