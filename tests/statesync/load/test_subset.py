"""A subset copies its pods' cells from the pool, each only after it has changed, and freezes what it hands out."""

from __future__ import annotations

from schedulers.types import LoadSnapshot
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.load.subset import Subset
from tests.statesync.load.test_pool_state import busy, pod_state, pool_of


def mixed_pool(*pod_states: PodState) -> PoolState:
    pool_state = pool_of(*pod_states)
    pool_state.mixed = True
    return pool_state


def taken(subset: Subset, pool_state: PoolState, now: float = 0.0, unseen: float = 0.0) -> LoadSnapshot:
    pool_state.refresh()
    subset.refresh()
    return subset.snapshot(now, unseen)


def names(snapshot: LoadSnapshot) -> list[str]:
    return [pod.id for pod, _ in snapshot.candidates]


def test_its_columns_are_those_of_the_pool_for_its_pods() -> None:
    a, b, c = pod_state("a"), pod_state("b"), pod_state("c")
    pool_state = mixed_pool(a, b, c)
    subset = Subset(pool_state, [c, a])
    for each, requests in ((a, 3), (b, 2), (c, 1)):
        busy(each, pool_state, requests)
    made = taken(subset, pool_state, 7.0, 0.9)
    computed = LoadSnapshot.of(made.candidates)
    assert names(made) == ["c", "a"]
    assert (made.columns, made.inflight, made.positions) == (computed.columns, 4, computed.positions)
    assert (made.pool, made.taken_at, made.unseen) == ("default", 7.0, 0.9 * 2 / 3)
    assert made.pending_s == computed.pending_s


def test_only_cells_that_changed_are_copied_and_a_snapshot_stays_the_latest_until_then() -> None:
    a, b, c = pod_state("a"), pod_state("b"), pod_state("c")
    pool_state = mixed_pool(a, b, c)
    subset = Subset(pool_state, [a, b])
    first = taken(subset, pool_state)
    busy(c, pool_state, 1)
    pool_state.refresh()
    latest = [subset.latest]
    busy(a, pool_state, 1)
    pool_state.refresh()
    assert [*latest, subset.latest] == [first, None]
    second = taken(subset, pool_state)
    assert second.candidates[1] is first.candidates[1]
    assert (second.generation, second.positions is first.positions) == (first.generation, True)
    assert (a.watchers, b.watchers) == ([subset], [subset])


def test_a_pod_that_may_not_be_picked_leaves_and_comes_back_with_a_new_generation() -> None:
    a, b, c = pod_state("a"), pod_state("b", 1), pod_state("c")
    pool_state = mixed_pool(a, b, c)
    subset = Subset(pool_state, [a, b, c])
    first = taken(subset, pool_state)
    busy(b, pool_state, 1)
    second = taken(subset, pool_state)
    busy(b, pool_state, 0)
    third = taken(subset, pool_state)
    assert (names(first), names(second), names(third)) == (["a", "b", "c"], ["a", "c"], ["a", "c", "b"])
    assert len({first.generation, second.generation, third.generation, pool_state.snapshot(0.0).generation}) == 4
    assert first.position_of() == {"a": 0, "b": 1, "c": 2}
    assert third.inflight == 0


def test_a_removed_pod_is_counted_no_more_and_may_be_added_again() -> None:
    a, b = pod_state("a"), pod_state("b")
    pool_state = mixed_pool(a, b)
    subset = Subset(pool_state, [a, b])
    busy(a, pool_state, 2)
    taken(subset, pool_state)
    subset.remove(a)
    assert (names(taken(subset, pool_state)), subset.snapshot(0.0, 0.0).inflight, a.watchers) == (["b"], 0, [])
    subset.add(a)
    subset.remove(a)
    subset.add(a)
    assert (names(taken(subset, pool_state)), subset.snapshot(0.0, 0.0).inflight) == (["b", "a"], 2)
    assert a.watchers == [subset]


def test_one_that_is_given_up_is_forgotten_with_the_next_change() -> None:
    a, b = pod_state("a"), pod_state("b")
    pool_state = mixed_pool(a, b)
    subset = Subset(pool_state, [a])
    taken(subset, pool_state)
    subset.give_up()
    busy(a, pool_state, 1)
    pool_state.refresh()
    assert a.watchers == []
    subset.refresh()
    assert a.watchers == []


def test_a_new_description_of_a_pod_is_a_new_generation() -> None:
    a, b = pod_state("a"), pod_state("b")
    pool_state = mixed_pool(a, b)
    subset = Subset(pool_state, [a])
    first = taken(subset, pool_state)
    a.adopt(a.pod._replace(labels={"zone": "x"}))
    pool_state.adopted(a)
    second = taken(subset, pool_state)
    assert second.candidates[0].pod.labels == {"zone": "x"}
    assert second.generation != first.generation
