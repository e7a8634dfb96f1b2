"""The cost model: units, and the properties that a choice by it relies on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.ttft import (
    LULL_STEPS,
    PACE_S,
    STAY_S,
    admission_s,
    first_token_work,
    outlook,
    prefill_work,
    step_work,
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


def test_an_idle_pod_has_no_due_time_and_waits_for_two_steps() -> None:
    assert outlook(0, 0, 0, 0, 99.0, PACE_S) == (0.0, LULL_STEPS * step_work(0, 0) * PACE_S)


def test_pending_work_is_done_in_its_own_time_after_the_head_began() -> None:
    lull = LULL_STEPS * step_work(2, 900) * 1e-3
    until, wait = outlook(3, 900, 1, 5000, 10.0, 1e-3)
    assert until == pytest.approx(10.0 + 5.0 + lull)
    assert wait == pytest.approx(lull)


@unhurried
@given(st.integers(2, 50), st.integers(1, 10**6))
def test_a_pod_that_is_late_with_many_prefills_never_looks_idle(prefilling: int, each: int) -> None:
    _, idle = outlook(prefilling, 0, prefilling, 0, 0.0, PACE_S)
    _, wait = outlook(prefilling, 0, prefilling, each * prefilling, 0.0, PACE_S)
    assert wait - idle == pytest.approx(0.5 * each * (prefilling - 1) * PACE_S)


def test_a_first_token_takes_its_prompt_and_the_decode_steps_meanwhile() -> None:
    assert first_token_work(4000, 2048, 200.0) == 4300.0


@pytest.mark.parametrize(
    ("tokens", "capacity", "more", "stay_s", "wait_s"),
    [(900, 1000, 100, 4.0, 0.0), (900, 1000, 550, 4.0, 2.0), (900, 1000, 550, 0.0, STAY_S / 2), (0, 10, 14, 2.0, 8.0)],
    ids=["it fits", "half of what stays has to go", "no request has ended yet", "larger than the engine"],
)
def test_the_wait_for_room_is_as_long_as_requests_stay(
    tokens: int, capacity: int, more: int, stay_s: float, wait_s: float
) -> None:
    assert admission_s(tokens, capacity, more, stay_s) == pytest.approx(wait_s)
