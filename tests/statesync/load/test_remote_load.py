"""What the others told, kept by replica; that it adds up in the view is in `test_view.py` and `test_view_model.py`."""

from __future__ import annotations

import pytest

from schedulers.types import Pod, PodId
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.load.remote_load import RemoteLoad, ReplicaLoad
from statesync.types import InflightNumbers

A, B = PodId("a"), PodId("b")


def seated() -> tuple[RemoteLoad, PodState]:
    pod_state, pool_state = PodState(Pod(A, "a")), PoolState("p")
    pool_state.add(pod_state)
    return RemoteLoad({A: pod_state}, {"p": pool_state}), pod_state


def test_an_idle_pod_s_counter_is_kept_only_while_the_pod_is_known() -> None:
    share, (_, pod_state) = ReplicaLoad(0.0), seated()
    share.take(A, InflightNumbers(dispatched=5), pod_state, 1.0)
    share.take(B, InflightNumbers(dispatched=5), None, 1.0)
    assert share.numbers == {A: InflightNumbers(dispatched=5)}
    assert repr(share) == "<Share 0 in flight on 1 pods, heard at 0>"


def test_growth_is_told_against_the_last_counter_and_never_negative() -> None:
    share, (_, pod_state) = ReplicaLoad(0.0), seated()
    told = [share.take(A, InflightNumbers(dispatched=count), pod_state, 1.0) for count in (100, 103, 2, 4)]
    assert told == [0, 3, 0, 2]


def test_numbers_on_a_pod_that_left_are_kept_as_long_as_they_hold_something() -> None:
    shares, pod_state = seated()
    shares.put("x", {A: InflightNumbers(1, 2, 3, 4)}, 0.0)
    shares.put("y", {A: InflightNumbers(dispatched=4)}, 0.0)
    shares.left(A)
    again = PodState(Pod(A, "a"))
    shares.seated(again, 2.0)
    assert (again.other_requests, again.other_tokens, again.other_prefill_tokens) == (1, 2, 3)
    shares.drop("x", 1.0)
    shares.drop("x", 1.0)
    assert (pod_state.other_requests, len(shares)) == (0, 1)


def test_a_first_token_at_another_replica_moves_the_head_of_the_queue() -> None:
    shares, pod_state = seated()
    shares.put("x", {A: InflightNumbers(1, 100, 100, 1, 1, 100)}, 1.0)
    assert (pod_state.head_since, pod_state.load().prefilling, pod_state.load().prefill_work) == (1.0, 1, 100)
    shares.put("x", {A: InflightNumbers(2, 200, 200, 2, 2, 200)}, 2.0)
    assert pod_state.head_since == 1.0  # one more behind it
    shares.put("x", {A: InflightNumbers(3, 300, 200, 3, 2, 200)}, 3.0)
    assert pod_state.head_since == 3.0  # one came back, one went, told in one
    shares.put("x", {A: InflightNumbers(dispatched=3)}, 4.0)
    assert (pod_state.load().prefilling, pod_state.load().prefill_work) == (0, 0)


def test_the_first_numbers_of_a_replica_and_those_after_its_restart_are_no_rate() -> None:
    shares, pod_state = seated()
    assert pod_state.pool_state is not None
    for told in (900, 0, 7, 2, 9):
        shares.put("late", {A: InflightNumbers(dispatched=told)}, 1.0)
    assert pod_state.pool_state.elsewhere.weight == pytest.approx(
        7.0
    )  # from 2 to 9; what was first heard, or fell, is none
    shares.drop("late", 1.0)
    shares.put("late", {A: InflightNumbers(dispatched=500)}, 1.0)
    assert pod_state.pool_state.elsewhere.weight == 0.0
