"""One kind of limit as header lines."""

from __future__ import annotations

from router.access.limit_lines import LimitLines, duration
from router.access.rate_share import RateShare
from tests.fakes.each_case import each_case


def share(capacity: int = 60) -> RateShare:
    return RateShare("r", capacity, 0.0, shared=False)


def text(limit: int, remaining: int, reset: str) -> bytes:
    lines = (
        f"x-ratelimit-limit-requests: {limit}",
        f"x-ratelimit-remaining-requests: {remaining}",
        f"x-ratelimit-reset-requests: {reset}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def test_lines_follow_what_is_left_and_the_time_until_nothing_is_used() -> None:
    lines, one = LimitLines(b"requests"), share()
    assert lines.of([one], 0.0) == text(60, 60, "0s")
    one.use(6.0)
    assert lines.of([one], 0.0) == text(60, 54, "6s")
    assert lines.of([one], 0.25) == text(60, 54, "5.75s"), "the number is the same, the time is not"
    assert lines.of([one], 6.0) == text(60, 60, "0s")


def test_what_is_left_may_change_within_a_millisecond() -> None:
    lines, one = LimitLines(b"requests"), share(6_000_000)
    assert lines.of([one], 0.0) == text(6_000_000, 6_000_000, "0s")
    one.use(1.0)
    assert lines.of([one], 0.0) == text(6_000_000, 5_999_999, "0s")


def test_the_same_numbers_are_the_same_bytes() -> None:
    lines, one = LimitLines(b"requests"), share()
    assert lines.of([one], 0.0) is lines.of([one], 1.0)


def test_another_share_may_become_the_tightest() -> None:
    lines, small, large = LimitLines(b"requests"), share(), share(1000)
    assert lines.of([small, large], 0.0) == text(60, 60, "0s")
    large.use(100.0)
    assert lines.of([small, large], 0.0) == text(1000, 900, "6s")
    small.use(60.0)
    assert lines.of([small, large], 0.0) == text(60, 0, "1m0s")


@each_case(
    "ms, text",
    [
        (0, "0s"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (1005, "1.005s"),
        (60_000, "1m0s"),
        (86_400, "1m26.4s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_020, "1h1m1.02s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(ms: int, text: str) -> None:
    assert duration(ms) == text.encode()


def test_a_time_is_rounded_to_the_next_millisecond() -> None:
    one = share()
    one.use(0.0123)
    assert LimitLines(b"requests").of([one], 0.0) == text(60, 59, "12ms")
    one.use(0.9876)
    assert LimitLines(b"requests").of([one], 0.0) == text(60, 59, "1s")
