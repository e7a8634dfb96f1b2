"""The rows of the console's live state."""

from __future__ import annotations

import dataclasses

import msgspec

from router.access.limits import LimitRegistry
from router.access.tenants import Tenant
from router.control import live_rows
from router.control.live_rows import POD_FIELDS
from router.control.plane import DRAINING
from router.settings import TenantSettings
from router.telemetry.metrics import Metrics
from schedulers.types import PodId
from statesync.types import EngineReport
from tests.fakes.control_port import OTHER_POD, POD, Replica


def rows(replica: Replica) -> dict[object, dict[str, object]]:
    counts = live_rows.request_counts(replica.metrics)
    found = live_rows.rows_of(replica.view.statuses(), replica.accuracy.pods, counts)
    return {row[0]: dict(zip(POD_FIELDS, row, strict=True)) for row in found}


def test_a_pod_has_its_load_its_health_and_the_tokens_that_its_engine_found() -> None:
    replica = Replica()
    replica.busy()
    assert replica.accuracy.pods[POD].reported == (0, 0)
    replica.accuracy.on_report(POD, EngineReport(prefix_queries_tokens=100, prefix_hits_tokens=60))
    replica.view.block(OTHER_POD, "probe")
    first, second = rows(replica).values()
    assert (first["state"], first["inflight"], first["queued"], first["kv_usage"]) == ("ok", 1, 3, 0.5)
    assert (first["looked_up"], first["found"]) == (100, 60)
    assert (second["state"], second["why"]) == ("out", "probe")
    replica.view.block(OTHER_POD, DRAINING)
    assert rows(replica)[OTHER_POD]["state"] == "draining"


def test_requests_are_counted_by_pod_and_by_pool_with_those_of_pods_that_are_gone() -> None:
    metrics = Metrics()
    for pod, status in ((POD, 200), (POD, 502), (OTHER_POD, 200), ("", 429)):
        metrics.count_request("default", "p2c", pod, status)
    metrics.forget_pods([OTHER_POD])
    counts = live_rows.request_counts(metrics)
    assert counts.by_pod["default", POD] == (2, 1)
    assert counts.by_pool == {"default": (4, 1)}


def test_a_pool_has_its_pods_its_policy_and_its_figures() -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")
    replica.metrics.pool("default").ttft.observe(0.05)
    replica.metrics.count_rejection("default", "overloaded")
    counts = live_rows.request_counts(replica.metrics)
    (pool,) = live_rows.pools(replica.plane, live_rows.rows_of(replica.view.statuses(), {}, counts), counts)
    assert {name: pool[name] for name in ("pods", "well", "inflight", "refused")} == {
        **{"pods": 2, "well": 1},
        **{"inflight": 1, "refused": 1},
    }
    assert (pool["policy"], pool["generation"]) == ("p2c", 0)
    assert isinstance(ttft := pool["ttft"], list)
    assert ttft[-1] == 1


def test_tenants_show_what_they_used_and_what_is_left_of_their_limits() -> None:
    replica = Replica()
    tenants = [TenantSettings(name="search"), TenantSettings(name="quiet")]
    limited = [Tenant("search", requests_per_minute=60, tokens_per_minute=1000, max_inflight=4)]
    limits = LimitRegistry(limited, replica.clock, shared=False)
    charge = limits.charge(limited[0], "", "m")
    assert charge is not None
    charge.take(100, 20, replica.now)
    replica.metrics.tenants.ended("search", 200, 100, 5)
    replica.metrics.tenants.ended("search", 502)
    replica.metrics.tenants.refused("search", "rate_limit_exceeded")
    plane = dataclasses.replace(
        replica.plane,
        settings=msgspec.structs.replace(replica.plane.settings, tenants=tenants),
        live=dataclasses.replace(replica.plane.live, limits=limits),
    )
    search, quiet = live_rows.tenants(plane)
    assert [search[name] for name in ("requests", "failed", "refused", "tokens")] == [2, 1, 1, 105]
    left = {each["kind"]: (each["most"], each["left"]) for each in search["limits"]}  # type: ignore[attr-defined]
    assert left == {"requests": (60, 59), "tokens": (1000, 880), "slots": (4, 3)}
    assert (quiet["requests"], quiet["limits"]) == (0, [])


def test_a_pod_that_no_request_has_met_has_no_hits() -> None:
    assert rows(Replica())[PodId(POD)]["looked_up"] == 0
