"""Failures of a policy: the safe policy decides, the failure is counted, and at the limit the policy is taken out."""

from __future__ import annotations

import logging

import pytest

from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.settings import PolicyGuard
from router.telemetry.metrics import Metrics
from schedulers import registry
from schedulers.guard import Failure
from schedulers.protocols import Scheduler
from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo

A = PodId("a:1")
SNAPSHOT = LoadSnapshot.of([Candidate(Pod(A, A), PodLoad())], pool="main")
REQUEST = RequestInfo("r", "m", 1, 0, 0.0, 7, 0)
FAILURE = Failure("raised", "raised ValueError()")


class Scene:
    """A circuit breaker, its counts and the listeners it called."""

    def __init__(self, **limits: float) -> None:
        self.now = 100.0
        self.metrics = Metrics()
        self.out: list[tuple[str, Scheduler, str]] = []
        self.struck: list[tuple[str, Scheduler]] = []
        given = PolicyGuard(**limits)  # type: ignore[arg-type]
        self.guard = PolicyCircuitBreaker(
            registry.create("least_load"),
            self.metrics,
            lambda: self.now,
            given,
            on_taken_out=[lambda *call: self.out.append(call)],
            on_failure=[lambda *call: self.struck.append(call)],
        )

    def fails(self, scheduler: Scheduler, times: int = 1) -> None:
        for _ in range(times):
            assert self.guard.failed(scheduler, REQUEST, SNAPSHOT, FAILURE) == Decision(
                A, "least_load", 0.0, "least_load"
            )


def test_a_failure_is_counted_and_reported_and_the_safe_policy_decides() -> None:
    scene, policy = Scene(), registry.create("p2c")
    scene.fails(policy)
    assert scene.metrics.policy_failures == {("main", "p2c", "raised"): 1}
    assert scene.struck == [("main", policy)]
    assert scene.out == []


def test_one_failure_above_the_limit_takes_the_policy_out_once_and_logs_why(caplog: pytest.LogCaptureFixture) -> None:
    scene, policy = Scene(failures=3), registry.create("p2c")
    scene.fails(policy, 5)
    ((pool, out, why),) = scene.out
    assert (pool, out) == ("main", policy)
    assert why == "3 failures within 10 s, the last: it raised ValueError()"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == f"pool main: policy p2c is taken out, least_load decides from now on: {why}"


def test_each_pool_has_its_own_count() -> None:
    scene, policy = Scene(failures=2), registry.create("p2c")
    for pool in ("a", "b"):
        scene.guard.struck(policy, pool, FAILURE)
    assert scene.out == []


def test_the_same_policy_set_again_begins_with_a_count_of_zero() -> None:
    scene = Scene(failures=2)
    for _ in range(5):
        scene.fails(registry.create("session_affinity"))
    assert scene.out == []


def test_a_caller_that_asks_for_a_policy_that_is_out_gets_the_safe_one() -> None:
    scene, policy = Scene(failures=1), registry.create("p2c")
    assert scene.guard.stand_in(policy, "main") is policy
    scene.fails(policy)
    assert scene.guard.stand_in(policy, "main") is scene.guard.safe
    assert scene.guard.stand_in(policy, "another") is policy


def test_the_safe_policy_is_never_taken_out() -> None:
    scene = Scene(failures=1)
    scene.fails(registry.create("least_load"), 3)
    assert scene.out == []


def test_a_slow_pick_counts_and_an_interrupted_one_counts_once() -> None:
    scene, policy = Scene(), registry.create("p2c")
    scene.guard.slow(policy, "main", 0.06, Decision(A, "p2c"))
    scene.guard.slow(policy, "main", 0.06, Rejection("kv_full"))
    scene.guard.slow(policy, "main", 0.3, Decision(A, "least_load"))
    assert scene.metrics.policy_failures == {("main", "p2c", "slow"): 2}


def test_failures_far_enough_apart_do_not_take_the_policy_out() -> None:
    scene, policy = Scene(failures=2), registry.create("p2c")
    for _ in range(10):
        scene.fails(policy)
        scene.now += 11.0
    assert scene.out == []
