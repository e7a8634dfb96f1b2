"""The known pods after each look at a source: a pure fold over the looks' results. No clock, no network.

The rules, worst case first: a look that fails (timeout, SERVFAIL) is no information about the pods, so the known ones
stay. A look that finds none may be of a server that has just restarted, so pods are dropped only after `EMPTY_LOOKS` in
a row. A set that shrank is an ordinary scale-down and drops pods at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from schedulers.types import Pod

EMPTY_LOOKS = 3
"""Empty looks in a row after which the pods are dropped."""
FLOOR_S = 1.0
"""Least seconds between two looks, whatever the TTL: records with TTL 0 exist."""
_JITTER = 0.1
"""Fraction of a delay by which it is lengthened at most, at random."""


class LookupFound(NamedTuple):
    """The look found pods."""

    pods: tuple[Pod, ...]
    ttl_s: float
    """Seconds for which the answer is valid."""


class LookupEmpty(NamedTuple):
    """The look found that there are none."""

    why: str


class LookupFailed(NamedTuple):
    """The look got no answer."""

    why: str


Look = LookupFound | LookupEmpty | LookupFailed


class DiscoveryStep(NamedTuple):
    """What to do after a look."""

    announce: tuple[Pod, ...] | None
    """The new full list; None when nothing changed."""
    delay_s: float
    """Seconds until the next look."""
    note: str = ""
    """A message to log, or empty."""


class KnownPods:
    """The pods known so far. `rng` gives floats in [0, 1)."""

    def __init__(self, interval_s: float, rng: Callable[[], float]) -> None:
        self._interval_s = max(interval_s, FLOOR_S)
        self._rng = rng
        self._pods: tuple[Pod, ...] | None = None
        self._empty = 0
        self._failed = 0
        self._reported = ""

    def after(self, look: Look) -> DiscoveryStep:
        """The change by this look, and the delay of the next."""
        if isinstance(look, LookupFailed):
            return self._after_failed(look)
        self._failed = 0
        if isinstance(look, LookupEmpty):
            return self._after_empty(look)
        self._empty = 0
        note, self._reported = ("answers again" if self._reported else ""), ""
        delay_s = self._delay_s(min(self._interval_s, look.ttl_s))
        return DiscoveryStep(self._changed(look.pods), delay_s, note)

    def _after_failed(self, look: LookupFailed) -> DiscoveryStep:
        # A failed look does not end a run of empty ones: neither shows a pod.
        retry_s = FLOOR_S * 2.0 ** min(self._failed, 8)
        self._failed += 1
        note = f"look failed, keeping {len(self._pods or ())} known pods: {look.why}"
        return DiscoveryStep(None, self._delay_s(min(self._interval_s, retry_s)), self._once("failed", note))

    def _after_empty(self, look: LookupEmpty) -> DiscoveryStep:
        delay_s = self._delay_s(self._interval_s)
        self._empty += 1
        if self._pods and self._empty < EMPTY_LOOKS:
            note = f"no pods ({look.why}), keeping {len(self._pods)} known ones until {EMPTY_LOOKS} looks agree"
            return DiscoveryStep(None, delay_s, self._once("empty", note))
        note = f"dropping {len(self._pods)} pods: {look.why}" if self._pods else f"no pods: {look.why}"
        return DiscoveryStep(self._changed(()), delay_s, self._once("gone", note))

    def _changed(self, pods: tuple[Pod, ...]) -> tuple[Pod, ...] | None:
        # Sorted because DNS servers rotate their answers: another order is no change.
        pods = tuple(sorted(pods, key=lambda pod: pod.id))
        if pods == self._pods:
            return None
        self._pods = pods
        return pods

    def _once(self, kind: str, note: str) -> str:
        if kind == self._reported:
            return ""
        self._reported = kind
        return note

    def _delay_s(self, wanted_s: float) -> float:
        # Later, never earlier: before the end of the TTL a caching resolver repeats its answer.
        return max(FLOOR_S, wanted_s) * (1 + _JITTER * self._rng())
