"""The numbers of the other replicas, kept by replica. Their sums in the view are in `test_view.py` and
`test_view_model.py`."""

from __future__ import annotations

import pytest

from schedulers.types import Pod, PodId
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.load.remote_load import RemoteLoad, ReplicaLoad
from statesync.types import InflightNumbers

A, B = PodId("a"), PodId("b")


def in_a_pool() -> tuple[RemoteLoad, PodState, PoolState]:
    pod_state, pool_state = PodState(Pod(A, "a")), PoolState("p")
    pool_state.add(pod_state)
    return RemoteLoad({A: pod_state}, {"p": pool_state}), pod_state, pool_state


def test_an_idle_pod_s_counter_is_kept_only_while_the_pod_is_known() -> None:
    share, (_, pod_state, _) = ReplicaLoad(0.0), in_a_pool()
    share.take(A, InflightNumbers(dispatched=5), pod_state, 1.0)
    share.take(B, InflightNumbers(dispatched=5), None, 1.0)
    assert share.numbers == {A: InflightNumbers(dispatched=5)}
    assert repr(share) == "<ReplicaLoad 0 in flight on 1 pods, updated at 0>"


def test_growth_is_reported_against_the_last_counter_and_never_negative() -> None:
    share, (_, pod_state, _) = ReplicaLoad(0.0), in_a_pool()
    received = [share.take(A, InflightNumbers(dispatched=count), pod_state, 1.0) for count in (100, 103, 2, 4)]
    assert received == [0, 3, 0, 2]


def test_numbers_on_a_pod_that_left_are_kept_as_long_as_they_hold_something() -> None:
    shares, pod_state, _ = in_a_pool()
    shares.update("x", {A: InflightNumbers(1, 2, 3, 4)}, 0.0)
    shares.update("y", {A: InflightNumbers(dispatched=4)}, 0.0)
    shares.pod_gone(A)
    again = PodState(Pod(A, "a"))
    shares.add_up(again, 2.0)
    assert (again.other_requests, again.other_tokens, again.other_prefill_tokens) == (1, 2, 3)
    shares.drop("x", 1.0)
    shares.drop("x", 1.0)
    assert (pod_state.other_requests, len(shares)) == (0, 1)


def test_a_first_token_at_another_replica_moves_the_head_of_the_queue() -> None:
    shares, pod_state, _ = in_a_pool()
    shares.update("x", {A: InflightNumbers(1, 100, 100, 1, 1, 100)}, 1.0)
    assert (pod_state.head_since, pod_state.load().prefilling, pod_state.load().prefill_work) == (
        1.0,
        1,
        100,
    )
    shares.update("x", {A: InflightNumbers(2, 200, 200, 2, 2, 200)}, 2.0)
    assert pod_state.head_since == 1.0  # one more behind it
    shares.update("x", {A: InflightNumbers(3, 300, 200, 3, 2, 200)}, 3.0)
    assert pod_state.head_since == 3.0  # one was added and one has ended, in one update
    shares.update("x", {A: InflightNumbers(dispatched=3)}, 4.0)
    assert (pod_state.load().prefilling, pod_state.load().prefill_work) == (0, 0)


def test_the_first_numbers_of_a_replica_and_those_after_its_restart_add_no_rate() -> None:
    shares, _, pool_state = in_a_pool()
    for received in (900, 0, 7, 2, 9):
        shares.update("late", {A: InflightNumbers(dispatched=received)}, 1.0)
    assert pool_state.remote_rate.weight == pytest.approx(7.0)  # from 2 to 9; first and falling numbers add nothing
    shares.drop("late", 1.0)
    shares.update("late", {A: InflightNumbers(dispatched=500)}, 1.0)
    assert pool_state.remote_rate.weight == 0.0


def test_a_full_update_clears_what_it_does_not_name_except_the_counter() -> None:
    shares, pod_state, pool_state = in_a_pool()
    shares.update("x", {A: InflightNumbers(2, 20, 20, 4), B: InflightNumbers(1, 1, 1, 1)}, 1.0)
    shares.update("x", {B: InflightNumbers(1, 1, 1, 2)}, 2.0, full=True)
    assert (pod_state.other_requests, pod_state.other_tokens, pod_state.other_prefill_tokens) == (0, 0, 0)
    shares.update("x", {A: InflightNumbers(1, 1, 1, 7)}, 2.0)
    assert pool_state.remote_rate.weight == pytest.approx(3.0)  # from 4 to 7
    shares.update("x", {}, 3.0, full=True)
    assert pod_state.load().inflight == 0


def test_an_update_that_is_not_full_leaves_the_rest_as_it_was() -> None:
    shares, pod_state, _ = in_a_pool()
    shares.update("x", {A: InflightNumbers(2, 20, 20, 4)}, 1.0, full=True)
    shares.update("x", {B: InflightNumbers(1, 1, 1, 2)}, 2.0)
    assert pod_state.other_requests == 2
