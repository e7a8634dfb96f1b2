"""What follows a failure, and how many retries an outage may cost."""

from __future__ import annotations

import pytest

from router.dataplane.retry import RULES, STATUSES, RetryBudget, RetryDecision, decide
from router.errors import (
    ConnectFailed,
    CutMidAnswer,
    FirstByteTimeout,
    IdleTimeout,
    PodFailure,
    PodRefused,
    ResetBeforeAnswer,
    StaleConnection,
    TotalTimeout,
)
from router.settings import Retries
from statesync.engines.health import Outcome
from tests.fakes.each_case import each_case

LIMITS = Retries(attempts=2)


def decision(kind: type[PodFailure], *, begun: bool = False, attempts: int = 1, stale_tries: int = 0) -> RetryDecision:
    return decide(kind("x"), begun=begun, attempts=attempts, stale_tries=stale_tries, limits=LIMITS)


def test_every_failure_has_a_rule() -> None:
    assert set(RULES) == set(PodFailure.__subclasses__())


@each_case("kind", RULES)
def test_nothing_is_retried_once_the_client_has_a_byte(kind: type[PodFailure]) -> None:
    assert decision(kind, begun=True) is RetryDecision.GIVE_UP


@each_case("kind", [ConnectFailed, ResetBeforeAnswer, PodRefused, CutMidAnswer])
@each_case(
    ("attempts", "expected"),
    [(1, RetryDecision.ANOTHER_POD), (2, RetryDecision.ANOTHER_POD), (3, RetryDecision.ANOTHER_POOL)],
)
def test_two_more_attempts_follow_the_first_before_the_pool_is_given_up(
    kind: type[PodFailure], attempts: int, expected: RetryDecision
) -> None:
    assert decision(kind, attempts=attempts) is expected


@pytest.mark.parametrize("kind", [FirstByteTimeout, IdleTimeout, TotalTimeout])
def test_a_timeout_is_not_retried(kind: type[PodFailure]) -> None:
    assert decision(kind) is RetryDecision.GIVE_UP


def test_a_stale_connection_is_replaced_once() -> None:
    assert decision(StaleConnection) is RetryDecision.SAME_POD
    assert decision(StaleConnection, stale_tries=1) is RetryDecision.ANOTHER_POD
    assert decision(StaleConnection, stale_tries=1, attempts=3) is RetryDecision.ANOTHER_POOL


def test_a_full_pod_is_busy_and_not_failing() -> None:
    assert STATUSES == {429: Outcome.BUSY, 502: Outcome.FAILURE, 503: Outcome.BUSY, 504: Outcome.FAILURE}


def spend(budget: RetryBudget, now: float) -> int:
    """How many retries the budget allows at `now`."""
    return next(count for count in range(10_000) if not budget.withdraw(now))


def test_a_fraction_of_the_requests_may_be_retried() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.2, budget_min=0), 0.0)
    for _ in range(100):
        budget.requests += 1
    assert spend(budget, 1.0) == 20


def test_the_fraction_adds_up_over_many_withdrawals() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.2, budget_min=0), 0.0)
    allowed = 0
    for number in range(1000):
        budget.requests += 1
        allowed += budget.withdraw(number / 1000)
    assert 180 <= allowed <= 200


def test_some_retries_are_always_allowed() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.0, budget_min=10), 0.0)
    spend(budget, 100.0)
    assert spend(budget, 100.0) == 0
    assert spend(budget, 101.0) == 10


def test_unused_budget_expires() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.2, budget_min=0), 100.0)
    for _ in range(100):
        budget.requests += 1
    budget.withdraw(100.0)
    assert spend(budget, 200.0) == 0


def test_hours_of_requests_before_an_outage_count_as_the_last_seconds_of_them() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.2, budget_min=0), 0.0)
    for _ in range(36_000):
        budget.requests += 1
    assert spend(budget, 3600.0) == 20


def test_the_budget_does_not_grow_without_bound_in_a_quiet_time() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.2, budget_min=10), 0.0)
    assert spend(budget, 1e9) <= 100


def test_a_budget_of_zero_allows_no_retry() -> None:
    budget = RetryBudget(Retries(budget_ratio=0.0, budget_min=0), 0.0)
    budget.requests += 1
    assert not budget.withdraw(50.0)
