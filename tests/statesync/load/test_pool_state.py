"""A pool's columns: cheap to change, and frozen once handed out."""

from __future__ import annotations

from itertools import count

import pytest

from schedulers.ttft import PACE_S
from schedulers.types import Pod, PodId, expected_outlook
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.types import EngineReport


def seat(name: str, max_inflight: int | None = None) -> PodState:
    return PodState(Pod(PodId(name), f"{name}:8000", max_inflight=max_inflight))


def lineup_of(*seats: PodState) -> PoolState:
    lineup = PoolState("default")
    for each in seats:
        assert lineup.add(each)
    return lineup


def busy(each: PodState, lineup: PoolState, requests: int) -> bool:
    each.requests, each.prefill_tokens = requests, 100 * requests
    return lineup.changed(each)


def test_a_snapshot_stays_the_latest_until_something_changes() -> None:
    clock = count(1)
    a, b = seat("a"), seat("b")
    lineup = lineup_of(a, b)
    first = lineup.snapshot(next(clock))
    kept = lineup.latest
    busy(a, lineup, 1)
    assert (kept, lineup.latest) == (first, None)
    second = lineup.snapshot(next(clock))
    assert (first.taken_at, second.taken_at) == (1, 2)
    assert second.generation == first.generation
    assert second.positions is first.positions
    assert second.candidates[1] is first.candidates[1]  # only the dirty cell was made anew


def test_columns_are_what_the_loads_say() -> None:
    seats = [seat(name) for name in "abc"]
    lineup = lineup_of(*seats)
    for requests, each in enumerate(seats):
        each.other_requests, each.other_tokens, each.other_prefilling, each.other_prefill_work = 2, 900, 1, 700
        each.head_since = float(requests)
        busy(each, lineup, requests)
    snapshot = lineup.snapshot(0.0)
    expected = [expected_outlook(load) for _, load in snapshot.candidates]
    assert list(zip(snapshot.until, snapshot.wait, strict=True)) == expected
    assert snapshot.pace == (PACE_S,) * 3
    assert snapshot.pending_s == pytest.approx(snapshot._replace(pending_s=None).mean_pending_s())
    assert len(set(snapshot.until)) == 3


def test_a_snapshot_in_hand_never_changes() -> None:
    a, b, c = seat("a"), seat("b", 1), seat("c")
    lineup = lineup_of(a, b, c)
    held = lineup.snapshot(0.0)
    copy = held._replace(positions=dict(held.position_of()))
    busy(b, lineup, 1)
    a.blockers.add("probe")
    lineup.changed(a)
    lineup.snapshot(1.0)
    busy(b, lineup, 0)
    c.read(EngineReport(queued=4), 2.0)
    lineup.changed(c)
    lineup.remove(c)
    lineup.add(seat("d"))
    assert lineup.snapshot(2.0) != held
    assert held == copy


def test_a_pod_that_leaves_moves_only_the_last_one() -> None:
    seats = [seat(name) for name in "abcde"]
    lineup = lineup_of(*seats)
    before = lineup.snapshot(0.0)
    lineup.remove(seats[1])
    after = lineup.snapshot(0.0)
    assert after.position_of() == {"a": 0, "e": 1, "c": 2, "d": 3}
    assert [candidate.pod.id for candidate in after.candidates] == ["a", "e", "c", "d"]
    assert before.position_of() == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    assert after.generation > before.generation


def test_a_full_pod_leaves_and_joins_again_when_it_has_room() -> None:
    a, b = seat("a", 2), seat("b")
    lineup = lineup_of(a, b)
    assert not busy(a, lineup, 1)
    assert not busy(a, lineup, 2)
    assert len(lineup) == 1
    assert not busy(a, lineup, 3)
    assert busy(a, lineup, 1)
    assert lineup.snapshot(0.0).position_of() == {"b": 0, "a": 1}


def test_a_pod_that_left_dirty_is_no_longer_this_pool_s_to_rebuild() -> None:
    a, b = seat("a"), seat("b")
    lineup, other = lineup_of(a, b), lineup_of(seat("x"), seat("y"))
    busy(b, lineup, 1)
    lineup.remove(b)
    other.add(b)
    assert [candidate.pod.id for candidate in lineup.snapshot(0.0).candidates] == ["a"]
    assert other.snapshot(0.0).candidates[2].load.inflight == 1


def test_a_new_description_counts_as_a_change_of_membership() -> None:
    a = seat("a")
    lineup = lineup_of(a)
    before = lineup.snapshot(0.0)
    a.adopt(a.pod._replace(address="elsewhere:1"))
    assert not lineup.adopted(a)
    after = lineup.snapshot(0.0)
    assert after.generation > before.generation
    assert after.candidates[0].pod.address == "elsewhere:1"


def test_they_say_what_they_hold() -> None:
    a = seat("a")
    assert repr(a) == "<Seat a in gone: 0+0 in flight>"
    lineup = lineup_of(a, seat("b"))
    a.blockers |= {"probe", "ejected"}
    lineup.changed(a)
    assert repr(a) == "<Seat a in default: 0+0 in flight blocked by ejected, probe>"
    assert repr(lineup) == "<Lineup default: 1 of 2 pods may be picked, gen 3>"
