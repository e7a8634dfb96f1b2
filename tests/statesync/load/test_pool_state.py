"""A pool's columns: cheap to change, and frozen once they are handed out."""

from __future__ import annotations

from itertools import count

import pytest

from schedulers.ttft import IDLE_PACE_S
from schedulers.types import LoadSnapshot, Pod, PodId
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.types import EngineReport


def pod_state(name: str, max_inflight: int | None = None) -> PodState:
    return PodState(Pod(PodId(name), f"{name}:8000", max_inflight=max_inflight))


def pool_of(*pod_states: PodState) -> PoolState:
    pool_state = PoolState("default")
    for each in pod_states:
        assert pool_state.add(each)
    return pool_state


def busy(each: PodState, pool_state: PoolState, requests: int) -> bool:
    each.requests, each.prefill_tokens = requests, 100 * requests
    return pool_state.changed(each)


def test_a_snapshot_stays_the_latest_until_something_changes() -> None:
    clock = count(1)
    a, b = pod_state("a"), pod_state("b")
    pool_state = pool_of(a, b)
    first = pool_state.snapshot(next(clock))
    kept = pool_state.latest
    busy(a, pool_state, 1)
    assert (kept, pool_state.latest) == (first, None)
    second = pool_state.snapshot(next(clock))
    assert (first.taken_at, second.taken_at) == (1, 2)
    assert second.generation == first.generation
    assert second.positions is first.positions
    assert second.candidates[1] is first.candidates[1]  # only the dirty cell was rebuilt


def test_the_columns_agree_with_the_loads() -> None:
    pod_states = [pod_state(name) for name in "abc"]
    pool_state = PoolState("default", {"zone": "a"})
    for requests, each in enumerate(pod_states):
        pool_state.add(each)
        each.other_requests, each.other_tokens, each.other_prefilling, each.other_prefill_work = 2, 900, 1, 700
        each.head_since = float(requests)
        busy(each, pool_state, requests)
    snapshot = pool_state.snapshot(5.0, 0.5)
    computed = LoadSnapshot.of(snapshot.candidates)
    assert snapshot.columns == computed.columns
    assert min(snapshot.columns.pace) > snapshot.pace_s == IDLE_PACE_S  # each has a batch that decodes
    assert snapshot.pending_s == pytest.approx(computed.pending_s, rel=0.1)
    assert snapshot.pace_s == pytest.approx(computed.pace_s, rel=0.1)
    assert (snapshot.positions, snapshot.inflight) == (computed.positions, computed.inflight)
    assert (snapshot.pool, snapshot.generation, snapshot.home) == ("default", 3, {"zone": "a"})
    assert (snapshot.taken_at, snapshot.unseen) == (5.0, 0.5)
    assert len(set(snapshot.columns.until)) == 3


def test_a_snapshot_handed_out_never_changes() -> None:
    a, b, c = pod_state("a"), pod_state("b", 1), pod_state("c")
    pool_state = pool_of(a, b, c)
    held = pool_state.snapshot(0.0)
    copy = held._replace(positions=dict(held.position_of()))
    busy(b, pool_state, 1)
    a.blockers.add("probe")
    pool_state.changed(a)
    pool_state.snapshot(1.0)
    busy(b, pool_state, 0)
    c.read(EngineReport(queued=4), 2.0)
    pool_state.changed(c)
    pool_state.remove(c)
    pool_state.add(pod_state("d"))
    assert pool_state.snapshot(2.0) != held
    assert held == copy


def test_a_pod_that_leaves_moves_only_the_last_one() -> None:
    pod_states = [pod_state(name) for name in "abcde"]
    pool_state = pool_of(*pod_states)
    before = pool_state.snapshot(0.0)
    pool_state.remove(pod_states[1])
    after = pool_state.snapshot(0.0)
    assert after.position_of() == {"a": 0, "e": 1, "c": 2, "d": 3}
    assert [candidate.pod.id for candidate in after.candidates] == ["a", "e", "c", "d"]
    assert before.position_of() == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    assert after.generation > before.generation


def test_a_full_pod_leaves_and_joins_again_when_it_has_room() -> None:
    a, b = pod_state("a", 2), pod_state("b")
    pool_state = pool_of(a, b)
    assert not busy(a, pool_state, 1)
    assert not busy(a, pool_state, 2)
    assert len(pool_state) == 1
    assert not busy(a, pool_state, 3)
    assert busy(a, pool_state, 1)
    assert pool_state.snapshot(0.0).position_of() == {"b": 0, "a": 1}


def test_a_pod_that_left_dirty_is_no_longer_this_pool_s_to_rebuild() -> None:
    a, b = pod_state("a"), pod_state("b")
    pool_state, other = pool_of(a, b), pool_of(pod_state("x"), pod_state("y"))
    busy(b, pool_state, 1)
    pool_state.remove(b)
    other.add(b)
    assert [candidate.pod.id for candidate in pool_state.snapshot(0.0).candidates] == ["a"]
    assert other.snapshot(0.0).candidates[2].load.inflight == 1


def test_a_new_description_counts_as_a_change_of_membership() -> None:
    a = pod_state("a")
    pool_state = pool_of(a)
    before = pool_state.snapshot(0.0)
    a.adopt(a.pod._replace(address="elsewhere:1"))
    assert not pool_state.adopted(a)
    after = pool_state.snapshot(0.0)
    assert after.generation > before.generation
    assert after.candidates[0].pod.address == "elsewhere:1"


def test_repr_counts_what_they_hold() -> None:
    a = pod_state("a")
    assert repr(a) == "<PodState a in no pool: 0+0 in flight>"
    pool_state = pool_of(a, pod_state("b"))
    a.blockers |= {"probe", "ejected"}
    pool_state.changed(a)
    assert repr(a) == "<PodState a in default: 0+0 in flight blocked by ejected, probe>"
    assert repr(pool_state) == "<PoolState default: 1 of 2 pods may be picked, gen 3>"
