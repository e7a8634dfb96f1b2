"""The parts of a pool's record beside its policy: the shadow, the canary, and the guard that ends it.

Values only, the same on all replicas through the store. The gateway acts on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_NO_PARAMS: Mapping[str, object] = MappingProxyType({})


class PolicyChoice(NamedTuple):
    """A policy by name and parameters."""

    name: str
    params: Mapping[str, object] = _NO_PARAMS


class CanaryGuard(NamedTuple):
    """Limits of a canary against the policy it would replace; beyond one it is rolled back. 0.0 turns a limit off."""

    error_rate: float = 0.01
    """Share of failed requests, above that of the other policy."""
    ttft_p95_ratio: float = 1.5
    """95th percentile of the time to first token, divided by that of the other policy."""
    min_requests: int = 50
    """Requests of each arm before it may be within its limits."""
    confidence: float = 0.95
    """Certainty that a candidate at a limit or better is never rolled back, however often it is looked at, 0..1."""
    ttft_p50_ratio: float = 2.0
    """The median likewise: a candidate that fills a pod slows the other policy's slowest requests, too."""
    e2e_p95_ratio: float = 1.5
    """95th percentile of the time to the end of answers that are no streams, likewise."""
    pool_p95_ratio: float = 3.0
    """95th percentile of the time to first token of all the pool's streams, divided by what it was before."""
    tpot_p50_ratio: float = 1.5
    """Median time per token after the first one, a mean for each stream, divided by that of the other policy."""


class Canary(NamedTuple):
    """A policy that decides a share of the requests."""

    choice: PolicyChoice
    percent: float
    """Percentage of the sessions; requests without a session are drawn one by one."""
    guard: CanaryGuard = CanaryGuard()
    began: int = 0
    """The generation in which the candidate got its first share, which salts the draw: later shares contain earlier
    ones. 0 in that generation itself."""
    since: int = 0
    """The generation in which it got the present share, under which its figures are counted; 0 likewise."""
    stage: int = 0
    """How many shares it had before."""
    switchback_s: float = 0.0
    """Seconds in which all of the pool follows one policy, drawn anew each time; 0.0 draws sessions."""
