"""A trial's report as the control port answers it: plain dicts for JSON. Pure; judges nothing itself.

The intervals of an arm hold at the canary's `confidence` for a single look; those of `comparisons` are the guard's,
which hold over all its looks. A bound that the data do not allow is null.
"""

from __future__ import annotations

import math

from router.trials.clusters import Clustered, effects, heaviest, longer, sessions
from router.trials.durations import Counts, middle, quantile, total
from router.trials.evidence import Interval
from router.trials.figures import ArmFigures, ShadowFigures, SideFigures, TrialFigures
from router.trials.intervals import duration, mean, ratio_of_sums, share
from router.trials.shadow import Shadow
from router.trials.verdict import Comparison, Verdict
from router.trials.words import sentences
from statesync.store.policy_record import Canary, PolicyChoice

PLAIN_CONFIDENCE = 0.95
"""Confidence of a shadow's intervals, which no guard reads."""


PODS_SHOWN = 20
"""Pods of which the report shows the arms' shares, the busiest ones."""


def describe_canary(canary: Canary, figures: TrialFigures, verdict: Verdict) -> dict[str, object]:
    """The candidate compared with the policy that it would replace."""
    alpha = (1 - canary.guard.confidence) / 2
    return {
        **_choice(canary.choice),
        "percent": canary.percent,
        "stage": canary.stage,
        "switchback_s": canary.switchback_s,
        "guard": canary.guard._asdict(),
        "state": verdict.state,
        "verdict": verdict.reason,
        "comparisons": {each.guard: _comparison(each) for each in verdict.comparisons},
        "arms": {"baseline": _arm(figures.baseline, alpha), "canary": _arm(figures.canary, alpha)},
        "pods": _pods(figures.baseline, figures.canary),
        "words": list(sentences(canary, figures, verdict)),
    }


def _pods(baseline: ArmFigures, canary: ArmFigures) -> dict[str, dict[str, float]]:
    """Each arm's share of requests by pod, the busiest pods first."""
    arms = {"baseline": baseline.pods, "canary": canary.pods}
    wholes = {name: max(1, sum(pods.values())) for name, pods in arms.items()}
    every = {*baseline.pods, *canary.pods}
    busiest = sorted(every, key=lambda pod: (-baseline.pods.get(pod, 0) - canary.pods.get(pod, 0), pod))[:PODS_SHOWN]
    return {pod: {name: round(arms[name].get(pod, 0) / wholes[name], 4) for name in arms} for pod in busiest}


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
    alike = effects([Clustered(arm.failures_by, arm.judged_by)])[0]
    return {
        "requests": arm.placed,
        "sessions": sessions(arm.placed_by),
        "heaviest_session": round(heaviest(arm.placed_by), 4),
        "ended": arm.ended,
        "failures": arm.failures,
        "left": arm.left,
        "rejections": arm.rejections,
        "policy_failures": arm.policy_failures,
        "error_rate": _interval(share(arm.failures / alike, seen / alike, alpha)) if seen else None,
        "ttft_s": {
            "streams": streams,
            "waiting": total(arm.waiting),
            "unserved": total(arm.unserved),
            "mean": _interval(
                mean(streams, arm.ttft_sum_s, arm.ttft_squares, alpha, _weight(arm.ttft, arm.ttft_by, 0.5))
            ),
            **_quantiles(arm.ttft, arm.ttft_by, alpha),
        },
        "whole_s": {
            "answers": total(arm.whole),
            "waiting": total(arm.whole_waiting),
            "unserved": total(arm.whole_unserved),
            **_quantiles(arm.whole, arm.whole_by, alpha),
        },
        "stream_s": _plain(arm.streamed),
        "tpot_s": {"streams": total(arm.tpot), **_quantiles(arm.tpot, arm.tpot_by, alpha)},
        "hit_rate": _interval(ratio_of_sums(arm.hits_by, arm.queries_by, alpha)) if arm.queries_by else None,
        "goodput": _interval(share(arm.slo_kept, arm.slo_requests, alpha)) if arm.slo_requests else None,
    }


def _quantiles(counts: Counts, cells: Counts, alpha: float) -> dict[str, object]:
    points = {"p50": 0.5, "p95": 0.95}
    return {
        name: _interval(duration(counts, q, alpha, _weight(counts, cells, q)) if counts else None)
        for name, q in points.items()
    }


def _plain(counts: Counts) -> dict[str, float | None]:
    """Quantiles without bounds, of figures that no guard reads."""
    return {name: _finite(middle(quantile(counts, q))) if counts else None for name, q in (("p50", 0.5), ("p95", 0.95))}


def _weight(counts: Counts, cells: Counts, q: float) -> float:
    return 1.0 / effects([longer(cells, quantile(counts, q))])[0] if counts else 1.0


def _side(side: SideFigures, queries: float, pods: int) -> dict[str, object]:
    picks = max(1, side.picks)
    return {
        "rejections": side.rejections,
        "predicted_tokens": round(side.tokens / picks, 1),
        "predicted_wait_s": round(side.wait_s / picks, 6),
        "predicted_ttft_s": round(side.ttft_s / picks, 6),
        "predicted_hit_rate": round(side.hits / queries, 6) if queries else None,
        "imbalance": round(max(side.pods.values()) * pods / picks, 3) if side.pods else None,
        "pick_us": {"p50": _us(side.took, 0.5), "p99": _us(side.took, 0.99)},
    }


def _us(took: Counts, q: float) -> float | None:
    return round(middle(quantile(took, q)) * 1e6, 2) if took else None


def _comparison(of: Comparison) -> dict[str, object]:
    state = {"broken": of.broken, "within": of.within, "more_requests": of.more or None}
    return {**(_interval(of.found) or {}), "limit": of.limit or None, **state}


def _interval(of: Interval | None) -> dict[str, float | None] | None:
    return {name: _finite(value) for name, value in of._asdict().items()} if of is not None else None


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
