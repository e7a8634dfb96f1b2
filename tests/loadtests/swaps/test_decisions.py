"""Decision times from metrics pages, and the run's verdict."""

from __future__ import annotations

import math

import pytest

from loadtests.swaps.decisions import Decisions, slower
from loadtests.swaps.play import Outcome
from loadtests.swaps.report import as_json, lines
from tests.fakes.each_case import each_case

PAGE = """# TYPE turnout_decision_seconds histogram
turnout_decision_seconds_bucket{pool="a",le="1e-05"} 90.0
turnout_decision_seconds_bucket{pool="a",le="0.0001"} 99.0
turnout_decision_seconds_bucket{pool="a",le="+Inf"} 100.0
turnout_decision_seconds_count{pool="a"} 100.0
turnout_e2e_seconds_bucket{pool="a",le="0.0001"} 7.0
"""


def decisions(fast: int, slow: int, slowest: int) -> Decisions:
    return Decisions({1e-5: fast, 1e-4: fast + slow, math.inf: fast + slow + slowest})


def test_buckets_are_summed_over_pools_and_replicas() -> None:
    assert Decisions.read([PAGE, PAGE.replace('pool="a"', 'pool="b"')]) == decisions(180, 18, 2)
    assert Decisions.read([PAGE]).since(decisions(50, 5, 0)) == decisions(40, 4, 1)


def test_a_quantile_is_its_bucket_s_bound() -> None:
    found = decisions(90, 9, 1)
    assert (found.count, found.bucket(0.5), found.bucket(0.99), found.bucket(0.999)) == (100, 0, 1, 2)
    assert (found.bound_s(0.99), found.bound_s(0.999)) == (1e-4, math.inf)
    assert (Decisions().bucket(0.99), Decisions().bound_s(0.5)) == (-1, 0.0)


@pytest.mark.parametrize(
    ("picks", "beyond", "wrong"), [(100, 7, False), (100, 9, True), (10_000, 150, False), (10_000, 200, True)]
)
def test_a_rush_is_slower_if_significantly_more_picks_are_above_the_bucket_after_the_calm_one(
    picks: int, beyond: int, wrong: bool
) -> None:
    """Five standard errors of 1 % against 1 % are 7.0 points of 100 picks each, and 0.70 points of 10,000."""
    calm = decisions(picks, 0, 0)
    assert slower(calm, decisions(picks - beyond, 0, beyond)) == wrong
    assert not slower(calm, decisions(0, picks, 0)), "that is the bucket after it"


def test_without_picks_no_run_is_slower() -> None:
    assert not slower(Decisions(), decisions(0, 0, 9))
    assert not slower(decisions(9, 0, 0), Decisions())


PASSED = Outcome(200, {}, 5000, {}, {"p2c": 5000}, decisions(100, 0, 0), decisions(90, 10, 0), [7, 7], 0)


@each_case(
    "wrong",
    [
        {"swaps": 0},
        {"refused": {"503": 1}},
        {"failed": {"http_502": 1}},
        {"inflight": 1},
        {"generations": [7, 8]},
        {"rush": decisions(0, 0, 100)},
    ],
)
def test_a_run_passes_only_without_failures(wrong: dict[str, object]) -> None:
    assert PASSED.passed
    assert not PASSED._replace(**wrong).passed  # type: ignore[arg-type]


DECISIONS = (
    "decisions: calm p50 <= 10 us, p99 <= 10 us of 100; swapping p50 <= 10 us, p99 <= 100 us of 100; p99 in +1 bucket"
)


def test_a_run_is_reported_as_lines_and_as_json() -> None:
    assert lines(PASSED) == [
        "200 swaps, none refused",
        "5000 requests, 0 failed (decided by: p2c 5000)",
        DECISIONS,
        "afterwards: 0 in flight, replicas at generation 7",
        "passed",
    ]
    bad = PASSED._replace(failed={"truncated": 2}, generations=[7, 8])
    assert lines(bad)[1].startswith("5000 requests, 2 x truncated")
    assert lines(bad)[-2:] == ["afterwards: 0 in flight, replicas at generation 7 and 8", "FAILED"]
    assert as_json(PASSED)["rush"] == {"1e-05": 90, "0.0001": 100, "inf": 100}
