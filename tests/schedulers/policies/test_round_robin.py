from __future__ import annotations

from collections import Counter

from schedulers.policies.round_robin import RoundRobin
from schedulers.types import Decision, PodId
from tests.fakes.scheduler_inputs import idle, pod_ids, request_of


def turn(sequence: int, tried: frozenset[PodId] = frozenset()) -> PodId:
    answer = RoundRobin().pick(request_of(sequence=sequence, tried=tried), idle(3))
    assert isinstance(answer, Decision)
    return answer.pod


def test_the_pods_take_turns() -> None:
    assert [turn(sequence) for sequence in range(7)] == (pod_ids(3) * 3)[:7]


def test_random_bits_do_not_change_the_turn() -> None:
    picks = {RoundRobin().pick(request_of(sequence=4, entropy=bits), idle(3)) for bits in range(20)}
    assert picks == {Decision(pod_ids(3)[1], "round_robin", 0.0, "in_turn")}


def test_the_retries_of_one_pod_spread_over_all_others() -> None:
    failed = pod_ids(3)[0]
    retries = Counter(turn(sequence, frozenset({failed})) for sequence in range(0, 300, 3))
    assert retries == {pod_ids(3)[1]: 50, pod_ids(3)[2]: 50}
