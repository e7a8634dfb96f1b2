from __future__ import annotations

from collections import Counter

from schedulers.policies.p2c import PowerOfTwoChoices
from schedulers.types import Decision, PodId, PodLoad
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import idle, pod_ids, request_of, snapshot_of

P2C = PowerOfTwoChoices()


def shares(loads: list[PodLoad], count: int) -> Counter[PodId]:
    picks = (P2C.pick(request_of(entropy=bits), snapshot_of(loads)) for bits in range(count))
    return Counter(answer.pod for answer in picks if isinstance(answer, Decision))


def test_of_two_pods_it_is_always_the_less_loaded() -> None:
    assert shares([PodLoad(inflight_tokens=900), PodLoad(inflight_tokens=100)], 200) == {pod_ids(2)[1]: 200}


def test_each_rank_gets_the_share_that_two_distinct_draws_give_it() -> None:
    # Of the 6 pairs among 4 pods, the least loaded pod wins 3, the second 2, the third 1, the fullest none.
    got = shares([PodLoad(inflight_tokens=tokens) for tokens in (0, 100, 200, 300)], 6000)
    for pod, pairs in zip(pod_ids(4), (3, 2, 1, 0), strict=True):
        assert abs(got[pod] - 1000 * pairs) <= five_deviations(6000, pairs / 6), got


def test_load_is_measured_in_tokens_as_least_load_does() -> None:
    many_small, one_large = PodLoad(inflight=9, inflight_tokens=90), PodLoad(inflight=1, inflight_tokens=50_000)
    assert shares([one_large, many_small], 100) == {pod_ids(2)[1]: 100}


def test_one_pod_is_picked_without_a_second_draw() -> None:
    assert P2C.pick(request_of(), idle(1)) == Decision(pod_ids(1)[0], "p2c", 0.0, "only_one")
