"""The contract of a policy, tested on every policy in the registry and on composed ones with every part."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given

from schedulers import registry
from schedulers.entropy import mix
from schedulers.profile import SCORERS
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, Rejection, RequestInfo
from tests.fakes.chance import five_deviations
from tests.fakes.each_case import each_case
from tests.fakes.scheduler_inputs import (
    cases,
    idle,
    ids_of,
    pod_ids,
    request_of,
    snapshot_of,
    unhurried,
)

COMPOSED: dict[str, dict[str, object]] = {
    "every scorer": {"scorers": [{"name": name} for name in SCORERS]},
    "every filter": {
        "filters": [
            {"name": "headroom", "queued": 1, "inflight": 4},
            {"name": "role"},
            {"name": "label", "label": "gpu", "not_in": ["l4"]},
        ],
        "scorers": [{"name": "outlook"}, {"name": "latency"}],
    },
    "weighted": {"picker": {"name": "weighted", "power": 2}},
    "top_k": {"scorers": [{"name": "inflight_tokens"}, {"name": "prefix"}], "picker": {"name": "top_k", "k": 2}},
    "sample": {"sample": 2},
    "no scorer": {"scorers": []},
}
POLICIES: dict[str, Scheduler] = {
    **{name: registry.create(name) for name in registry.names()},
    **{f"profile: {name}": registry.create("profile", params) for name, params in COMPOSED.items()},
}
TWINS: dict[str, Scheduler] = {name: pickle.loads(pickle.dumps(policy)) for name, policy in POLICIES.items()}
every_policy = each_case("policy", POLICIES.values(), ids=POLICIES)
both_keys = each_case("keyed", [False, True], ids=["no session", "sessions"])


def traffic(count: int, *, keyed: bool = False) -> Iterable[RequestInfo]:
    """Requests as a gateway makes them: new entropy, the next sequence number, and a session of its own if `keyed`."""
    for at in range(count):
        yield request_of(entropy=mix(7, at), sequence=at, session_key=f"session-{at}" if keyed else "")


def picked(policy: Scheduler, request: RequestInfo, snapshot: LoadSnapshot) -> PodId:
    answer = policy.pick(request, snapshot)
    assert isinstance(answer, Decision)
    return answer.pod


@cache
def unequal(pods: int) -> LoadSnapshot:
    """A snapshot of `pods` pods with various loads."""
    return snapshot_of(
        [PodLoad(inflight=at % 7, inflight_tokens=at % 5 * 100, pending_prefill_tokens=at % 3) for at in range(pods)]
    )


@every_policy
def test_a_policy_is_a_scheduler_under_its_own_name(policy: Scheduler) -> None:
    assert isinstance(policy, Scheduler)
    answer = policy.pick(request_of(), idle(3))
    assert isinstance(answer, Decision)
    assert answer.policy == policy.name
    assert answer.reason


@unhurried
@given(case=cases())
def test_the_pod_is_of_the_snapshot_and_untried(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    untried = set(ids_of(snapshot)) - request.tried
    for name, policy in POLICIES.items():
        answer = policy.pick(request, snapshot)
        if untried:
            assert isinstance(answer, Decision), name
            assert answer.pod in untried, name
            assert isinstance(answer.score, float), name
        else:
            assert answer == Rejection("no_untried_pod"), name


@unhurried
@given(case=cases())
def test_the_same_input_gets_the_same_answer_and_is_not_changed(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    copied = copy.deepcopy(case)
    for name, policy in POLICIES.items():
        answer = policy.pick(*case)
        assert case == copied, name
        assert policy.pick(*case) == answer, name
        assert TWINS[name].pick(*copied) == answer, name


@unhurried
@given(case=cases())
def test_columns_computed_beforehand_change_no_answer(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    full = snapshot._replace(positions=snapshot.position_of(), inflight=snapshot.total_inflight())
    some = full._replace(positions=None, inflight=None)
    for name, policy in POLICIES.items():
        assert policy.pick(request, full) == policy.pick(request, some), name


@every_policy
@both_keys
@pytest.mark.parametrize("pods", [2, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_equal_pods_get_nearly_equal_shares(policy: Scheduler, keyed: bool, pods: int) -> None:
    alike, count = idle(pods), 400 * pods
    share = Counter(picked(policy, request, alike) for request in traffic(count, keyed=keyed))
    assert all(abs(share[pod] - 400) < five_deviations(count, 1 / pods) for pod in pod_ids(pods)), share


@every_policy
@both_keys
def test_equal_pods_in_half_of_a_pool_get_nearly_equal_shares(policy: Scheduler, keyed: bool) -> None:
    busy = PodLoad(
        inflight=900, inflight_tokens=90_000, pending_prefill_tokens=90_000, prefilling=900, prefill_work=90_000
    )
    snapshot = snapshot_of([busy, busy, PodLoad(), busy, PodLoad(), PodLoad(), busy, busy])
    share = Counter(picked(policy, request, snapshot) for request in traffic(1200, keyed=keyed))
    free = [share[pod.id] for pod, load in snapshot.candidates if load == PodLoad()]
    mean = sum(free) / len(free)
    # The difference of two counts of one mean varies by twice the mean at most.
    assert max(free) - min(free) < 5 * math.sqrt(2 * mean), share


@every_policy
@both_keys
def test_the_order_of_the_candidates_does_not_decide_which_pods_can_be_picked(policy: Scheduler, keyed: bool) -> None:
    busy = PodLoad(inflight=3, inflight_tokens=3000, pending_prefill_tokens=3000)
    loads = list(zip(pod_ids(4), [PodLoad(), busy, PodLoad(), PodLoad()], strict=True))
    requests = list(traffic(80, keyed=keyed))
    reachable = {
        frozenset(picked(policy, request, snapshot) for request in requests)
        for snapshot in map(snapshot_of, map(dict, permutations(loads)))
    }
    assert len(reachable) == 1, reachable


@every_policy
@both_keys
@each_case("pods", [1, 2, 999, 1000])
def test_pools_of_one_to_a_thousand_pods(policy: Scheduler, keyed: bool, pods: int) -> None:
    snapshot = unequal(pods)
    first, *others = ids_of(snapshot)
    known, most = frozenset([first, *others]), frozenset(others)
    for request in traffic(10, keyed=keyed):
        assert picked(policy, request, snapshot) in known
        assert picked(policy, request._replace(tried=most), snapshot) == first
        assert policy.pick(request._replace(tried=known), snapshot) == Rejection("no_untried_pod")


@every_policy
def test_a_policy_cannot_be_changed_after_it_is_built(policy: Scheduler) -> None:
    with pytest.raises((AttributeError, TypeError)):
        policy.learned = 1  # type: ignore[attr-defined]
