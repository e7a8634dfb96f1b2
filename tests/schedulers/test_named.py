"""A policy under another name decides as it does under its own."""

from __future__ import annotations

import pytest

from schedulers.named import Named
from schedulers.policies.p2c import PowerOfTwoChoices
from schedulers.policies.round_robin import RoundRobin
from schedulers.protocols import Scheduler
from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo

PODS = tuple(Candidate(Pod(PodId(name), f"{name}:80"), PodLoad(inflight=at)) for at, name in enumerate("abc"))
SNAPSHOT = LoadSnapshot.of(PODS, pool="pool")


def request(sequence: int, **more: object) -> RequestInfo:
    return RequestInfo("r", "m", 10, 10, 0.0, 12345 * sequence, sequence, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [RoundRobin(), PowerOfTwoChoices()])
def test_it_picks_the_same_pod_under_its_own_name(policy: Scheduler) -> None:
    named = Named("mine", policy)
    for sequence in range(20):
        mine, its = named.pick(request(sequence), SNAPSHOT), policy.pick(request(sequence), SNAPSHOT)
        assert isinstance(mine, Decision) and isinstance(its, Decision)
        assert mine == its._replace(policy="mine")


def test_a_rejection_is_passed_on() -> None:
    tried = frozenset(pod.id for pod, _ in PODS)
    assert isinstance(Named("mine", RoundRobin()).pick(request(1, tried=tried), SNAPSHOT), Rejection)


def test_it_is_a_scheduler() -> None:
    assert isinstance(Named("mine", RoundRobin()), Scheduler)
