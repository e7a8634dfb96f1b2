"""The headers that say what is left of a limit."""

from __future__ import annotations

from router.access.limit_headers import anthropic_headers, openai_headers
from router.access.limits import LimitSet
from router.access.rate_share import RateShare


def limit_set(*capacities: int) -> LimitSet:
    """LimitRegistry on requests of these sizes, of each of which a tenth is used, and on 150,000 tokens."""
    made = LimitSet("search")
    for at, capacity in enumerate(capacities):
        made.requests.append(RateShare(f"r{at}", capacity, 0.0, shared=False))
        made.requests[at].use(capacity / 10)
    made.tokens.append(RateShare("t", 150_000, 0.0, shared=False))
    return made


def fields(lines: bytes) -> dict[bytes, bytes]:
    assert lines.endswith(b"\r\n")
    return dict(line.split(b": ") for line in lines.splitlines())


def test_openais_headers_have_limit_remaining_and_the_time_to_reset() -> None:
    assert fields(openai_headers(limit_set(60), 0.0)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"54",
        b"x-ratelimit-reset-requests": b"6s",
        b"x-ratelimit-limit-tokens": b"150000",
        b"x-ratelimit-remaining-tokens": b"150000",
        b"x-ratelimit-reset-tokens": b"0s",
    }


def test_anthropics_headers_have_the_time_of_the_reset() -> None:
    assert fields(anthropic_headers(limit_set(60), 0.0, 1_700_000_000.0)) == {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"54",
        b"anthropic-ratelimit-requests-reset": b"2023-11-14T22:13:26Z",
        b"anthropic-ratelimit-tokens-limit": b"150000",
        b"anthropic-ratelimit-tokens-remaining": b"150000",
        b"anthropic-ratelimit-tokens-reset": b"2023-11-14T22:13:20Z",
    }


def test_of_several_limits_the_one_with_the_least_left_is_reported() -> None:
    limits = limit_set(60, 1000)
    limits.requests[1].use(700)
    assert fields(openai_headers(limits, 0.0))[b"x-ratelimit-limit-requests"] == b"1000"


def test_without_a_limit_on_tokens_nothing_is_said_of_them() -> None:
    limits = limit_set(60)
    limits.tokens.clear()
    assert b"tokens" not in openai_headers(limits, 0.0)
