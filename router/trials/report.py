"""A trial's report as the control port answers it: plain dicts for JSON. Pure; judges nothing itself.

The intervals of an arm hold at the canary's `confidence` for a single look; those of `comparisons` are the guard's,
which hold over all its looks. A bound that the data do not allow is null.
"""

from __future__ import annotations

import math

from router.trials.durations import Counts, middle, quantile, total
from router.trials.figures import ArmFigures, ShadowFigures, SideFigures, TrialFigures
from router.trials.intervals import Interval, duration, mean, ratio_of_sums, share
from router.trials.shadow import Shadow
from router.trials.verdict import Comparison, Verdict
from statesync.store.policy_record import Canary, PolicyChoice

PLAIN_CONFIDENCE = 0.95
"""Confidence of a shadow's intervals, which no guard reads."""


def describe_canary(canary: Canary, figures: TrialFigures, verdict: Verdict) -> dict[str, object]:
    """The candidate compared with the policy that it would replace."""
    alpha = (1 - canary.guard.confidence) / 2
    return {
        **_choice(canary.choice),
        "percent": canary.percent,
        "guard": canary.guard._asdict(),
        "state": verdict.state,
        "verdict": verdict.reason,
        "comparisons": {each.guard: _comparison(each) for each in verdict.comparisons},
        "arms": {"baseline": _arm(figures.baseline, alpha), "canary": _arm(figures.canary, alpha)},
    }


def describe_shadow(choice: PolicyChoice, figures: ShadowFigures, shadow: Shadow) -> dict[str, object]:
    """The shadow compared with the policy that decides, over the requests that both saw."""
    alpha = (1 - PLAIN_CONFIDENCE) / 2
    pods = len({*figures.live.pods, *figures.shadow.pods})
    return {
        **_choice(choice),
        "off": shadow.off or None,
        "sampled": figures.sampled,
        "dropped": figures.dropped,
        "compared": figures.compared,
        "failures": figures.failures,
        "agreement": _interval(share(figures.agreed, figures.compared, alpha)) if figures.compared else None,
        "live": _side(figures.live, figures.queries, pods),
        "shadow": _side(figures.shadow, figures.queries, pods),
    }


def _choice(choice: PolicyChoice) -> dict[str, object]:
    return {"policy": choice.name, "params": dict(choice.params)}


def _arm(arm: ArmFigures, alpha: float) -> dict[str, object]:
    seen, streams = arm.ended - arm.left, total(arm.ttft)
    return {
        "requests": arm.placed,
        "ended": arm.ended,
        "failures": arm.failures,
        "left": arm.left,
        "rejections": arm.rejections,
        "policy_failures": arm.policy_failures,
        "error_rate": _interval(share(arm.failures, seen, alpha)) if seen else None,
        "ttft_s": {
            "streams": streams,
            "waiting": total(arm.waiting),
            "unserved": total(arm.unserved),
            "mean": _interval(mean(streams, arm.ttft_sum_s, arm.ttft_squares, alpha)),
            "p50": _interval(duration(arm.ttft, 0.5, alpha)),
            "p95": _interval(duration(arm.ttft, 0.95, alpha)),
        },
        "hit_rate": _interval(ratio_of_sums(arm.prefix, alpha)) if arm.queries else None,
        "goodput": _interval(share(arm.slo_kept, arm.slo_requests, alpha)) if arm.slo_requests else None,
    }


def _side(side: SideFigures, queries: float, pods: int) -> dict[str, object]:
    picks = max(1, side.picks)
    return {
        "rejections": side.rejections,
        "predicted_tokens": round(side.tokens / picks, 1),
        "predicted_wait_s": round(side.wait_s / picks, 6),
        "predicted_hit_rate": round(side.hits / queries, 6) if queries else None,
        "imbalance": round(max(side.pods.values()) * pods / picks, 3) if side.pods else None,
        "pick_us": {"p50": _us(side.took, 0.5), "p99": _us(side.took, 0.99)},
    }


def _us(took: Counts, q: float) -> float | None:
    return round(middle(quantile(took, q)) * 1e6, 2) if took else None


def _comparison(of: Comparison) -> dict[str, object]:
    limit = None if math.isinf(of.limit) or not of.limit else of.limit
    return {**(_interval(of.found) or {}), "limit": limit, "broken": of.broken}


def _interval(of: Interval | None) -> dict[str, float | None] | None:
    return {name: _finite(value) for name, value in of._asdict().items()} if of is not None else None


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
