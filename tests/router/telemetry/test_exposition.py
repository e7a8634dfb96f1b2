"""The text that Prometheus reads, against prometheus_client's own writer and parser."""

from __future__ import annotations

import asyncio

from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.telemetry.exposition import PIECE_SAMPLES, Exposition
from router.telemetry.metrics import Metrics
from tests.fakes.each_case import each_case
from tests.fakes.fixed_readings import readings

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def counted() -> Metrics:
    metrics = Metrics()
    metrics.count_request("default", "p2c", '10.0.0.1:8000"\\\n', 200)
    metrics.count_request("default", "p2c", "10.0.0.2:8000", 200)
    metrics.requests["default", "p2c", "10.0.0.2:8000", 503] = 12_345_678
    metrics.count_retry("default", "connect")
    metrics.client_disconnects = 4
    for value in (0.0005, 0.02, 3.0, 1e9):
        metrics.pool("default").ttft.observe(value)
    metrics.pool("default").ttft.mark(0.02, "ab" * 16, 1_700_000_000.25)
    return metrics


def render(exposition: Exposition, accept: str) -> str:
    return asyncio.run(exposition.render(accept))[0].decode()


def gateway_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "turnout_" in line]


@each_case("accept", [TEXT, OPENMETRICS])
@each_case("count", [0, 3, PIECE_SAMPLES, 2 * PIECE_SAMPLES + 1])
def test_the_piecewise_text_is_byte_for_byte_what_prometheus_client_writes(accept: str, count: int) -> None:
    exposition = Exposition(counted(), readings(count))
    theirs = choose_encoder(accept)[0](exposition.registry).decode()
    assert gateway_lines(render(exposition, accept)) == gateway_lines(theirs)


def test_both_formats_parse_and_openmetrics_ends_with_its_mark() -> None:
    exposition = Exposition(counted(), readings(3))
    text, openmetrics = render(exposition, TEXT), render(exposition, OPENMETRICS)
    assert openmetrics.endswith("# EOF\n")
    assert openmetrics.count("# EOF") == 1
    for families in (list(parse_text(text)), list(parse_openmetrics(openmetrics))):  # type: ignore[no-untyped-call]
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        assert {"turnout_requests", "turnout_inflight_requests", "process_cpu_seconds"} <= set(names)


def test_the_content_type_follows_the_accept_header() -> None:
    exposition = Exposition(counted(), readings(1))
    assert asyncio.run(exposition.render(OPENMETRICS))[1].startswith("application/openmetrics-text; version=1.0.0")
    assert asyncio.run(exposition.render(""))[1].startswith("text/plain; version=0.0.4")


def test_values_have_the_metric_names_that_dashboards_use() -> None:
    families = parse_text(render(Exposition(counted(), readings(2)), TEXT))
    found = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
    pod = (("pod", "10.0.0.1:8000"), ("pool", "default"))
    request = (("pod", "10.0.0.2:8000"), ("policy", "p2c"), ("pool", "default"), ("status", "503"))
    assert found["turnout_requests_total", request] == 12_345_678
    assert found["turnout_inflight_requests", pod] == 2
    assert found["turnout_queued_requests", pod] == 1
    assert found["turnout_running_requests", pod] == 2
    assert found["turnout_kv_usage_ratio", pod] == 0.25
    assert found["turnout_pod_routable", pod] == 0
    assert found["turnout_retries_total", (("pool", "default"), ("reason", "connect"))] == 1
    assert found["turnout_time_to_first_token_seconds_count", (("pool", "default"),)] == 4
    assert found["turnout_time_to_first_token_seconds_bucket", (("le", "0.02"), ("pool", "default"))] == 2
    assert found["turnout_view_age_seconds", ()] == 0.5
    assert found["turnout_phase", (("phase", "ready"),)] == 1
    assert found["turnout_phase", (("phase", "draining"),)] == 0
    assert found["turnout_phase_seconds", (("phase", "ready"),)] == 60
    assert (found["turnout_active_requests", ()], found["turnout_pods_scraped", ()]) == (3, 4)
    assert (found["turnout_state_connected", ()], found["turnout_state_warm", ()]) == (1, 1)
    assert found["turnout_state_round_trips_total", ()] == 500
    assert found["turnout_state_sent_bytes_total", ()] == 7_000_000
    assert found["turnout_state_lease_losses_total", ()] == 1
    assert found["turnout_unseen_requests", (("pool", "default"),)] == 1.5
    assert found["turnout_client_disconnects_total", ()] == 4
    assert found["turnout_policy_generation", (("policy", "p2c"), ("pool", "default"))] == 3
    assert found["turnout_policy_digest", (("pool", "default"),)] == 271828182845904, "every digit"
    assert found["turnout_policy_local", (("pool", "default"),)] == 0
    assert found["turnout_build_info", (("replica", "r-1"), ("version", "1.2.3"))] == 1


def test_other_tasks_run_between_two_pieces_and_may_count() -> None:
    metrics = counted()
    exposition = Exposition(metrics, readings(10 * PIECE_SAMPLES))
    turns = 0

    async def run() -> None:
        nonlocal turns
        rendering = asyncio.get_running_loop().create_task(exposition.render(TEXT))
        while not rendering.done():
            metrics.count_request("default", "p2c", f"new-{turns}", 200)
            turns += 1
            await asyncio.sleep(0)
        await rendering

    asyncio.run(run())
    pod_gauges = 7
    assert turns > 10 * pod_gauges


def test_only_openmetrics_shows_the_trace_of_a_bucket() -> None:
    exposition = Exposition(counted(), readings(1))
    shown = ' # {trace_id="' + "ab" * 16 + '"} 0.02 1700000000.25'
    assert shown in render(exposition, OPENMETRICS)
    assert "trace_id" not in render(exposition, TEXT)
