"""What a pool's record says beside its policy: the policy in its shadow, the one on trial, and what ends the trial.

Values only, as all replicas agree on them through the store. What is done about them is the gateway's.
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
    """What the candidate may cost against the policy it would replace before it is taken back. 0.0 turns one off."""

    error_rate: float = 0.02
    """Failed requests of the candidate's less those of the other, as a share of requests."""
    ttft_p95_ratio: float = 1.5
    """Its 95th percentile of the time to first token over the other's."""
    min_requests: int = 50
    """Nothing is judged before each arm has had so many."""
    confidence: float = 0.95
    """A guard is broken when it is exceeded with this certainty."""


class Canary(NamedTuple):
    """A candidate that decides a share of the requests."""

    choice: PolicyChoice
    percent: float
    """0..100 of the sessions; requests without a session are drawn one by one."""
    guard: CanaryGuard = CanaryGuard()
