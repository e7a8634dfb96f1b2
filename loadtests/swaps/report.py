"""A run of swaps as text and as JSON. Pure."""

from __future__ import annotations

import math
from typing import Any

from loadtests.swaps.decisions import Decisions
from loadtests.swaps.play import Outcome


def lines(outcome: Outcome) -> list[str]:
    """The report, line by line."""
    policies = ", ".join(f"{name} {count}" for name, count in sorted(outcome.policies.items()))
    apart = outcome.buckets_apart
    moved = "the same bucket" if not apart else f"{apart:+d} bucket{'s' if abs(apart) != 1 else ''}"
    return [
        f"{outcome.swaps} swaps, {_counts(outcome.refused) or 'none refused'}",
        f"{outcome.requests} requests, {_counts(outcome.failed) or '0 failed'} (decided by: {policies})",
        f"decisions: calm {_bounds(outcome.calm)}; swapping {_bounds(outcome.rush)}; p99 in {moved}",
        f"afterwards: {outcome.inflight} in flight, replicas at generation {_agreed(outcome)}",
        "passed" if outcome.passed else "FAILED",
    ]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All numbers."""
    return {
        **outcome._asdict(),
        "calm": _json(outcome.calm),
        "rush": _json(outcome.rush),
        "buckets_apart": outcome.buckets_apart,
        "passed": outcome.passed,
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))


def _agreed(outcome: Outcome) -> str:
    return " and ".join(map(str, sorted(set(outcome.generations))))


def _bounds(decisions: Decisions) -> str:
    return f"p50 <= {_us(decisions, 0.5)}, p99 <= {_us(decisions, 0.99)} of {decisions.count}"


def _us(decisions: Decisions, share: float) -> str:
    bound = decisions.bound_s(share)
    return "no bound" if math.isinf(bound) else f"{bound * 1e6:g} us"


def _json(decisions: Decisions) -> dict[str, int]:
    return {f"{bound:g}": count for bound, count in sorted(decisions.items())}
