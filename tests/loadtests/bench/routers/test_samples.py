"""Medians and ratios."""

from __future__ import annotations

import json

import pytest

from loadtests.bench.load.result import Load
from loadtests.bench.routers.samples import Sample, as_json, ratio, row
from loadtests.report.figures import Range


def sample(peer: str, number: int, rate: float, cpu_us: float, failed: int = 0, case: str = "1k") -> Sample:
    load = Load(int(rate * 2), 2.0, p50_ms=1.0 * number, p99_ms=5.0, failed=failed, bad_status=0)
    cpu_s = cpu_us * load.requests / 1e6
    return Sample(case, peer, number, load, cpu_s, 20_000_000, 18_000_000, (cpu_s + 0.2, 1.0), load_cpu_s=0.9)


def streams(peer: str, number: int, rate: float, chunk_us: float, open_streams: int = 256) -> Sample:
    load = Load(0, 2.0, 0.0, 0.0, failed=0, bad_status=0, chunks=int(rate * 2), gap_p50_ms=20.0, gap_p99_ms=25.0)
    cpu_s = chunk_us * load.chunks / 1e6
    return Sample("paced-256", peer, number, load, cpu_s, 25_120_000, 20_000_000, (1.0, 1.5), 1.5, open_streams)


SAMPLES = [
    *(sample("direct", number, 20_000, 20) for number in (1, 2, 3)),
    sample("nginx", 1, 10_000, 50),
    sample("turnout-all", 1, 5_000, 100),
    # The machine was busy with another program in this repeat, for both routers.
    sample("nginx", 2, 2_000, 60),
    sample("turnout-all", 2, 1_000, 120, failed=1),
    sample("nginx", 3, 12_000, 40),
    sample("turnout-all", 3, 7_200, 50),
]


def test_a_figure_is_the_median_of_its_column_with_minimum_and_maximum() -> None:
    found = row("nginx", SAMPLES).figures
    assert found["rate"] == Range(10_000, 2_000, 12_000)
    assert found["p50_ms"].median == 2.0
    assert [*found["cpu_us"]] == pytest.approx([50, 40, 60])


def test_a_wrong_answer_in_any_repeat_is_counted() -> None:
    assert row("turnout-all", SAMPLES).wrong == 1
    assert row("nginx", SAMPLES).wrong == 0


def test_a_ratio_is_taken_within_repeats_and_then_its_median() -> None:
    assert ratio("rate", "turnout-all", "nginx", SAMPLES) == pytest.approx(0.5)
    assert ratio("cpu_us", "turnout-all", "nginx", SAMPLES) == pytest.approx(2.0)


def test_peers_that_share_no_repeat_have_no_ratio() -> None:
    assert ratio("rate", "turnout-all", "haproxy", SAMPLES) is None


def test_a_chunk_costs_the_streams_cpu_time_and_a_stream_the_growth_of_memory() -> None:
    found = streams("nginx", 1, 12_800, 25.0)
    assert found.chunk_us == pytest.approx(25.0)
    assert found.stream_kb == pytest.approx(20.0)


def test_time_of_other_programs_on_a_core_is_foreign_and_the_busier_core_counts() -> None:
    # 0.2 s of the router's core and 0.1 s of the other, of 2 s.
    assert sample("nginx", 1, 10_000, 50).foreign_share == pytest.approx(0.1)


def test_a_direct_run_leaves_the_routers_core_to_others() -> None:
    assert sample("direct", 1, 20_000, 20).foreign_share == pytest.approx((0.8 + 0.2) / 2)


def test_the_json_holds_medians_by_case_and_every_sample() -> None:
    found = json.loads(json.dumps(as_json({"cores": "2"}, {"nginx": "1.22"}, {"smg": "gone"}, SAMPLES)))
    assert [*found["cases"]["1k"]] == ["direct", "nginx", "turnout-all"]
    assert found["cases"]["1k"]["nginx"]["rate"] == {"median": 10_000, "least": 2_000, "most": 12_000}
    assert len(found["samples"]) == len(SAMPLES)
    assert (found["left_out"], found["machine"]) == ({"smg": "gone"}, {"cores": "2"})
