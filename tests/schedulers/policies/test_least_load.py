from __future__ import annotations

import pytest
from hypothesis import given

from schedulers.policies.least_load import LeastLoad, least_loaded
from schedulers.types import Decision, LoadSnapshot, PodLoad, RequestInfo, token_load
from tests.fakes.scheduler_inputs import cases, pod_ids, request_of, snapshot_of, unhurried

A, B = pod_ids(2)


@pytest.mark.parametrize(
    ("load", "tokens"),
    [
        (PodLoad(), 0.0),
        (PodLoad(inflight=1, inflight_tokens=1000), 1064.0),
        (PodLoad(foreign=2), 128.0),
        (PodLoad(queued=9, running=9, kv_usage=0.9, pending_prefill_tokens=5, ttft_ewma_s=3.0), 0.0),
    ],
)
def test_load_is_tokens_and_a_little_for_each_request_of_any_replica(load: PodLoad, tokens: float) -> None:
    assert token_load(load) == tokens


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (PodLoad(inflight=1, inflight_tokens=9000), PodLoad(inflight=5, inflight_tokens=500)),
        (PodLoad(inflight=3, inflight_tokens=100), PodLoad(inflight=2, inflight_tokens=100)),
        (PodLoad(foreign=4), PodLoad()),
        (PodLoad(inflight=1, inflight_tokens=5000), PodLoad(foreign=30)),
    ],
    ids=["tokens before requests", "then requests", "requests of others break a tie", "and outweighs no tokens"],
)
def test_the_less_loaded_pod_is_b(a: PodLoad, b: PodLoad) -> None:
    picks = {LeastLoad().pick(request_of(entropy=bits), snapshot_of([a, b])) for bits in range(20)}
    (answer,) = picks
    assert isinstance(answer, Decision)
    assert answer.pod == B


@unhurried
@given(cases())
def test_no_untried_pod_has_less_load(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    answer = LeastLoad().pick(request, snapshot)
    loads = [
        load
        for (pod, _), load in zip(snapshot.candidates, snapshot.columns.tokens, strict=True)
        if pod.id not in request.tried
    ]
    if isinstance(answer, Decision):
        assert answer.score == min(loads)


def test_a_fallback_decision_has_the_name_of_its_policy() -> None:
    snapshot = snapshot_of([PodLoad(inflight_tokens=10), PodLoad()])
    assert least_loaded(request_of(), snapshot, "mine") == Decision(B, "mine", 0.0, "least_load")
