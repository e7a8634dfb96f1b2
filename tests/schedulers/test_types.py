"""The properties and methods of the values that policies get."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from schedulers.ttft import outlook
from schedulers.types import (
    Candidate,
    Columns,
    LoadSnapshot,
    PodId,
    PodLoad,
    RequestInfo,
    expected_outlook,
    queue_length,
    token_load,
)
from tests.fakes.scheduler_inputs import cases, idle, ids_of, pod_ids, snapshot_of, snapshots, unhurried


def in_step(columns: Columns, candidates: Sequence[Candidate]) -> None:
    loads = [load for _, load in candidates]
    assert list(zip(columns.until, columns.wait, strict=True)) == [expected_outlook(load) for load in loads]
    assert columns.pace == tuple(load.pace_s for load in loads)
    assert columns.queue == tuple(queue_length(load) for load in loads)
    assert columns.kv_usage == tuple(load.kv_usage for load in loads)
    assert columns.tokens == tuple(token_load(load) for load in loads)


def test_expected_outlook_is_that_of_the_cost_model() -> None:
    load = PodLoad(inflight=3, prefilling=2, prefill_work=500, head_since=7.0, pace_s=1e-3, step_s=0.02)
    assert expected_outlook(load) == outlook(2, 500, 7.0, 1e-3, 0.02)


@unhurried
@given(snapshots())
def test_the_columns_agree_with_the_candidates(snapshot: LoadSnapshot) -> None:
    in_step(snapshot.columns, snapshot.candidates)
    pending = sum(load.prefill_work * load.pace_s for _, load in snapshot.candidates)
    assert snapshot.pending_s == pending / len(snapshot.candidates)
    assert snapshot.pace_s == sum(load.pace_s for _, load in snapshot.candidates) / len(snapshot.candidates)
    assert snapshot.total_inflight() == sum(load.inflight for _, load in snapshot.candidates)
    assert [snapshot.candidates[at].pod.id for at in snapshot.position_of().values()] == list(snapshot.position_of())
    assert len(snapshot.position_of()) == len(snapshot.candidates)


@unhurried
@given(cases())
def test_a_snapshot_without_tried_pods_keeps_the_rest_in_step(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    left = snapshot.without(request.tried)
    kept = [candidate for candidate in snapshot.candidates if candidate.pod.id not in request.tried]
    if left is None:
        assert not kept
    else:
        assert list(left.candidates) == kept
        in_step(left.columns, kept)
        assert left.total_inflight() == sum(load.inflight for _, load in kept)
        assert list(left.position_of()) == ids_of(left)
        assert left[:4] == snapshot[:4]


def test_without_tried_pods_is_the_snapshot_itself() -> None:
    snapshot = idle(3)
    assert snapshot.without(frozenset()) is snapshot
    assert snapshot.without(frozenset({PodId("gone:1")})) == snapshot._replace(positions=None, inflight=None)
    assert snapshot_of([PodLoad()]).without(frozenset(pod_ids(1))) is None


@unhurried
@given(case=cases(), data=st.data())
def test_only_some_is_a_snapshot_of_them_in_the_order_asked_for(
    case: tuple[RequestInfo, LoadSnapshot], data: st.DataObject
) -> None:
    _, snapshot = case
    all_pods = range(len(snapshot.candidates))
    at = data.draw(st.lists(st.sampled_from(all_pods), unique=True, min_size=1))
    left = snapshot.only(at)
    chosen = [snapshot.candidates[each] for each in at]
    assert list(left.candidates) == chosen
    in_step(left.columns, chosen)
    assert left.total_inflight() == sum(load.inflight for _, load in chosen)
    assert list(left.position_of()) == ids_of(left)
