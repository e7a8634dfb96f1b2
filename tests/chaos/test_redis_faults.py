"""Redis dies, hangs or is slow while replicas are loaded: no request may fail or be delayed."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from tests.fakes.gateway_process import PATIENT_SYNC
from tests.fakes.replica_fleet import Loading, Property, cpu_s, faults, ground, needs_redis, p99_s, say
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.realtime, needs_redis]

HANG_S = 8.0
QUICK = PATIENT_SYNC | {"timeout_s": 1.0, "lease_s": 3.0}
"""Timeouts that pass several times while Redis hangs."""


def test_redis_killed_and_restarted_empty_loses_no_request_and_gets_the_replicas_state_back(
    tmp_path: Path,
) -> None:
    with ground(tmp_path) as fleet:
        fleet.use("p2c")
        with Loading(fleet.gateways) as load:
            load.steady()
            fleet.redis.restart_empty()
            wait_for("the replicas have leases again", lambda: fleet.leases() == fleet.live())
            load.flow(2.0)
            load.no_more(*fleet.live())
            fleet.wait_until_all_agree()
        assert faults(load.records) == []
        assert fleet.policy("replica-0") == fleet.policy("replica-1") == ("p2c", 1)
        newcomer = fleet.add("replica-new")
        newcomer.wait_until_ready()
        assert fleet.policy("replica-new") == ("p2c", 1), "the policy was not written to the new Redis"


def test_a_redis_that_hangs_fails_no_request_and_adds_no_latency(tmp_path: Path, record_property: Property) -> None:
    with ground(tmp_path, sync=QUICK) as fleet, Loading(fleet.gateways) as load:
        load.steady()
        calm = perf_counter()
        load.flow(HANG_S)
        fleet.redis.pause()
        hung, spent = perf_counter(), cpu_s(fleet)
        try:
            load.flow(HANG_S)
            assert {fleet.gateways[name].control.get("/readyz").status_code for name in fleet.live()} == {200}
        finally:
            fleet.redis.resume()
        woken, spent = perf_counter(), cpu_s(fleet) - spent
        fleet.wait_until_seen(fleet.live())
        load.flow(2.0)
        before_s, during_s = p99_s(load.records, calm, hung), p99_s(load.records, hung, woken)
        say(record_property, "first byte p99 before Redis hangs, s", before_s)
        say(record_property, "first byte p99 while Redis hangs, s", during_s)
        say(record_property, "cores used by replicas while Redis hangs", spent / (woken - hung))
        load.no_more(*fleet.live())
        fleet.wait_until_all_agree()
    assert faults(load.records) == []


def test_a_slow_redis_fails_no_request_and_the_views_still_agree(tmp_path: Path, record_property: Property) -> None:
    """Each reply takes 100 ms: updates are published less often, and no backlog grows."""
    with ground(tmp_path, slowed=True) as fleet, Loading(fleet.gateways) as load:
        link = fleet.slow
        assert link is not None
        load.steady()
        calm = perf_counter()
        load.flow(3.0)
        slow, held = perf_counter(), link.held
        link.delay_s = 0.1
        load.flow(6.0)
        over = perf_counter()
        say(record_property, "replies held back a second", (link.held - held) / (over - slow))
        say(record_property, "first byte p99 before, s", p99_s(load.records, calm, slow))
        say(record_property, "first byte p99 while Redis is slow, s", p99_s(load.records, slow, over))
        assert all(fleet.sees(name) == fleet.live() for name in fleet.live())
        load.no_more(*fleet.live())
        fleet.wait_until_all_agree()
        link.delay_s = 0.0
    assert faults(load.records) == []
