"""What an answer says of its tenant's limits, in the names of OpenAI's and Anthropic's APIs. Pure.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration such as `6m0s`. Anthropic:
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, the reset as a time (RFC 3339). Both resets are when
nothing of the limit will be used. Where several limits apply, the one of which the least is left is reported.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from router.access.limit_lines import tightest
from router.access.limits import LimitSet
from router.access.rate_share import RateShare

_PODS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
"""Beginnings of the headers in which a pod may name limits of its own; the last ones are IETF's."""


def openai_headers(limits: LimitSet, now: float) -> bytes:
    """Lines for all paths but Anthropic's; `now` is on the clock of the shares."""
    lines = limits.request_lines.of(limits.requests, now) if limits.requests else b""
    return lines + limits.token_lines.of(limits.tokens, now) if limits.tokens else lines


def anthropic_headers(limits: LimitSet, now: float, wall: float) -> bytes:
    """Lines for Anthropic's paths; `wall` is the Unix time of `now`."""
    text = ""
    if limits.requests:
        text = _anthropic("requests", tightest(limits.requests, now), now, wall)
    if limits.tokens:
        text += _anthropic("tokens", tightest(limits.tokens, now), now, wall)
    return text.encode()


def _anthropic(what: str, share: RateShare, now: float, wall: float) -> str:
    left = share.remaining(now)
    return (
        f"anthropic-ratelimit-{what}-limit: {int(share.capacity)}\r\n"
        f"anthropic-ratelimit-{what}-remaining: {int(left)}\r\n"
        f"anthropic-ratelimit-{what}-reset: {_moment(int(wall + share.refill_s(left)))}\r\n"
    )


@lru_cache(maxsize=64)  # making one takes as long as all else of a request's limits
def _moment(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_limits(kept: list[bytes]) -> list[bytes]:
    """A pod's header lines without what it says of limits: the client's are those of its tenant."""
    return [line + b"\r\n" for line in b"".join(kept).split(b"\r\n") if line and not line.startswith(_PODS)]
