"""What an answer says of its tenant's limits, in the names of OpenAI's and Anthropic's APIs. Pure.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration such as `6m0s`. Anthropic:
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, the reset as a time (RFC 3339). Both resets are when
nothing of the limit will be used. Where several limits apply, the one of which the least is left is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from router.access.limits import LimitSet
from router.access.rate_share import RateShare

_PODS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
"""Beginnings of the headers in which a pod may name limits of its own; the last ones are IETF's."""


def openai_headers(limits: LimitSet, now: float) -> bytes:
    """Lines for all paths but Anthropic's; `now` is on the clock of the shares."""
    lines = b""
    if limits.requests:
        lines = _openai(b"requests", _tightest(limits.requests, now), now)
    if limits.tokens:
        lines += _openai(b"tokens", _tightest(limits.tokens, now), now)
    return lines


def _openai(what: bytes, share: RateShare, now: float) -> bytes:
    left = share.remaining(now)
    capacity, remaining = int(share.capacity), int(left)
    reset = duration(share.refill_s(left)).encode()
    # Compiled, bytes are put together in a quarter of the time that text takes.
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        what,
        capacity,
        what,
        remaining,
        what,
        reset,
    )


def anthropic_headers(limits: LimitSet, now: float, wall: float) -> bytes:
    """Lines for Anthropic's paths; `wall` is the Unix time of `now`."""
    text = ""
    if limits.requests:
        text = _anthropic("requests", _tightest(limits.requests, now), now, wall)
    if limits.tokens:
        text += _anthropic("tokens", _tightest(limits.tokens, now), now, wall)
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
    for part in kept:
        if part.decode("latin-1").find("ratelimit") >= 0:  # compiled, searches of text take a third of the time
            break
    else:
        return kept
    return [line + b"\r\n" for line in b"".join(kept).split(b"\r\n") if line and not line.startswith(_PODS)]


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    ms = int(seconds * 1000 + 0.5)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes = ms // 60_000
    whole, rest = (ms - minutes * 60_000) // 1000, ms % 1000
    text = f"{whole}.{rest:03d}".rstrip("0") + "s" if rest else f"{whole}s"
    if minutes < 60:
        return f"{minutes}m{text}" if minutes else text
    return f"{minutes // 60}h{minutes % 60}m{text}"


def _tightest(shares: Sequence[RateShare], now: float) -> RateShare:
    if len(shares) == 1:
        return shares[0]
    return min(shares, key=lambda share: share.remaining(now) / share.capacity)
