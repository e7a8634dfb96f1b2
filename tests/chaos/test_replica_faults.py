"""A replica dies or is stopped while all are loaded: the others lose no request and no longer count its load."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from time import perf_counter

import pytest

from tests.fakes.replica_fleet import MIX, SHORT_LEASE, Loading, Property, faults, ground, needs_redis, say
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.realtime, needs_redis]

LONG = dataclasses.replace(MIX, long_tokens=700)
"""Streams of fourteen seconds, so that some outlast the fault."""


def test_only_the_requests_of_a_killed_replica_are_lost(tmp_path: Path, record_property: Property) -> None:
    with ground(tmp_path, 3, sync=SHORT_LEASE) as fleet:
        with Loading(fleet.gateways, LONG) as load:
            load.steady()
            load.no_more("replica-2")
            fleet.kill("replica-2")
            killed = perf_counter()
            fleet.wait_until_seen(fleet.live())
            say(record_property, "from kill -9 to its share being gone everywhere, s", perf_counter() - killed)
            load.flow(2.0, *fleet.live())
            load.no_more(*fleet.live())
            streams = sum(load.by_replica[name].open["long"] for name in fleet.live())
            wait_for("only streams are left", lambda: sum(fleet.truth().values()) <= streams)
            assert streams, "no stream outlasted the kill"
            fleet.wait_until_all_agree()
        lost = [record for record in load.by_replica["replica-2"].records if record.fault]
        say(record_property, "requests lost with the replica", len(lost))
        assert lost, "it had streams open"
        assert all(record.started_at < killed for record in lost), "only streams that were open on it"
        assert faults([r for name in fleet.live() for r in load.by_replica[name].records]) == []


def test_a_stopped_replica_is_no_longer_counted_and_recovers(tmp_path: Path) -> None:
    """The clients of the stopped replica wait and get their answers in the end."""
    with ground(tmp_path, 3, sync=SHORT_LEASE) as fleet:
        with Loading(fleet.gateways, LONG) as load:
            load.steady()
            others = fleet.live() - {"replica-2"}
            fleet.gateways["replica-2"].signal(signal.SIGSTOP)
            try:
                fleet.wait_until_seen(others)
                load.flow(2.0, *others)
            finally:
                fleet.gateways["replica-2"].signal(signal.SIGCONT)
            fleet.wait_until_seen(fleet.live())
            load.flow(2.0)
            load.no_more(*fleet.live())
            fleet.wait_until_all_agree()
        assert faults(load.records) == []
