"""What the seam's values compute by themselves."""

from __future__ import annotations

from hypothesis import given
from schedulers_strategies import cases, idle, ids_of, pod_ids, snapshot_of, snapshots, unhurried

from schedulers.types import LoadSnapshot, PodId, PodLoad, RequestInfo, expected_work, token_load


def test_expected_work_is_pending_prefill_and_a_little_a_request() -> None:
    assert expected_work(PodLoad(pending_prefill_tokens=500, inflight=2, inflight_tokens=9000, queued=4)) == 628.0


@unhurried
@given(snapshots())
def test_the_columns_say_what_the_candidates_say(snapshot: LoadSnapshot) -> None:
    assert snapshot.work_column() == tuple(expected_work(load) for _, load in snapshot.candidates)
    assert snapshot.token_column() == tuple(token_load(load) for _, load in snapshot.candidates)
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
        assert left.work_column() == tuple(expected_work(load) for _, load in kept)
        assert left.token_column() == tuple(token_load(load) for _, load in kept)
        assert left.total_inflight() == sum(load.inflight for _, load in kept)
        assert list(left.position_of()) == ids_of(left)
        assert left[:4] == snapshot[:4]


def test_without_nobody_is_the_snapshot_itself() -> None:
    snapshot = idle(3)
    assert snapshot.without(frozenset()) is snapshot
    assert snapshot.without(frozenset({PodId("gone:1")})) == snapshot._replace(positions=None, inflight=None)
    assert snapshot_of([PodLoad()]).without(frozenset(pod_ids(1))) is None
