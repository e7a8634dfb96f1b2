"""The figures of a trial's report."""

from __future__ import annotations

from typing import Any

from router.trials.durations import bucket_of
from router.trials.figures import ArmFigures, ShadowFigures, SideFigures, TrialFigures
from router.trials.report import describe_canary, describe_shadow
from router.trials.shadow import Shadow
from router.trials.verdict import judge
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from tests.fakes.trial_inputs import Fixed
from tests.fakes.virtual_time import Clock, Later


def test_an_arm_is_shown_with_its_intervals() -> None:
    canary = Canary(PolicyChoice("new", {"choices": 3}), 10.0, CanaryGuard())
    arm = ArmFigures(
        placed=200,
        ended=190,
        failures=19,
        ttft={bucket_of(0.2): 180},
        ttft_sum_s=36.0,
        ttft_squares=7.2,
        queries=2000.0,
        hits=500.0,
        slo_requests=100,
        slo_kept=80,
        placed_by=dict.fromkeys(range(60), 3),
        queries_by=dict.fromkeys(range(60), 30),
        hits_by=dict.fromkeys(range(30), 15),
        pods={"a": 150, "b": 50},
        streamed={bucket_of(0.9): 180},
        tpot={bucket_of(0.02): 170},
    )
    figures = TrialFigures(baseline=arm, canary=arm)
    shown: Any = describe_canary(canary, figures, judge(canary, figures))
    assert (shown["policy"], shown["params"], shown["percent"]) == ("new", {"choices": 3}, 10.0)
    assert (shown["state"], shown["comparisons"]["error_rate"]["limit"]) == ("undecided", 0.01)
    one = shown["arms"]["canary"]
    assert one["error_rate"]["value"] == 0.1 and 0.06 < one["error_rate"]["low"] < one["error_rate"]["high"] < 0.16
    assert abs(one["ttft_s"]["mean"]["value"] - 0.2) < 1e-9
    assert 0.19 < one["ttft_s"]["p95"]["low"] <= one["ttft_s"]["p95"]["value"] <= one["ttft_s"]["p95"]["high"] < 0.22
    assert 0.85 < one["stream_s"]["p50"] < 0.95 and one["whole_s"]["p95"] is None
    assert one["tpot_s"]["streams"] == 170 and 0.019 < one["tpot_s"]["p50"]["value"] < 0.021
    assert any(line.startswith("Median time per token after the first one") for line in shown["words"])
    assert 78 <= one["sessions"] <= 84 and one["heaviest_session"] == round(1 / 60, 4)
    assert shown["pods"] == {"a": {"baseline": 0.75, "canary": 0.75}, "b": {"baseline": 0.25, "canary": 0.25}}
    assert one["hit_rate"]["value"] == 0.25
    assert one["goodput"]["value"] == 0.8 and 0.7 < one["goodput"]["low"] < 0.8 < one["goodput"]["high"] < 0.88


def test_an_arm_without_requests_shows_null_and_not_zero() -> None:
    canary = Canary(PolicyChoice("new"), 10.0)
    shown: Any = describe_canary(canary, TrialFigures(), judge(canary, TrialFigures()))
    one = shown["arms"]["canary"]
    assert (one["error_rate"], one["hit_rate"], one["ttft_s"]["p95"], one["ttft_s"]["mean"]) == (None,) * 4
    assert one["goodput"] is None, "nothing was promised"
    assert shown["comparisons"] == {}


def test_a_shadow_is_shown_beside_the_policy_that_decides() -> None:
    live = SideFigures(4, 0, 400.0, 2.0, 100.0, {"a": 2, "b": 2}, {bucket_of(1e-5): 4}, ttft_s=6.0)
    other = SideFigures(picks=4, tokens=800.0, wait_s=4.0, hits=300.0, pods={"a": 4}, took={bucket_of(2e-5): 4})
    figures = ShadowFigures(5, 1, 4, 2, 0, 400.0, live, other)
    shown: Any = describe_shadow(PolicyChoice("p2c"), figures, Shadow("main", Fixed(), Later(), Clock()))
    assert shown["agreement"]["value"] == 0.5
    assert (shown["live"]["imbalance"], shown["shadow"]["imbalance"]) == (1.0, 2.0)
    assert (shown["live"]["predicted_tokens"], shown["shadow"]["predicted_wait_s"]) == (100.0, 1.0)
    assert (shown["live"]["predicted_ttft_s"], shown["shadow"]["predicted_ttft_s"]) == (1.5, 0.0)
    assert (shown["live"]["predicted_hit_rate"], shown["shadow"]["predicted_hit_rate"]) == (0.25, 0.75)
    assert 9.5 < shown["live"]["pick_us"]["p99"] < 10.5
    assert (shown["off"], shown["dropped"]) == (None, 1)
