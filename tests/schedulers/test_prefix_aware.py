from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from schedulers_strategies import cases, idle, pod_ids, request_of, snapshot_of, unhurried

from schedulers.policies.prefix_aware import PrefixAware
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, RequestInfo, expected_work

A, B, C = pod_ids(3)
POLICY = PrefixAware()


def naive_costs(request: RequestInfo, snapshot: LoadSnapshot) -> dict[PodId, float]:
    """The formula as the docstring has it, for every untried pod."""
    return {
        pod.id: expected_work(load) + max(1, request.prompt_tokens - 64 * request.prefix_hits.get(pod.id, 0))
        for pod, load in snapshot.candidates
        if pod.id not in request.tried
    }


def decision(request: RequestInfo, snapshot: LoadSnapshot) -> Decision:
    answer = POLICY.pick(request, snapshot)
    assert isinstance(answer, Decision)
    return answer


@settings(unhurried, max_examples=300)
@given(cases())
def test_it_is_a_cheapest_pod_by_the_formula(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    costs = naive_costs(*case)
    if costs:
        answer = decision(*case)
        assert answer.score == min(costs.values())
        assert costs[answer.pod] == answer.score


@settings(unhurried, max_examples=100)
@given(cases(max_pods=5))
def test_each_of_the_cheapest_is_picked_about_as_often(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    costs = naive_costs(request, snapshot)
    if not costs:
        return
    cheapest = {pod for pod, cost in costs.items() if cost == min(costs.values())}
    share = Counter(decision(request._replace(entropy=bits), snapshot).pod for bits in range(60 * len(cheapest)))
    assert set(share) == cheapest
    assert all(25 <= count <= 105 for count in share.values()), share


@pytest.mark.parametrize(
    ("loads", "hits", "pod", "cost", "reason"),
    [
        ((0, 500, 500), {}, A, 1000.0, "least_work"),
        ((600, 0, 0), {A: 10}, A, 960.0, "prefix_outweighs_work"),
        ((700, 0, 900), {A: 10}, B, 1000.0, "least_work"),
        ((100, 0, 900), {A: 10, B: 10, C: 10}, B, 360.0, "least_work"),
        ((100, 0, 900), {A: 12, B: 10, C: 10}, A, 332.0, "prefix_outweighs_work"),
        ((0, 100, 100), {A: 20}, A, 1.0, "least_work"),
        ((0, 100, 100), {PodId("gone:1"): 15}, A, 1000.0, "least_work"),
    ],
    ids=[
        "no hits",
        "a hit outweighs less work than it spares",
        "and not more",
        "what everybody holds decides nothing",
        "what one holds beyond it does",
        "at least one token is computed",
        "a hit on a pod that is gone is nothing",
    ],
)
def test_work_and_cache_are_weighed_in_one_unit(
    loads: tuple[int, int, int], hits: dict[PodId, int], pod: PodId, cost: float, reason: str
) -> None:
    snapshot = snapshot_of([PodLoad(pending_prefill_tokens=tokens) for tokens in loads])
    request = request_of(prompt_tokens=1000, prefix_hits=hits)
    assert decision(request, snapshot) == Decision(pod, "prefix_aware", cost, reason)


def test_a_busy_pod_exactly_level_with_idle_ones_gets_its_share_and_no_more() -> None:
    snapshot = snapshot_of([PodLoad(), PodLoad(), PodLoad(pending_prefill_tokens=128)])
    picks = (decision(request_of(entropy=bits, prefix_hits={C: 2}), snapshot) for bits in range(3000))
    share = Counter(answer.pod for answer in picks)
    assert all(abs(share[pod] - 1000) < 150 for pod in (A, B, C)), share


def test_running_requests_break_a_near_tie() -> None:
    snapshot = snapshot_of([PodLoad(inflight=3), PodLoad(inflight=1), PodLoad(inflight=2)])
    assert {decision(request_of(entropy=bits), snapshot).pod for bits in range(30)} == {B}


def test_a_tried_pod_that_holds_it_all_is_not_picked() -> None:
    request = request_of(prefix_hits={A: 15, B: 3}, tried=frozenset({A}))
    assert decision(request, idle(3)).pod == B


def test_a_thousand_pods_that_all_hold_some_are_priced_as_the_formula_says() -> None:
    pods = pod_ids(1000)
    snapshot = snapshot_of([PodLoad(pending_prefill_tokens=at * 7919 % 5000) for at in range(1000)])
    for bits in range(20):
        hits = {pod: 1 + (at * 31 + bits) % 40 for at, pod in enumerate(pods)}
        request = request_of(prompt_tokens=3000, entropy=bits, prefix_hits=hits)
        costs = naive_costs(request, snapshot)
        answer = decision(request, snapshot)
        assert costs[answer.pod] == answer.score == min(costs.values())
