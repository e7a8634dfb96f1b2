from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.entropy import mix
from schedulers.hits import levels
from schedulers.policies.prefix_aware import COPY_S, DRAWN, PrefixAware
from schedulers.sampling import HOLDERS
from schedulers.ttft import admission_s, likely_cached, others_weight, outlook, prefill_work, start_in
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, RequestInfo, queue_length
from tests.fakes.chance import five_deviations
from tests.fakes.each_case import each_case
from tests.fakes.examples import examples
from tests.fakes.scheduler_inputs import (
    BITS,
    cases,
    idle,
    ids_of,
    pod_ids,
    request_of,
    snapshot_of,
    snapshots,
    unhurried,
)

A, B, C = pod_ids(3)
POLICY = PrefixAware()


def own_work(request: RequestInfo, pod: PodId) -> int:
    cached = likely_cached(min(64 * request.prefix_hits.get(pod, 0), request.prompt_tokens), request.prompt_tokens)
    return prefill_work(request.prompt_tokens - cached, cached)


def naive_costs(request: RequestInfo, snapshot: LoadSnapshot) -> dict[PodId, float]:
    """The formula of the docstring, for every untried pod."""
    kept = [each for each in snapshot.candidates if each.pod.id not in request.tried]
    if not kept:
        return {}
    queue = [queue_length(load) for _, load in kept]
    busy, waiting = sum(map(bool, queue)) / len(queue), sum(queue) / len(queue)
    others = others_weight(busy, waiting, snapshot.pending_s) * snapshot.pace_s
    now = max(request.arrived_at, snapshot.taken_at)
    costs = {}
    for pod, load in kept:
        until, wait = outlook(load.prefilling, load.prefill_work, load.head_since, load.pace_s, load.step_s)
        work = own_work(request, pod.id)
        costs[pod.id] = start_in(until, wait, now) + work * (load.pace_s + others)
    return with_copies(request, snapshot, costs)


def with_copies(request: RequestInfo, snapshot: LoadSnapshot, costs: dict[PodId, float]) -> dict[PodId, float]:
    """The costs, and what the wait behind other prompts counts beyond itself."""
    queue = {pod.id: queue_length(load) for pod, load in snapshot.candidates}
    if not request.prefix_hits or not queue[min(costs, key=costs.__getitem__)]:
        return costs
    weight = 1 - 1 / len(levels(request.prefix_hits.items())[0].pods)
    now = max(request.arrived_at, snapshot.taken_at)
    more = {}
    for pod, load in snapshot.candidates:
        until, wait = outlook(load.prefilling, load.prefill_work, load.head_since, load.pace_s, load.step_s)
        more[pod.id] = weight * min(start_in(until, wait, now), COPY_S) if queue[pod.id] else 0.0
    return {pod: cost + more[pod] for pod, cost in costs.items()}


def decision(request: RequestInfo, snapshot: LoadSnapshot) -> Decision:
    answer = POLICY.pick(request, snapshot)
    assert isinstance(answer, Decision)
    return answer


def pending(*work: int) -> LoadSnapshot:
    """Pods with one request each; `work` is its prefill work, of which 1000 take a second."""
    return snapshot_of(
        [PodLoad(inflight=1, prefilling=1 if each else 0, prefill_work=each, pace_s=1e-3) for each in work]
    )


@examples(300)
@given(cases())
def test_the_pick_is_a_cheapest_pod_by_the_formula(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    costs = naive_costs(*case)
    if costs:
        answer = decision(*case)
        assert answer.score == pytest.approx(min(costs.values()))
        assert costs[answer.pod] == pytest.approx(answer.score)


@examples(60)
@given(snapshots(max_pods=5))
def test_each_of_the_cheapest_is_picked_about_as_often(snapshot: LoadSnapshot) -> None:
    costs = naive_costs(request_of(), snapshot)
    cheapest = {pod for pod, cost in costs.items() if cost == min(costs.values())}
    draws = 60 * len(cheapest)
    share = Counter(decision(request_of(entropy=bits), snapshot).pod for bits in range(draws))
    assert set(share) == cheapest
    assert all(abs(count - 60) <= five_deviations(draws, 1 / len(cheapest)) for count in share.values()), share


@unhurried
@given(cases(max_pods=60), st.floats(0, 50), BITS)
def test_with_an_old_view_the_pick_is_untried_and_the_same_for_the_same_entropy(
    case: tuple[RequestInfo, LoadSnapshot], unseen: float, bits: int
) -> None:
    request, snapshot = case[0]._replace(entropy=bits), case[1]._replace(unseen=unseen)
    answer = POLICY.pick(request, snapshot)
    if set(ids_of(snapshot)) <= request.tried:
        assert not isinstance(answer, Decision)
    else:
        assert isinstance(answer, Decision)
        assert answer.pod in set(ids_of(snapshot)) - request.tried
        assert POLICY.pick(request, snapshot) == answer


@each_case(
    ("work", "hits", "pod", "reason"),
    [
        ((0, 500, 500), {}, A, "soonest"),
        ((500, 0, 500), {A: 10}, A, "soonest_by_prefix"),
        ((1500, 0, 500), {A: 10}, B, "soonest"),
        ((100, 0, 900), {A: 10, B: 10, C: 10}, B, "soonest_by_prefix"),
        ((100, 0, 900), {A: 12, B: 10, C: 10}, A, "soonest_by_prefix"),
        ((0, 500, 500), {PodId("gone:1"): 15}, A, "soonest"),
    ],
    ids=[
        "no hits",
        "a hit outweighs less waiting than it spares",
        "and not more",
        "what every pod holds decides nothing",
        "what one holds beyond it does",
        "a hit on a pod that is gone is nothing",
    ],
)
def test_waiting_and_cache_are_weighed_in_seconds(
    work: tuple[int, int, int], hits: dict[PodId, int], pod: PodId, reason: str
) -> None:
    answer = decision(request_of(prompt_tokens=1000, prefix_hits=hits), pending(*work)._replace(pending_s=0.0))
    assert (answer.pod, answer.reason) == (pod, reason)


def test_work_saved_for_the_pool_counts_more_when_the_pool_queues() -> None:
    request, loads = request_of(prompt_tokens=1000, prefix_hits={A: 10}), pending(1600, 1, 500)
    assert decision(request, loads._replace(pending_s=0.0)).pod == B
    assert decision(request, loads._replace(pending_s=3.0)).pod == A


def test_a_prefix_that_several_busy_pods_hold_is_computed_once_more_a_little_sooner() -> None:
    """Holders wait 200 ms and compute a third of what an idle pod computes in 300."""
    held = request_of(prompt_tokens=300, prefix_hits={A: 3, B: 3})
    loads = pending(190, 190, 0)._replace(pending_s=0.0)
    assert decision(held._replace(prefix_hits={A: 3}), loads).pod == A
    assert decision(held, loads).pod == C
    assert decision(held._replace(priority=-1), loads).pod != C
    assert decision(held, pending(50, 50, 0)._replace(pending_s=0.0)).pod != C


def test_a_copy_of_a_long_prefix_is_worth_no_more_than_of_a_short_one() -> None:
    held = request_of(prompt_tokens=10_000, prefix_hits={A: 140, B: 140})
    assert decision(held, pending(8_000, 8_000, 0)._replace(pending_s=0.0)).pod in {A, B}


def test_a_batch_gathers_where_its_prefix_is_for_up_to_five_minutes() -> None:
    batch = request_of(prompt_tokens=1000, prefix_hits={A: 10})._replace(priority=-1)
    assert decision(batch._replace(priority=0), pending(40_000, 0, 0)).pod != A
    assert decision(batch, pending(300_000, 0, 0)).pod == A
    assert decision(batch, pending(302_000, 0, 0)).pod != A


def test_a_batch_waits_for_room_where_its_prefix_is() -> None:
    full = PodLoad(inflight=9, inflight_tokens=9900, kv_capacity_tokens=10_000, e2e_ewma_s=20.0)
    loads = snapshot_of([full, full._replace(kv_capacity_tokens=50_000)])
    request = request_of(prompt_tokens=1000, prefix_hits={A: 10})
    assert decision(request, loads).pod == B
    assert decision(request._replace(priority=-1), loads).pod == A


def test_pending_work_shrinks_with_time() -> None:
    loads = pending(900, 0, 500)._replace(pending_s=0.0)
    request = request_of(prompt_tokens=1000, prefix_hits={A: 4})
    assert decision(request, loads).pod == B
    assert decision(request._replace(arrived_at=0.8), loads).pod == A
    assert decision(request, loads._replace(taken_at=0.8)).pod == A


def test_a_pod_that_has_been_silent_for_long_still_counts_its_requests() -> None:
    silent = PodLoad(inflight=4, prefilling=4, prefill_work=4000, pace_s=1e-3)
    busy = PodLoad(inflight=1, prefilling=1, prefill_work=1000, head_since=999.5, pace_s=1e-3)
    assert decision(request_of(prompt_tokens=10)._replace(arrived_at=1000.0), snapshot_of([silent, busy])).pod == B


def test_a_large_batch_breaks_a_near_tie() -> None:
    snapshot = snapshot_of([PodLoad(step_s=0.03), PodLoad(step_s=0.01), PodLoad(step_s=0.02)])
    assert {decision(request_of(entropy=bits), snapshot).pod for bits in range(30)} == {B}


def test_a_slower_pod_gets_a_prompt_only_where_the_others_are_that_much_busier() -> None:
    slow, fast = PodLoad(pace_s=4e-5), PodLoad(pace_s=1e-5, prefilling=1, inflight=1, prefill_work=1000)
    assert decision(request_of(prompt_tokens=1000), snapshot_of([slow, fast])).pod == B
    assert decision(request_of(prompt_tokens=1000), snapshot_of([slow, fast._replace(prefill_work=20_000)])).pod == A


def test_a_tried_pod_with_the_whole_prompt_cached_is_not_picked() -> None:
    request = request_of(prefix_hits={A: 15, B: 3}, tried=frozenset({A}))
    assert decision(request, idle(3)).pod == B


def test_a_full_kv_cache_adds_the_wait_for_blocks() -> None:
    full = PodLoad(inflight=9, inflight_tokens=9900, kv_capacity_tokens=10_000, e2e_ewma_s=20.0)
    roomy = full._replace(kv_capacity_tokens=50_000, prefilling=1, prefill_work=20_000)
    answer = decision(request_of(prompt_tokens=1000), snapshot_of([full, roomy]))
    assert (answer.pod, answer.reason) == (B, "soonest_to_have_room")
    both = decision(request_of(prompt_tokens=1000), snapshot_of([full, full._replace(e2e_ewma_s=2.0)]))
    assert both.pod == B
    assert both.score > admission_s(9900, 9000, 1256, 2.0)
    unknown = snapshot_of([full._replace(kv_capacity_tokens=0), roomy])
    assert decision(request_of(prompt_tokens=1000), unknown).pod == A


def test_requests_that_share_their_prefixes_leave_room() -> None:
    full = PodLoad(inflight=9, inflight_tokens=9900, kv_capacity_tokens=10_000, e2e_ewma_s=20.0)
    later = PodLoad(inflight=1, prefilling=1, prefill_work=20_000, kv_capacity_tokens=50_000)
    assert decision(request_of(prompt_tokens=1000), snapshot_of([full._replace(kv_share=0.5), later])).pod == A


def test_a_pod_whose_first_token_is_overdue_gets_no_more() -> None:
    stuck = PodLoad(inflight=1, prefilling=1, prefill_work=100, pace_s=1e-3)
    busy = PodLoad(inflight=1, prefilling=1, prefill_work=2000, head_since=1000.0, pace_s=1e-3)
    assert decision(request_of(prompt_tokens=10)._replace(arrived_at=1000.0), snapshot_of([stuck, busy])).pod == B
    assert decision(request_of(prompt_tokens=10)._replace(arrived_at=0.5), snapshot_of([stuck, busy])).pod == A


# Which pods are priced: all of a small pool, few of a large one. Which is taken: the cheapest, if the view is fresh.


def taken(request: RequestInfo, snapshot: LoadSnapshot) -> PodId:
    answer = POLICY.pick(request, snapshot)
    assert isinstance(answer, Decision)
    return answer.pod


def distinct(pods: int, unseen: float) -> LoadSnapshot:
    """Pods, each busier than the one before."""
    loads = [PodLoad(inflight=1, prefilling=1, prefill_work=1000 * (at + 1)) for at in range(pods)]
    return snapshot_of(loads)._replace(unseen=unseen)


def shares(request: RequestInfo, snapshot: LoadSnapshot, draws: int = 3000) -> Counter[PodId]:
    """How often each pod is taken."""
    return Counter(taken(request._replace(entropy=mix(3, at)), snapshot) for at in range(draws))


@each_case(
    ("unseen", "level_s"),
    [
        (1.0, (0.1 + 0.301) / 2),
        (2.0, (0.3 + 2 * 0.301) / 3),
        (4.0, (0.8 + 4 * 0.301) / 4),
        (1e9, (0.8 + 4 * 0.301) / 4),
    ],
    ids=["two pods", "three pods", "all pods", "no more than one for each pod"],
)
def test_pods_are_taken_by_what_they_lack_of_the_level_to_which_unseen_requests_fill_them(
    unseen: float, level_s: float
) -> None:
    snapshot = pending(0, 100, 200, 500)._replace(unseen=unseen)
    found = shares(request_of(prompt_tokens=300), snapshot)  # 301 token equivalents
    missing = [max(0.0, level_s - wait_s) for wait_s in (0.0, 0.1, 0.2, 0.5)]
    for pod, lacks in zip(ids_of(snapshot), missing, strict=True):
        share = lacks / sum(missing)
        assert abs(found[pod] - 3000 * share) <= five_deviations(3000, share) + 3


def test_a_holder_that_saves_more_than_unseen_requests_add_is_always_taken() -> None:
    snapshot = pending(2000, 0, 0, 0)._replace(unseen=4.0)
    assert set(shares(request_of(prompt_tokens=6400, prefix_hits={A: 100}), snapshot, 200)) == {A}
    assert A not in shares(request_of(prompt_tokens=640, prefix_hits={A: 10}), snapshot, 200)


def test_requests_of_a_batch_gather_however_old_the_view_is() -> None:
    snapshot = pending(0, 100, 200, 500)._replace(unseen=4.0)
    batch = request_of(prompt_tokens=6400, prefix_hits={B: 100})._replace(priority=-1)
    assert set(shares(batch, snapshot, 200)) == {B}


def test_an_unseen_part_of_a_request_that_is_too_small_to_count_changes_nothing() -> None:
    assert set(shares(request_of(), pending(0, 100)._replace(unseen=1e-300), 50)) == {A}
    # Twenty seconds after the others' last request. Pods that cost the same are still taken as often as each other.
    assert set(shares(request_of(), pending(0, 0, 0)._replace(unseen=1e-18), 50)) == {A, B, C}


def test_the_least_busy_of_a_large_pool_is_priced_less_often_the_older_the_view_is() -> None:
    share = 1 - 3 / 4 * (1 - DRAWN / 1000)
    found = shares(request_of(prompt_tokens=10), distinct(1000, 3.0), 2000)
    assert abs(found[A] - 2000 * share) <= five_deviations(2000, share)


def test_of_a_large_pool_the_least_busy_and_the_best_holders_are_priced() -> None:
    pods = pod_ids(1000)
    snapshot = distinct(1000, 0.0)
    assert {taken(request_of(entropy=mix(6, at)), snapshot) for at in range(50)} == {A}
    hits = {pod: 1500 + at % 2 for at, pod in enumerate(pods[-2 * HOLDERS :])}
    request = request_of(prompt_tokens=1_000_000, prefix_hits={**hits, pods[-1]: 15_000})
    assert {taken(request._replace(entropy=mix(6, at)), snapshot) for at in range(50)} == {pods[-1]}


def test_of_a_large_pool_where_all_hold_the_same_every_idle_pod_gets_its_share() -> None:
    snapshot = idle(100)
    request = request_of(prefix_hits=dict.fromkeys(ids_of(snapshot), 7))
    share = Counter(taken(request._replace(entropy=mix(8, at)), snapshot) for at in range(5000))
    assert len(share) == 100
    assert max(share.values()) < 50 + five_deviations(5000, 1 / 100)
    assert DRAWN < 100
