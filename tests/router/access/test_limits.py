"""Which limits apply to a request, and what it takes of them and gives back."""

from __future__ import annotations

import pytest

from router.access.limits import LimitCharge, LimitRegistry
from router.access.tenants import Tenant
from router.errors import RateLimitExceeded
from router.settings import TenantLimit
from schedulers.ttft import ANSWER_TOKENS
from tests.fakes.each_case import each_case
from tests.fakes.virtual_time import Clock


def limits(tenant: Tenant, clock: Clock | None = None) -> LimitRegistry:
    return LimitRegistry([tenant], clock or Clock(0.0), shared=False)


def charge(tenant: Tenant, *, of: LimitRegistry | None = None, key: str = "", model: str = "m") -> LimitCharge:
    made = (of or limits(tenant)).charge(tenant, key, model)
    assert made is not None
    return made


def take(of: LimitCharge, prompt: int = 10, most: int = 10, now: float = 0.0) -> LimitCharge:
    of.take(prompt, most, now)
    return of


def test_a_tenant_without_limits_is_charged_nothing() -> None:
    assert limits(Tenant("other", max_inflight=1)).charge(Tenant("search"), "ci", "m") is None
    assert limits(Tenant("other", max_inflight=1)).charge(None, "", "m") is None


def test_requests_beyond_the_limit_are_refused_with_the_time_until_there_is_room() -> None:
    tenant = Tenant("search", requests_per_minute=2)
    of = limits(tenant)
    take(charge(tenant, of=of))
    take(charge(tenant, of=of))
    with pytest.raises(RateLimitExceeded, match="'search' is at its limit on requests per minute: limit 2") as refused:
        take(charge(tenant, of=of))
    assert refused.value.retry_after_s == pytest.approx(30)
    assert (refused.value.shape.status, refused.value.shape.code) == (429, "rate_limit_exceeded")


def test_a_refused_request_takes_nothing() -> None:
    tenant = Tenant("search", requests_per_minute=5, tokens_per_minute=1000, max_inflight=1)
    of = limits(tenant)
    take(charge(tenant, of=of))
    for _ in range(9):
        refused = charge(tenant, of=of)
        with pytest.raises(RateLimitExceeded, match="1 requests at a time"):
            take(refused)
        refused.give_back(0.0)
    (set_,) = {charge(tenant, of=of).limits}
    assert (set_.requests[0].remaining(0.0), set_.tokens[0].remaining(0.0), set_.slots[0].used) == (4, 980, 1)


@each_case("most, expected", [(5, 105), (0, 100 + ANSWER_TOKENS), (32_000, 100 + ANSWER_TOKENS), (-1, 100)])
def test_tokens_are_estimated_by_the_prompt_and_the_mean_answer_up_to_max_tokens(most: int, expected: float) -> None:
    made = take(charge(Tenant("search", tokens_per_minute=1000)), prompt=100, most=most)
    assert made.limits.tokens[0].remaining(0.0) == 1000 - expected


def test_true_tokens_take_the_place_of_the_estimate() -> None:
    made = take(charge(Tenant("search", tokens_per_minute=1000)), prompt=100, most=50)
    made.settle(400, 0.0, 300)
    assert made.limits.tokens[0].remaining(0.0) == 600
    made.settle(400, 0.0, 300)
    assert made.limits.tokens[0].remaining(0.0) == 600


def test_tokens_beyond_the_limit_are_a_debt_that_later_requests_wait_for() -> None:
    tenant = Tenant("search", tokens_per_minute=600)
    of = limits(tenant, Clock(0.0))
    take(charge(tenant, of=of), prompt=100, most=50).settle(1200, 0.0)
    with pytest.raises(RateLimitExceeded) as refused:
        take(charge(tenant, of=of), prompt=10, most=10, now=30.0)
    assert refused.value.retry_after_s == pytest.approx(32)
    take(charge(tenant, of=of), prompt=10, most=10, now=63.0)


def test_the_mean_answer_is_learned() -> None:
    made = charge(Tenant("search", tokens_per_minute=10**9))
    for _ in range(200):
        made = take(LimitCharge(made.limits), prompt=1, most=0)
        made.settle(41, 0.0, 40)
    assert made.limits.answer_tokens == pytest.approx(40, abs=1)


def test_a_request_larger_than_the_limit_is_refused_without_a_time() -> None:
    with pytest.raises(RateLimitExceeded, match="larger than the limit") as refused:
        take(charge(Tenant("search", tokens_per_minute=100)), prompt=101)
    assert refused.value.retry_after_s is None


def test_a_prompt_within_the_limit_passes_though_the_expected_answer_does_not_fit() -> None:
    take(charge(Tenant("search", tokens_per_minute=100)), prompt=90, most=500)


def test_a_request_that_was_not_served_gives_everything_back() -> None:
    made = take(charge(Tenant("search", requests_per_minute=9, tokens_per_minute=100, max_inflight=2)))
    made.give_back(1.0)
    made.give_back(1.0)
    set_ = made.limits
    assert (set_.requests[0].remaining(0.0), set_.tokens[0].remaining(0.0), set_.slots[0].used) == (9, 100, 0)


ROWS = (
    TenantLimit(model="big", requests_per_minute=1),
    TenantLimit(key="*", requests_per_minute=2),
    TenantLimit(key="ci", max_inflight=1),
)


@each_case(
    "key, model, capacities, slots",
    [
        ("a", "m", [100, 2], []),
        ("ci", "m", [100, 2], [1]),
        ("ci", "big", [100, 1, 2], [1]),
    ],
)
def test_limits_of_models_and_keys_apply_beside_those_of_the_tenant(
    key: str, model: str, capacities: list[int], slots: list[int]
) -> None:
    set_ = charge(Tenant("search", requests_per_minute=100, limits=ROWS), key=key, model=model).limits
    assert [share.capacity for share in set_.requests] == capacities
    assert [share.capacity for share in set_.slots] == slots


def test_the_limit_of_a_model_is_one_for_all_keys_and_that_of_each_key_its_own() -> None:
    tenant = Tenant("search", requests_per_minute=100, limits=ROWS)
    of = limits(tenant)
    one, two = (charge(tenant, of=of, key=key, model="big").limits for key in ("a", "b"))
    assert one.requests[:2] == two.requests[:2]
    assert one.requests[2] is not two.requests[2]
    assert len({share.key for share in of.shares}) == len(of.shares)


def test_limits_of_named_models_and_keys_are_there_before_the_first_request() -> None:
    tenant = Tenant("search", limits=(*ROWS, TenantLimit(key="ci", model="big", max_inflight=1)))
    of = LimitRegistry([tenant], Clock(0.0), shared=True)
    shares = list(of.shares)
    for model in ("m", "big"):
        charge(tenant, of=of, key="ci", model=model)
    assert of.shares == shares
    take(charge(tenant, of=of, key="new"))


def test_of_too_many_keys_the_others_share_one_limit() -> None:
    tenant = Tenant("search", limits=ROWS)
    of = LimitRegistry([tenant], Clock(0.0), shared=False, most=5)
    sets = [charge(tenant, of=of, key=f"jwt:{at}").limits for at in range(9)]
    assert len(set(sets)) == 3
    assert [share.capacity for share in sets[-1].requests] == [2]


def test_models_without_a_limit_of_their_own_make_no_more_shares() -> None:
    tenant = Tenant("search", requests_per_minute=100, limits=ROWS)
    of = limits(tenant)
    sets = {charge(tenant, of=of, key="a", model=f"m{at}").limits for at in range(9)}
    assert len(sets) == 1
