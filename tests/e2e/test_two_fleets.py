"""Case I 50: two fleets in one database and namespace by mistake, with real Redis, one fleet behind a slow link."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.processes.slow_link import slow_link
from tests.fakes.gateway_process import PATIENT_SYNC, GatewayProcess, config, starting
from tests.fakes.many_pods import many_pods
from tests.fakes.redis_server import redis_server
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

SYNC = PATIENT_SYNC | {"lease_s": 5.0}
"""Two leases until another fleet is named."""


def scraped(*gateways: GatewayProcess) -> list[int]:
    """Engines that each reads."""
    return [int(gateway.metric("turnout_pods_scraped")) for gateway in gateways]


def strangers(*gateways: GatewayProcess) -> list[int]:
    return [int(gateway.metric("turnout_state_strangers")) for gateway in gateways]


def said(gateway: GatewayProcess) -> list[str]:
    """The errors of its log."""
    return [str(line["msg"]) for line in gateway.lines() if line.get("level") == "error"]


def test_each_fleet_reads_its_own_engines_and_both_say_loudly_that_they_meet(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server, pods = stack.enter_context(redis_server()), stack.enter_context(many_pods(24))
        link = stack.enter_context(slow_link(server.port))
        link.delay_s = 0.02

        def start(name: str, urls: list[str], port: int) -> GatewayProcess:
            given = config(urls, state=f"redis://127.0.0.1:{port}", replica=name, sync=SYNC)
            gateway = stack.enter_context(starting(given, tmp_path / name))
            gateway.wait_until_ready()
            return gateway

        blue = start("blue-1", pods.urls[:12], server.port)
        green = start("green-1", pods.urls[12:], link.port)
        wait_for("each reads all of its engines", lambda: scraped(blue, green) == [12, 12])
        wait_for("each knows of the other fleet", lambda: strangers(blue, green) == [1, 1])
        for gateway, other in ((blue, "green-1"), (green, "blue-1")):
            assert gateway.control.get("/admin/state").json()["state"]["strangers"] == 1
            errors = said(gateway)
            assert errors
            for part in (other, "namespace turnout", "pool default has 12 pods here", "policy", "sync.namespace"):
                # On a busy machine the other one's lease may expire: they meet again, and it is said again.
                assert all(part in error for error in errors)
        second = start("blue-2", pods.urls[:12], server.port)
        wait_for("blue's replicas divide blue's engines", lambda: 0 < scraped(second)[0] < 12)
        wait_for("and nothing is read twice", lambda: sum(scraped(blue, second)) == 12)
        wait_for("green's are green's", lambda: scraped(green) == [12])
        wait_for("all of one fleet are named", lambda: strangers(blue, green, second) == [1, 2, 1])


def test_replicas_of_one_fleet_whose_discovery_differs_a_little_are_no_strangers(tmp_path: Path) -> None:
    """And an engine that only one of them has found is read by that one."""
    with ExitStack() as stack:
        server, pods = stack.enter_context(redis_server()), stack.enter_context(many_pods(12))
        both = []
        for name, urls in (("one", pods.urls), ("two", pods.urls[:6])):
            given = config(urls, state=f"redis://127.0.0.1:{server.port}", replica=name, sync=SYNC)
            both.append(stack.enter_context(starting(given, tmp_path / name)))
        for gateway in both:
            gateway.wait_until_ready()
        wait_for("each engine is read once", lambda: sum(scraped(*both)) == 12 and scraped(both[0])[0] >= 6)
        assert strangers(*both) == [0, 0]
        assert said(both[0]) == said(both[1]) == []
