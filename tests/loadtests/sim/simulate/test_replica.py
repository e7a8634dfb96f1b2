"""One simulated gateway uses the gateway's rules: budget of retries, ejection, a trust by pod."""

from __future__ import annotations

import random

import pytest

from loadtests.sim.simulate.replica import POOL, Replica, SentRequest
from router.errors import ConnectFailed, CutMidAnswer
from schedulers.types import Pod, PodId, RequestInfo
from statesync.discovery.changes import PodChange
from statesync.errors import NoRoutablePod
from statesync.load.view import LoadView
from statesync.types import EngineReport
from tests.fakes.simulated_world import arrival

PODS = [Pod(PodId(f"pod-{at}"), f"127.0.0.1:{at}") for at in range(3)]


def replica() -> Replica:
    return Replica("r", lambda: 0.0, PODS, 1_000_000, random.Random(0), LoadView(lambda: 0.0))


def sent(here: Replica, pod: int = 0) -> SentRequest:
    request = SentRequest(0, arrival(0.0), here, [])
    info = RequestInfo("0", "model", 640, 0, 0.0, 0, 0)
    request.charge, request.attempts = here.view.reserve(PODS[pod].id, info), 1
    return request


def test_a_retry_leaves_out_the_pod_that_failed() -> None:
    here = replica()
    request = sent(here)
    assert here.failed(request, ConnectFailed, begun=False)
    assert request.tried == {PODS[0].id}


def test_an_answer_that_has_begun_is_never_started_again() -> None:
    here = replica()
    assert not here.failed(sent(here), CutMidAnswer, begun=True)


def test_retries_are_bounded_by_attempts_and_by_the_gateways_budget() -> None:
    here = replica()
    late = sent(here)
    late.attempts = 3
    assert not here.failed(late, ConnectFailed, begun=False)
    allowed = sum(here.failed(sent(here, 1), ConnectFailed, begun=False) for _ in range(50))
    assert allowed == 10, "budget_min, as no request came in"


def test_three_failures_in_a_row_eject_a_pod() -> None:
    here = replica()
    for _ in range(3):
        here.failed(sent(here), ConnectFailed, begun=False)
    assert PODS[0].id not in {each.pod.id for each in here.view.snapshot(POOL).candidates}


def test_a_pod_that_discovery_drops_is_forgotten() -> None:
    here = replica()
    here.prefix.place(PODS[0].id, [1, 2, 3])
    here.accuracy.judge(PODS[0].id, 64, 64)
    here.change_pods(PodChange(gone=tuple(pod.id for pod in PODS)))
    assert here.prefix.match([1, 2, 3]) == {}
    assert not here.accuracy.pods
    with pytest.raises(NoRoutablePod):
        here.view.snapshot(POOL)


def test_a_report_bounds_the_index_and_shows_a_new_process() -> None:
    here = replica()
    here.prefix.place(PODS[0].id, [1, 2, 3])
    here.read(PODS[0].id, EngineReport(0, 0, 0.0, 128, started_at=1.0))
    assert here.prefix.match([1, 2, 3]) == {PODS[0].id: 2}
    here.read(PODS[0].id, EngineReport(0, 0, 0.0, 128, started_at=9.0))
    assert here.prefix.match([1, 2, 3]) == {}
