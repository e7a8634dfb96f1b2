"""What an answer says of its tenant's limits, in the names of OpenAI's and Anthropic's APIs. Pure.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration such as `6m0s`. Anthropic:
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, the reset as a time (RFC 3339). Both resets are when
nothing of the limit will be used. Where several limits apply, the one of which the least is left is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from router.access.limits import LimitSet
from router.access.rate_share import RateShare

_FORMS: Final = ((b"limit", b"%d"), (b"remaining", b"%d"), (b"reset", b"%b"))
_NAMES: Final = (b"requests", b"tokens")
_OPENAI: Final = [
    b"".join([b"x-ratelimit-%b-%b: %b\r\n" % (what, name, form) for what, form in _FORMS]) for name in _NAMES
]
_ANTHROPIC: Final = [
    b"".join([b"anthropic-ratelimit-%b-%b: %b\r\n" % (name, what, form) for what, form in _FORMS]) for name in _NAMES
]

_PODS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
"""Beginnings of the headers in which a pod may name limits of its own; the last ones are IETF's."""


def openai_headers(limits: LimitSet, now: float) -> bytes:
    """Lines for all paths but Anthropic's; `now` is on the clock of the shares."""
    lines = b""
    for line, shares in zip(_OPENAI, (limits.requests, limits.tokens), strict=True):
        if shares:
            share = _tightest(shares, now)
            left = share.remaining(now)
            lines += line % (int(share.capacity), int(left), duration(share.refill_s(left)))
    return lines


def anthropic_headers(limits: LimitSet, now: float, wall: float) -> bytes:
    """Lines for Anthropic's paths; `wall` is the Unix time of `now`."""
    lines = b""
    for line, shares in zip(_ANTHROPIC, (limits.requests, limits.tokens), strict=True):
        if shares:
            share = _tightest(shares, now)
            left = share.remaining(now)
            reset = datetime.fromtimestamp(wall + share.refill_s(left), UTC)
            lines += line % (int(share.capacity), int(left), reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode())
    return lines


def without_limits(kept: list[bytes]) -> list[bytes]:
    """A pod's header lines without what it says of limits: the client's are those of its tenant."""
    if not any(b"ratelimit" in part for part in kept):
        return kept
    return [line + b"\r\n" for line in b"".join(kept).split(b"\r\n") if line and not line.startswith(_PODS)]


def duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, ms = divmod(ms, 60_000)
    whole, ms = divmod(ms, 1000)
    rest = (b"%d.%03d" % (whole, ms)).rstrip(b"0") + b"s" if ms else b"%ds" % whole
    if minutes < 60:
        return b"%dm%b" % (minutes, rest) if minutes else rest
    return b"%dh%dm%b" % (minutes // 60, minutes % 60, rest)


def _tightest(shares: Sequence[RateShare], now: float) -> RateShare:
    if len(shares) == 1:
        return shares[0]
    return min(shares, key=lambda share: share.remaining(now) / share.capacity)
