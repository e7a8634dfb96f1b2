"""Medians and ratios."""

from __future__ import annotations

import json

import pytest

from loadtests.bench.report import Sample, as_json, figures, ratio, table
from loadtests.bench.wrk import Load


def sample(peer: str, number: int, rate: float, cpu_us: float, failed: int = 0) -> Sample:
    load = Load(int(rate * 2), 2.0, p50_ms=1.0 * number, p99_ms=5.0, failed=failed, bad_status=0)
    return Sample(peer, number, load, cpu_s=cpu_us * load.requests / 1e6, rss_bytes=20_000_000)


SAMPLES = [
    *(sample("direct", number, 20_000, 20) for number in (1, 2, 3)),
    sample("nginx", 1, 10_000, 50),
    sample("turnout", 1, 5_000, 100),
    # The machine was busy with something else in this round, for both of them.
    sample("nginx", 2, 2_000, 60),
    sample("turnout", 2, 1_000, 120, failed=1),
    sample("nginx", 3, 12_000, 40),
    sample("turnout", 3, 7_200, 50),
]


def test_a_figure_is_the_median_of_its_own_column() -> None:
    found = figures("nginx", SAMPLES)
    assert (found.rate, found.p50_ms, found.rss_mb) == (10_000, 2.0, 20.0)
    assert found.cpu_us == pytest.approx(50)


def test_one_wrong_answer_in_any_round_is_counted() -> None:
    assert figures("turnout", SAMPLES).wrong == 1


def test_a_ratio_is_taken_within_rounds_and_then_its_median() -> None:
    found = ratio("turnout", "nginx", SAMPLES)
    assert found is not None
    assert found.rate == pytest.approx(0.5)
    assert found.cpu == pytest.approx(0.5)


def test_less_cpu_is_a_ratio_above_one() -> None:
    found = ratio("direct", "turnout", SAMPLES)
    assert found is not None
    assert found.cpu == pytest.approx(5.0)


def test_peers_that_share_no_round_have_no_ratio() -> None:
    assert ratio("turnout", "haproxy", SAMPLES) is None


def test_the_table_says_the_ratio_and_whether_the_harness_was_the_limit() -> None:
    text = table(SAMPLES)
    assert "turnout / nginx: 0.50 x by req/s, 0.50 x by CPU a request" in text
    assert "2.00 x the fastest proxy: not the bottleneck" in text


def test_the_table_says_so_when_the_harness_was_the_limit() -> None:
    slow = [sample("direct", 1, 9_000, 100), sample("nginx", 1, 10_000, 50)]
    assert "THE BOTTLENECK" in table(slow)


def test_the_json_holds_medians_ratios_and_every_sample() -> None:
    found = json.loads(json.dumps(as_json("smoke", SAMPLES)))
    assert [one["peer"] for one in found["peers"]] == ["direct", "nginx", "turnout"]
    assert found["turnout_vs"]["nginx"]["rate"] == pytest.approx(0.5)
    assert len(found["samples"]) == len(SAMPLES)
