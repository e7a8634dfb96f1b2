"""What is collected of a request: the first end of an attempt counts."""

from __future__ import annotations

from router.telemetry.request_trace import AttemptTrace, RequestTrace


def test_only_the_first_end_of_an_attempt_counts() -> None:
    attempt = AttemptTrace(1, 10.0, "a", "a:1", "main", "m")
    attempt.end(11.0, "connect_failed")
    attempt.end(12.0)
    assert (attempt.ended_at, attempt.error) == (11.0, "connect_failed")


def test_a_trace_is_sampled_by_its_flag_and_named_in_32_digits() -> None:
    assert [RequestTrace(0xAB, 0, flags).sampled for flags in (0, 1, 2, 3)] == [False, True, False, True]
    assert RequestTrace(0xAB, 0, 1).name == "0" * 30 + "ab"
