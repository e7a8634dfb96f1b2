"""The numbers behind promised times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.slo import DECODES_S, LEAST_DECODES_S, REST, broken, kept, rest_s, token_s, weight
from schedulers.types import NO_SLO, Slo

SECONDS = st.floats(0, 1e6, allow_nan=False)


def test_a_step_of_priority_doubles_a_promise_up_to_a_bound() -> None:
    assert [weight(priority) for priority in (-1, 0, 1, 2)] == [0.5, 1.0, 2.0, 4.0]
    assert weight(10**9) == weight(6)
    assert weight(-(10**9)) == weight(-6)


@given(SECONDS, SECONDS, SECONDS)
def test_a_longer_time_is_never_kept_more_likely(one: float, other: float, promised: float) -> None:
    sooner, later = sorted((one, other))
    assert 0.0 <= kept(later, promised) <= kept(sooner, promised) <= 1.0


def test_what_was_not_promised_is_kept() -> None:
    assert kept(1e9, 0.0) == 1.0
    assert kept(2.0, 2.0) == 0.5


def test_more_requests_and_more_context_make_tokens_slower() -> None:
    assert token_s(1, 0, 1e-4) < token_s(2, 0, 1e-4) < token_s(2, 5000, 1e-4)
    assert token_s(2, 5000, 2e-4) == pytest.approx(2 * token_s(2, 5000, 1e-4))


def test_the_rest_of_a_decode_is_assumed_where_nothing_has_ended() -> None:
    assert rest_s(0.0, 0.0) == pytest.approx(REST * DECODES_S)
    assert rest_s(10.0, 1.0) == pytest.approx(REST * 9.0)
    assert rest_s(1.0, 3.0) == pytest.approx(REST * LEAST_DECODES_S)


def test_only_promises_between_the_two_times_are_broken_and_by_their_weight() -> None:
    lost = broken(((0.001, 5.0), (0.05, 2.0), (9.0, 7.0)), 0.02, 0.15)
    assert lost == pytest.approx(2.0, rel=0.01), "one was lost before, one is still kept"
    assert broken((), 0.02, 0.15) == 0.0


def test_an_answer_keeps_a_promise_if_neither_time_is_longer() -> None:
    assert Slo(1.0, 0.1).met(1.0, 0.1)
    assert not Slo(1.0, 0.1).met(1.1, 0.1)
    assert not Slo(1.0, 0.1).met(1.0, 0.11)
    assert NO_SLO.met(1e9, 1e9)
