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

    error_rate: float = 0.02
    """Share of failed requests, above that of the other policy."""
    ttft_p95_ratio: float = 1.5
    """95th percentile of the time to first token, divided by that of the other policy."""
    min_requests: int = 50
    """Requests of each arm before the limits are applied."""
    confidence: float = 0.95
    """Certainty with which a limit must be exceeded, 0..1."""


class Canary(NamedTuple):
    """A policy that decides a share of the requests."""

    choice: PolicyChoice
    percent: float
    """Percentage of the sessions; requests without a session are drawn one by one."""
    guard: CanaryGuard = CanaryGuard()
