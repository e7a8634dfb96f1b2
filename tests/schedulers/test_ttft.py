"""The cost model: units, and the properties that a choice by it relies on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.ttft import (
    IDLE_PACE_S,
    LULL_STEPS,
    OVERDUE,
    PRIOR,
    STAY_S,
    admission_s,
    likely_cached,
    others_weight,
    outlook,
    pace,
    prefill_work,
    start_in,
)
from tests.fakes.each_case import each_case
from tests.fakes.scheduler_inputs import unhurried

TOKENS = st.integers(0, 200_000)


@each_case(
    ("uncached", "cached", "work"),
    [(1, 0, 1), (0, 5000, 1), (-64, 5000, 1), (1000, 0, 1015), (32_000, 0, 48_000), (32_000, 32_000, 80_000)],
    ids=["one", "all cached", "more than all", "short", "long: half as much again", "after as long a context"],
)
def test_prefill_work_is_tokens_and_the_attention_they_pay(uncached: int, cached: int, work: int) -> None:
    assert prefill_work(uncached, cached) == work


@unhurried
@given(TOKENS, TOKENS)
def test_caching_more_of_a_prompt_is_never_more_work(prompt: int, cached: int) -> None:
    cached = min(cached, prompt)
    assert prefill_work(prompt - cached, cached) <= prefill_work(prompt, 0)


@unhurried
@given(TOKENS, TOKENS)
def test_a_likely_hit_is_between_what_is_known_and_the_next_block(known: int, prompt: int) -> None:
    likely = likely_cached(min(known, prompt), prompt)
    assert min(known, prompt) <= likely <= prompt
    assert likely - min(known, prompt) <= max(64, known // 8) / 2


@pytest.mark.parametrize(
    ("known", "prompt", "likely"),
    [(0, 9000, 0), (512, 9000, 544), (65_024, 66_024, 65_524), (65_536, 100_000, 69_632), (900, 900, 900)],
    ids=["nothing", "half a small block", "half of the rest", "half a large block", "all of it"],
)
def test_half_of_the_next_block_is_likely_cached_too(known: int, prompt: int, likely: int) -> None:
    assert likely_cached(known, prompt) == likely


def test_a_decode_step_grows_with_its_requests_and_their_context() -> None:
    assert PRIOR.decode_step_s(0, 0) == PRIOR.step_s
    assert PRIOR.decode_step_s(3, 1000) == PRIOR.step_s + 3 * PRIOR.decoding_s + 1000 * PRIOR.held_s
    assert PRIOR.decode_step_s(-5000, 1000) == PRIOR.decode_step_s(0, 1000)


def test_prefill_is_slower_beside_a_large_batch_and_on_a_slow_pod() -> None:
    busy_step_s = PRIOR.decode_step_s(40, 400_000)
    assert pace(PRIOR, 1.0, PRIOR.step_s) == IDLE_PACE_S < pace(PRIOR, 1.0, busy_step_s)
    assert pace(PRIOR, 2.0, 2.0 * busy_step_s) == 2.0 * pace(PRIOR, 1.0, busy_step_s)


def test_an_idle_pod_has_no_due_time_and_waits_for_two_steps() -> None:
    assert outlook(0, 0, 99.0, 1e-3, 0.5) == (0.0, LULL_STEPS * 0.5)
    assert start_in(0.0, LULL_STEPS * 0.5, 1e6) == LULL_STEPS * 0.5


def test_pending_work_is_done_in_its_own_time_after_the_head_began() -> None:
    until, wait = outlook(1, 5000, 10.0, 1e-3, 0.5)
    assert until == pytest.approx(10.0 + 5.0 + 1.0)
    assert wait == 1.0
    assert start_in(until, wait, 12.0) == pytest.approx(4.0)


@unhurried
@given(st.integers(2, 50), st.integers(1, 10**6))
def test_a_pod_that_is_late_with_many_prefills_never_looks_idle(prefilling: int, each: int) -> None:
    _, idle = outlook(0, 0, 0.0, IDLE_PACE_S, 0.5)
    _, wait = outlook(prefilling, each * prefilling, 0.0, IDLE_PACE_S, 0.5)
    assert wait - idle == pytest.approx(0.5 * each * (prefilling - 1) * IDLE_PACE_S)


@unhurried
@given(st.floats(1.0, 1e4), st.floats(0.0, 100.0), st.floats(0.0, 1e4))
def test_the_longer_a_first_token_is_overdue_the_longer_the_rest_is_expected(
    due: float, least: float, late: float
) -> None:
    assert start_in(due, least, due + late) == max(least, OVERDUE * (due + late - due))


@pytest.mark.parametrize(
    ("tokens", "capacity", "more", "stay_s", "wait_s"),
    [(900, 1000, 100, 4.0, 0.0), (900, 1000, 550, 4.0, 2.0), (900, 1000, 550, 0.0, STAY_S / 2), (0, 10, 14, 2.0, 8.0)],
    ids=["it fits", "half of what stays has to go", "no request has ended yet", "larger than the engine"],
)
def test_the_wait_for_room_is_as_long_as_requests_stay(
    tokens: int, capacity: int, more: int, stay_s: float, wait_s: float
) -> None:
    assert admission_s(tokens, capacity, more, stay_s) == pytest.approx(wait_s)


def test_while_pods_are_idle_a_request_delays_few_others() -> None:
    assert others_weight(0.0, 0.0, 0.0) == 0.0
    assert others_weight(0.5, 0.5, 0.0) == pytest.approx(0.5**4)
    assert others_weight(1.0, 1.0, 0.0) == 1.0


def test_the_longer_a_queue_is_the_more_requests_another_delays() -> None:
    assert others_weight(1.0, 3.0, 2.0) == 5.0
