"""One kind of limit as header lines in OpenAI's names: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`. Pure:
knows shares and no request.

Most answers of a tenant within its limits have the same numbers as the answer before, so the last lines are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.access.rate_share import RateShare


class LimitLines:
    """Writes the lines, each of whose names ends in `name`."""

    __slots__ = ("_begin", "_lines", "_middle", "_ms", "_name", "_remaining", "_share")

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._middle = b"\r\nx-ratelimit-reset-%b: " % name
        self._share: RateShare | None = None
        self._begin = b""
        """What depends on the share alone."""
        self._remaining = self._ms = -1
        self._lines = b""
        """As they were last, with these numbers."""

    def of(self, shares: Sequence[RateShare], now: float) -> bytes:
        """What is left of the tightest share; `now` is on the clock of the shares."""
        share = tightest(shares, now)
        left = share.remaining(now)
        remaining, ms = int(left), int(share.refill_s(left) * 1000 + 0.5)
        if share is not self._share:
            name = self._name
            self._begin = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: " % (name, int(share.capacity), name)
            self._share = share
        elif remaining == self._remaining and ms == self._ms:
            return self._lines
        self._remaining, self._ms = remaining, ms
        # Compiled, bytes are put together in a quarter of the time that text takes.
        self._lines = b"".join([self._begin, b"%d" % remaining, self._middle, duration(ms), b"\r\n"])
        return self._lines


def duration(ms: int) -> bytes:
    """Milliseconds as OpenAI writes a duration: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes = ms // 60_000
    whole, rest = (ms - minutes * 60_000) // 1000, ms % 1000
    seconds = b"%d" % whole
    if rest:
        seconds += b"." + (b"%d" % (1000 + rest))[1:].rstrip(b"0")
    seconds += b"s"
    if minutes < 60:
        return b"%dm%b" % (minutes, seconds) if minutes else seconds
    return b"%dh%dm%b" % (minutes // 60, minutes % 60, seconds)


def tightest(shares: Sequence[RateShare], now: float) -> RateShare:
    """The share of which the least is left."""
    if len(shares) == 1:
        return shares[0]
    return min(shares, key=lambda share: share.remaining(now) / share.capacity)
