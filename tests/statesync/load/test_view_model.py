"""The load view under any mix of calls, against a slow and simple model: nothing leaks, nothing is negative, and a
snapshot holds exactly the pods that may be picked."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from schedulers.ttft import ANSWER_TOKENS, IDLE_PACE_S, likely_cached, prefill_work
from schedulers.types import LoadSnapshot, Pod, PodId, PodLoad, RequestInfo, columns_of
from statesync.errors import ModelNotServed, NoRoutablePod, PoolSaturated, StateError, UnknownPod
from statesync.load.learned_limit import NO_LIMIT
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.types import LEARNED, EngineReport, InflightNumbers
from tests.fakes.examples import examples

POOLS = ("p", "q")
MODELS = ("x", "y", "z")
IDS = tuple(PodId(name) for name in "abcdef")
NUMBERS = st.just(InflightNumbers()) | st.builds(
    InflightNumbers,
    st.integers(0, 3),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 9),
    st.integers(0, 3),
    st.integers(0, 60),
)
LIMITS = st.none() | st.integers(1, 3) | st.just(LEARNED)


def received(numbers: InflightNumbers) -> tuple[int, int, int, int, int]:
    """The numbers without the counter, in the order of `amounts`."""
    return (*numbers[:3], numbers.prefilling, numbers.prefill_work)


def amounts(load: PodLoad) -> tuple[int, int, int, int, int]:
    return load.inflight, load.inflight_tokens, load.pending_prefill_tokens, load.prefilling, load.prefill_work


def consistent(snapshot: LoadSnapshot) -> None:
    assert len(snapshot.candidates) == len(snapshot.position_of()) > 0
    assert snapshot.columns == columns_of([load for _, load in snapshot.candidates])
    assert snapshot.unseen >= 0.0
    assert snapshot.inflight == sum(load.inflight for _, load in snapshot.candidates)
    work = sum(load.prefill_work for _, load in snapshot.candidates)
    assert snapshot.pending_s == pytest.approx(work * IDLE_PACE_S / len(snapshot.candidates))
    for candidate in snapshot.candidates:
        assert snapshot.candidates[snapshot.position_of()[candidate.pod.id]] is candidate
        assert all(number >= 0 for number in candidate.load if isinstance(number, int | float))


class ViewMachine(RuleBasedStateMachine):
    """The model: open charges with their amounts, blockers and shares by pod; loads are sums over them."""

    charges = Bundle("charges")

    @initialize()
    def begin(self) -> None:
        self.announced: dict[PodId, InflightNumbers] = {}
        self.received: list[str] = []
        self.view = LoadView(lambda: 1.0, self.announced.__setitem__, lambda: 0.5, strict=("q",))
        self.view.on_headroom = self.received.append
        self.members: dict[str, dict[PodId, Pod]] = {}
        self.blockers: dict[PodId, set[str]] = {}
        self.lists: dict[PodId, frozenset[str] | None] = {}
        self.open: dict[int, tuple[Charge, int, int, int]] = {}
        self.shares: dict[str, dict[PodId, InflightNumbers]] = {}
        self.held: list[tuple[LoadSnapshot, LoadSnapshot]] = []
        self.candidates: dict[str, set[PodId]] = {}

    @rule(pool=st.sampled_from(POOLS), limits=st.dictionaries(st.sampled_from(IDS), LIMITS))
    def set_pods(self, pool: str, limits: dict[PodId, int | None]) -> None:
        pods = {pod_id: Pod(pod_id, pod_id, max_inflight=limit) for pod_id, limit in limits.items()}
        elsewhere = {pod_id for other, known in self.members.items() if other != pool for pod_id in known}
        if elsewhere & set(pods):
            with pytest.raises(StateError):
                self.view.set_pods(pool, list(pods.values()))
            return
        before = self.members.get(pool, {})
        added, removed = self.view.set_pods(pool, list(pods.values()))
        assert {p.id for p in added} == set(pods) - set(before)
        assert {p.id for p in removed} == set(before) - set(pods)
        for gone in removed:
            del self.blockers[gone.id]
            self.lists.pop(gone.id, None)
        for new in added:
            self.blockers[new.id] = set()
        self.members[pool] = pods

    @rule(pod_id=st.sampled_from(IDS), reason=st.sampled_from(("probe", "ejected")), on=st.booleans())
    def block(self, pod_id: PodId, reason: str, on: bool) -> None:
        if not on:
            self.view.unblock(pod_id, reason)
            self.blockers.get(pod_id, set()).discard(reason)
        elif pod_id in self.blockers:
            self.view.block(pod_id, reason)
            self.blockers[pod_id].add(reason)
        else:
            with pytest.raises(UnknownPod):
                self.view.block(pod_id, reason)

    @rule(
        target=charges,
        pod_id=st.sampled_from(IDS),
        prompt=st.integers(1, 400),
        answer=st.integers(0, 9),
        hits=st.integers(0, 7),
    )
    def reserve(self, pod_id: PodId, prompt: int, answer: int, hits: int) -> object:
        request = RequestInfo("r", "m", prompt, answer, 0.0, 0, 0, prefix_hits={pod_id: hits})
        if pod_id not in self.blockers:
            with pytest.raises(UnknownPod):
                self.view.reserve(pod_id, request)
            return multiple()
        charge = self.view.reserve(pod_id, request)
        cached = likely_cached(hits * 64, prompt)
        work = prefill_work(prompt - cached, cached)
        assert (charge.cached, charge.work) == (cached, work)
        self.open[id(charge)] = (charge, prompt + (answer or ANSWER_TOKENS), prompt - cached, work)
        return charge

    @rule(charge=charges)
    def prefill_done(self, charge: Charge) -> None:
        self.view.prefill_done(charge)
        if id(charge) in self.open:
            self.open[id(charge)] = (charge, self.open[id(charge)][1], 0, 0)

    @rule(charge=charges)
    def release(self, charge: Charge) -> None:
        self.view.release(charge)
        self.open.pop(id(charge), None)

    @rule(charge=consumes(charges))
    def release_twice(self, charge: Charge) -> None:
        self.release(charge)
        self.release(charge)

    @rule(replica=st.sampled_from(("x", "y")), numbers=st.dictionaries(st.sampled_from(IDS), NUMBERS))
    def share(self, replica: str, numbers: dict[PodId, InflightNumbers]) -> None:
        self.view.set_remote(replica, numbers)
        self.shares.setdefault(replica, {}).update(numbers)

    @rule(replica=st.sampled_from(("x", "y")), numbers=st.dictionaries(st.sampled_from(IDS), NUMBERS))
    def share_anew(self, replica: str, numbers: dict[PodId, InflightNumbers]) -> None:
        self.view.set_remote(replica, numbers, full=True)
        self.shares[replica] = numbers

    @rule(replica=st.sampled_from(("x", "y")))
    def replica_restarts(self, replica: str) -> None:
        self.view.drop_remote(replica)
        self.shares.pop(replica, None)

    @rule(pod_id=st.sampled_from(IDS), models=st.none() | st.frozensets(st.sampled_from(MODELS)))
    def list_models(self, pod_id: PodId, models: frozenset[str] | None) -> None:
        if pod_id in self.blockers:
            self.view.set_models(pod_id, models)
            self.lists[pod_id] = models
        else:
            with pytest.raises(UnknownPod):
                self.view.set_models(pod_id, models)

    @rule(pool=st.sampled_from(POOLS))
    def every_pod_restarts(self, pool: str) -> None:
        limits = {pod_id: pod.max_inflight for pod_id, pod in self.members.get(pool, {}).items()}
        self.set_pods(pool, {})
        self.set_pods(pool, limits)

    @rule(
        pod_id=st.sampled_from(IDS), queued=st.integers(0, 9), running=st.integers(0, 2), seconds=st.floats(0.001, 10)
    )
    def report(self, pod_id: PodId, queued: int, running: int, seconds: float) -> None:
        self.view.report(pod_id, EngineReport(queued=queued, running=running))
        self.view.observe_ttft(pod_id, seconds)

    def own(self, pod_id: PodId) -> tuple[int, int, int, int, int]:
        mine = [held for held in self.open.values() if held[0].pod == pod_id]
        _, tokens, prefill, work = zip(*mine, strict=True) if mine else ((), (), (), ())
        return len(mine), sum(tokens), sum(prefill), sum(map(bool, work)), sum(work)

    def total(self, pod_id: PodId) -> tuple[int, ...]:
        others = [received(share[pod_id]) for share in self.shares.values() if pod_id in share]
        return tuple(sum(column) for column in zip(self.own(pod_id), *others, strict=True))

    def may_be_picked(self, pool: str) -> set[PodId]:
        return {
            pod_id
            for pod_id, pod in self.members[pool].items()
            if not self.blockers[pod_id] and self.total(pod_id)[0] < self.limit(pod)
        }

    def limit(self, pod: Pod) -> int:
        limit = self.view.status(pod.id).limit if pod.max_inflight == LEARNED else pod.max_inflight
        return limit or NO_LIMIT

    def eligible(self, pool: str, model: str) -> set[PodId] | None:
        """The pods that may serve the model, blocked ones included; None if none does."""
        members = set(self.members[pool])
        lists = {pod_id: models for pod_id in members if (models := self.lists.get(pod_id)) is not None}
        without_list = {pod_id for pod_id in members if pod_id in self.lists} - set(lists)
        if len(set(lists.values())) < 2 and not (lists and without_list):
            return members  # all that are known serve the same
        listing = {pod_id for pod_id, models in lists.items() if model in models}
        if listing == set(lists) and not without_list:
            return members
        if all(self.blockers[pod_id] for pod_id in listing) and without_list:
            return without_list
        return listing or (None if pool == "q" else members)

    @invariant()
    def a_model_s_snapshots_hold_exactly_the_pods_that_serve_it(self) -> None:
        for pool, pods in self.members.items():
            for model in MODELS:
                eligible = self.eligible(pool, model)
                fit = self.may_be_picked(pool) & (eligible or set())
                if fit:
                    snapshot = self.view.snapshot(pool, model)
                    consistent(snapshot)
                    assert {c.pod.id: c.pod for c in snapshot.candidates} == {pod_id: pods[pod_id] for pod_id in fit}
                    assert all(amounts(each.load) == self.total(each.pod.id) for each in snapshot.candidates)
                    assert snapshot is self.view.snapshot(pool, model)
                    self.held.append((snapshot, snapshot._replace(positions=dict(snapshot.position_of()))))
                else:
                    routable = any(not self.blockers[pod_id] for pod_id in eligible or ())
                    error = ModelNotServed if eligible is None else PoolSaturated if routable else NoRoutablePod
                    with pytest.raises(error):
                        self.view.snapshot(pool, model)

    @invariant()
    def room_is_what_the_pods_have(self) -> None:
        for pool, pods in self.members.items():
            free = sum(self.limit(pods[pod_id]) - self.total(pod_id)[0] for pod_id in self.may_be_picked(pool))
            limits = [self.limit(pod) for pod_id, pod in pods.items() if not self.blockers[pod_id]]
            assert self.view.room(pool) == (free, sum(limits), len(limits))

    @invariant()
    def loads_are_sums(self) -> None:
        assert self.view.inflight == len(self.open)
        for pod_id in IDS:
            assert received(self.announced.get(pod_id, InflightNumbers())) == self.own(pod_id)
            if pod_id in self.blockers:
                assert amounts(self.view.status(pod_id).load) == self.total(pod_id)

    @invariant()
    def snapshots_hold_exactly_the_pods_that_may_be_picked(self) -> None:
        for pool, pods in self.members.items():
            fit = self.may_be_picked(pool)
            if fit:
                snapshot = self.view.snapshot(pool)
                consistent(snapshot)
                assert {c.pod.id: c.pod for c in snapshot.candidates} == {pod_id: pods[pod_id] for pod_id in fit}
                assert all(amounts(candidate.load) == self.total(candidate.pod.id) for candidate in snapshot.candidates)
                self.held.append((snapshot, snapshot._replace(positions=dict(snapshot.position_of()))))
            else:
                routable = any(not self.blockers[pod_id] for pod_id in pods)
                with pytest.raises(PoolSaturated if routable else NoRoutablePod):
                    self.view.snapshot(pool)
            if fit - self.candidates.get(pool, set()):
                assert pool in self.received
            self.candidates[pool] = fit
        self.received.clear()

    @invariant()
    def snapshots_handed_out_never_change(self) -> None:
        for held, copy in self.held[-24:]:
            assert held == copy

    def teardown(self) -> None:
        for charge, *_ in list(getattr(self, "open", {}).values()):
            self.view.release(charge)
        if hasattr(self, "view"):
            assert self.view.inflight == 0
            assert all(received(numbers) == (0,) * 5 for numbers in self.announced.values())


ViewMachine.TestCase.settings = settings(examples(40), stateful_step_count=40)
test_nothing_is_ever_leaked_negative_or_out_of_place = ViewMachine.TestCase
