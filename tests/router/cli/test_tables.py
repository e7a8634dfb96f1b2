"""The lines of a trial's report, from the dicts that trials produce."""

from __future__ import annotations

from typing import Any

from router.cli.tables import trial_lines

INTERVAL = {"value": 0.2, "low": 0.1, "high": 1}
ARM: dict[str, Any] = {
    "requests": 812,
    "failures": 3,
    "error_rate": INTERVAL,
    "ttft_s": {"p50": INTERVAL, "p95": {"value": 1.5, "low": 1.25, "high": None}},
    "hit_rate": None,
}
SIDE: dict[str, Any] = {
    "predicted_tokens": 1234.5,
    "predicted_wait_s": 0.01,
    "predicted_ttft_s": 0.25,
    "predicted_hit_rate": None,
    "imbalance": 1.25,
    "pick_us": {"p50": 3.25, "p99": None},
}
CANARY: dict[str, Any] = {
    "policy": "random",
    "params": {},
    "percent": 12.5,
    "verdict": "within its guard",
    "comparisons": {"error_rate": {**INTERVAL, "limit": 0.02}},
    "arms": {"baseline": ARM, "canary": ARM},
}
SHADOW: dict[str, Any] = {
    "policy": "p2c",
    "off": None,
    "sampled": 100,
    "dropped": 2,
    "compared": 98,
    "failures": 0,
    "agreement": INTERVAL,
    "live": SIDE,
    "shadow": SIDE,
}
REPORT: dict[str, Any] = {
    "pool": "a",
    "running": True,
    "generation": 4,
    "policy": "p2c",
    "age_s": 12.0,
    "replicas": ["x", "y"],
    "canary": CANARY,
    "shadow": None,
    "last": None,
}


def test_a_canary_has_its_verdict_a_row_for_each_arm_and_the_guards_comparison() -> None:
    assert list(trial_lines(REPORT)) == [
        "a: p2c (generation 4), 2 replicas, 12 s",
        "canary random, 12.5 %: within its guard",
        "          REQUESTS  FAILURES  ERROR RATE                  TTFT P50              TTFT P95             HIT RATE",
        "baseline  812       3         20.00% (10.00% to 100.00%)  0.2 s (0.1 s to 1 s)  1.5 s (1.25 s to -)  -",
        "canary    812       3         20.00% (10.00% to 100.00%)  0.2 s (0.1 s to 1 s)  1.5 s (1.25 s to -)  -",
        "error_rate: 0.2 (0.1 to 1), limit 0.02",
    ]


def test_the_time_per_token_is_shown_where_a_replica_counts_it() -> None:
    arms = {"baseline": ARM, "canary": {**ARM, "tpot_s": {"streams": 9, "p50": INTERVAL, "p95": None}}}
    lines = list(trial_lines({**REPORT, "canary": {**CANARY, "arms": arms}}))
    assert lines[5:8] == [
        "          TIME PER TOKEN P50    TIME PER TOKEN P95",
        "baseline  -                     -",
        "canary    0.2 s (0.1 s to 1 s)  -",
    ]


def test_goodput_is_shown_where_requests_were_promised_times() -> None:
    arms = {"baseline": ARM, "canary": {**ARM, "goodput": {"value": 0.9, "low": 0.8, "high": 0.95}}}
    lines = list(trial_lines({**REPORT, "canary": {**CANARY, "arms": arms}}))
    assert lines[2].endswith("HIT RATE  GOODPUT")
    assert lines[3].endswith("  -         -")
    assert lines[4].endswith("  -         90.00% (80.00% to 95.00%)")


def test_a_shadow_has_its_agreement_a_row_for_each_side_and_the_skipped_requests() -> None:
    lines = list(trial_lines({**REPORT, "canary": None, "shadow": {**SHADOW, "off": "it raised", "agreement": None}}))
    assert lines[1:] == [
        "shadow p2c: 98 requests compared, same pod in -",
        "        TOKENS  WAIT    TTFT    HIT RATE  IMBALANCE  PICK P50  PICK P99",
        "live    1234    0.01 s  0.25 s  -         1.25       3.25 us   - us",
        "shadow  1234    0.01 s  0.25 s  -         1.25       3.25 us   - us",
        "of 100 sampled: 2 dropped",
        "turned off: it raised",
    ]


def test_the_result_of_an_ended_trial_is_shown() -> None:
    last = {"generation": 4, "ended": "canary random rolled back: error_rate", "canary": CANARY, "shadow": None}
    lines = list(trial_lines({"pool": "a", "running": False, "last": last}))
    assert lines[:3] == [
        "a: nothing is tried",
        "the last trial, of generation 4, ended: canary random rolled back: error_rate",
        "canary random, 12.5 %: within its guard",
    ]
    assert len(list(trial_lines({"pool": "a", "running": False, "last": None}))) == 1
