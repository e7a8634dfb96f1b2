"""The report in Markdown."""

from __future__ import annotations

from loadtests.bench.load.cases import CASES
from loadtests.bench.routers.markdown import against, case_report, document, verdict
from tests.loadtests.bench.routers.test_samples import SAMPLES, sample, streams

PACED = [streams(peer, 1, 12_800, cost) for peer, cost in (("direct", 20.0), ("nginx", 25.0), ("turnout-all", 30.0))]


def test_a_whole_report_names_all_of_its_parts() -> None:
    text = document(
        {"cpu": "EPYC"}, {"nginx": ("1.22", "the floor")}, {"smg": "gone"}, [*CASES.values()], [*SAMPLES, *PACED]
    )
    for part in ("| cpu ", "EPYC", "| nginx ", "the floor", "Left out: smg: gone", "turnout-all over each"):
        assert part in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles[1:3] == [f"## {CASES['1k'].title}", f"## {CASES['paced-256'].title}"]


def test_it_reports_whether_the_harness_was_the_limit() -> None:
    assert "2.00 x the fastest router: not the bottleneck" in verdict(CASES["1k"], SAMPLES)
    slow = [sample("direct", 1, 9_000, 100), sample("nginx", 1, 10_000, 50)]
    assert "THE BOTTLENECK" in verdict(CASES["1k"], slow)


def test_with_paced_streams_it_reports_that_the_harness_sets_the_pace() -> None:
    text = verdict(CASES["paced-256"], PACED)
    assert "hold the pace at 75% of their core, gaps p50 20.0 and p99 25.0 ms" in text


def test_memory_per_stream_is_reported_for_routers_with_many_streams() -> None:
    lines = case_report(CASES["paced-256"], PACED).splitlines()
    cells = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert " 20.0 |" in cells["nginx"]
    assert " 20.0 |" not in cells["direct"].replace("20.0 to", "").replace("20.00", "")
    few = case_report(CASES["stream"], [streams("nginx", 1, 12_800, 25.0, open_streams=32)])
    assert " 20.0 |" not in few


def test_the_summary_compares_with_each_router_and_not_with_direct() -> None:
    pair = [one._replace(peer="turnout-pair") for one in SAMPLES if one.peer == "turnout-all"]
    lines = against("turnout-all", [*SAMPLES, *pair]).splitlines()
    assert "turnout" not in lines[2]
    assert against("turnout-pair", [*SAMPLES, *pair]).splitlines()[4] == lines[4]
    assert lines[2].split("|")[2].strip() == "nginx"
    assert "direct" not in lines[2]
    assert lines[4].split("|")[1:3] == [" CPU a request, 1.2 KB ", "  2.00 "]
