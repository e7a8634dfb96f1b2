"""Metrics of trials."""

from __future__ import annotations

from prometheus_client.samples import Sample

from router.telemetry.trials import families
from router.trials.durations import bucket_of
from router.trials.figures import ArmFigures, ShadowFigures, TrialFigures, TrialReading

FIGURES = TrialFigures(
    baseline=ArmFigures(placed=10),
    canary=ArmFigures(
        placed=4,
        failures=1,
        ttft={bucket_of(0.03): 2, bucket_of(9999.0): 1},
        ttft_sum_s=4000.0,
        tpot={bucket_of(0.03): 2},
        tpot_sum_s=0.06,
        slo_requests=3,
        slo_kept=2,
    ),
    shadow=ShadowFigures(sampled=9, dropped=1, compared=8, agreed=6),
)


def samples(*trials: TrialReading) -> dict[tuple[str, str, str], float]:
    """By name, arm and le."""
    found: list[Sample] = [each for family in families(trials, {"main": 2}) for each in family.samples()]
    return {(each.name, each.labels.get("arm", ""), each.labels.get("le", "")): each.value for each in found}


def test_each_arm_and_the_shadow_have_their_series() -> None:
    found = samples(TrialReading("main", FIGURES, True, True, True))
    assert found["turnout_trial_requests_total", "baseline", ""] == 10
    assert found["turnout_trial_failures_total", "canary", ""] == 1
    assert found["turnout_trial_slo_requests_total", "canary", ""] == 3
    assert found["turnout_trial_slo_kept_total", "canary", ""] == 2
    assert found["turnout_trial_broken", "", ""] == 1.0
    assert found["turnout_trial_rollbacks_total", "", ""] == 2
    assert found["turnout_shadow_agreement_ratio", "", ""] == 0.75
    assert found["turnout_shadow_dropped_total", "", ""] == 1


def test_fine_buckets_are_folded_into_those_of_the_other_histograms() -> None:
    found = samples(TrialReading("main", FIGURES, True, False, False))
    name = "turnout_trial_ttft_seconds"
    assert [found[f"{name}_bucket", "canary", edge] for edge in ("0.02", "0.04", "2560.0", "+Inf")] == [0, 2, 2, 3]
    assert (found[f"{name}_count", "canary", ""], found[f"{name}_sum", "canary", ""]) == (3, 4000.0)
    name = "turnout_trial_tpot_seconds"
    assert [found[f"{name}_bucket", "canary", edge] for edge in ("0.025", "0.05", "+Inf")] == [0, 2, 2]
    assert (found[f"{name}_count", "canary", ""], found[f"{name}_sum", "canary", ""]) == (2, 0.06)


def test_a_trial_that_does_not_run_has_no_series() -> None:
    assert set(samples()) == {("turnout_trial_rollbacks_total", "", "")}
    shadow_only = samples(TrialReading("main", FIGURES, False, True, False))
    assert not any(name.startswith("turnout_trial_requests") for name, _, _ in shadow_only)
