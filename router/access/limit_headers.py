"""What an answer says of its tenant's limits, in the names of OpenAI's and Anthropic's APIs. Pure.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration such as `6m0s`. Anthropic:
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, the reset as a time (RFC 3339). Both resets are when
nothing of the limit will be used. Where several limits apply, the one of which the least is left is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from router.access.limits import LimitSet
from router.access.rate_share import RateShare

HeaderPairs = tuple[tuple[bytes, bytes], ...]


def openai_headers(limits: LimitSet, now: float) -> HeaderPairs:
    """For all paths but Anthropic's; `now` is on the clock of the shares."""
    headers: HeaderPairs = ()
    for name, shares in ((b"requests", limits.requests), (b"tokens", limits.tokens)):
        if shares:
            share = _tightest(shares, now)
            headers += (
                (b"x-ratelimit-limit-" + name, b"%d" % share.capacity),
                (b"x-ratelimit-remaining-" + name, b"%d" % share.remaining(now)),
                (b"x-ratelimit-reset-" + name, duration(share.reset_s(now))),
            )
    return headers


def anthropic_headers(limits: LimitSet, now: float, wall: float) -> HeaderPairs:
    """For Anthropic's paths; `wall` is the Unix time of `now`."""
    headers: HeaderPairs = ()
    for name, shares in ((b"requests", limits.requests), (b"tokens", limits.tokens)):
        if shares:
            share = _tightest(shares, now)
            reset = datetime.fromtimestamp(wall + share.reset_s(now), UTC)
            before = b"anthropic-ratelimit-" + name
            headers += (
                (before + b"-limit", b"%d" % share.capacity),
                (before + b"-remaining", b"%d" % share.remaining(now)),
                (before + b"-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
            )
    return headers


def duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, ms = divmod(ms, 60_000)
    rest = f"{ms / 1000:.3f}".rstrip("0").rstrip(".").encode() + b"s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%b" % (hours, minutes, rest)
    return b"%dm%b" % (minutes, rest) if minutes else rest


def _tightest(shares: Sequence[RateShare], now: float) -> RateShare:
    if len(shares) == 1:
        return shares[0]
    return min(shares, key=lambda share: share.remaining(now) / share.capacity)
