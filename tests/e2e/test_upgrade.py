"""The upgrade under load, and what a new replica knows before its first request: real Redis, HAProxy and processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests import redis_server
from loadtests.upgrade import haproxy
from loadtests.upgrade.__main__ import run
from loadtests.upgrade.fleet import Plan
from loadtests.upgrade.load import Mix
from loadtests.upgrade.report import table
from loadtests.upgrade.roll import Times
from tests.fakes.gateway_process import GatewayProcess, config, pool
from tests.fakes.raw_http_client import Wire, endless, post
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import wait_for

CI = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(redis_server.program() is None and not CI, reason="no redis-server here; CI fails without it"),
]

HELD = (0, 6, 12, 18)
"""Streams that the old replica holds on each pod."""


@pytest.mark.skipif(haproxy.program() is None and not CI, reason="no haproxy here; CI fails without it")
def test_rolling_every_replica_twice_under_load_loses_nothing(tmp_path: Path) -> None:
    assert haproxy.program() is not None, "no haproxy"
    said: list[str] = []
    found = run(Plan(python=python_under_test()), Mix(), Times(), tmp_path, said.append)
    print(table({"shared state": found}))  # noqa: T201  -rP shows it
    assert (found.failed, found.truncated, found.faults) == (0, 0, {}), said
    assert found.requests >= 20_000
    assert found.spanning >= 200
    assert found.cut == 0, "a retired replica did not end by itself, or not well"
    before, after = found.acts["before"].hit_rate, found.acts["after"].hit_rate
    assert before > 0.75
    assert after > before - 0.01, "the upgrade lost what was learned"
    # Whatever a process that starts beside them costs on a small machine, it costs new and other replicas alike.
    assert found.newcomers_hit_rate > found.residents_hit_rate - 0.03, "new replicas had to learn"
    # Both sides move while they are read; the other test of this file reads them while they stand still.
    assert min(found.seen_share) > 0.8, found.seen_share


@pytest.fixture
def four(tmp_path: Path) -> Iterator[SimPods]:
    """Pods of ten tokens a second."""
    with sim_pods(4, tmp_path / "pods.log", "--profile", "paced") as pods:
        yield pods


@pytest.fixture
def late(tmp_path: Path) -> Iterator[SimPods]:
    """A pod of another pool."""
    with sim_pods(1, tmp_path / "late.log", "--model", "late-model") as pods:
        yield pods


def test_a_new_replica_knows_the_true_load_before_it_is_ready_and_its_first_picks_use_it(
    four: SimPods, late: SimPods, tmp_path: Path
) -> None:
    """Its readiness waits for a pod of another pool, so that there is time to ask it what it knows."""
    server = redis_server.RedisServer(tmp_path)
    with ExitStack() as stack:
        stack.callback(server.stop)
        pools = [pool("default", four.urls), pool("late", late.urls)]
        shared = config((), pools=pools, state=server.url, warmup_timeout_s=60.0)
        old = GatewayProcess(shared | {"replica": "old"}, tmp_path / "old")
        stack.callback(old.kill)
        old.wait_until_ready()
        for address, count in zip(four.addresses, HELD, strict=True):
            hold(stack, old, four, address, count)

        late.fault(late.addresses[0], "http_503", scope="all")
        new = GatewayProcess(shared | {"replica": "new"}, tmp_path / "new")
        stack.callback(new.kill)
        truth = dict(zip(four.addresses, HELD, strict=True))
        wait_for("it knows", lambda: {pod: count for pod, count in view(new).items() if pod in truth} == truth)
        assert new.control.get("/readyz").json() == {"status": "warming", "cold": False}
        assert view(old) == view(new)
        late.well()
        new.wait_until_ready()
        assert not new.control.get("/readyz").json()["cold"]

        picked = [stream(stack, new) for _ in range(HELD[1])]
        assert set(picked) == {four.addresses[0]}, "the idle pod was to get them all"
        assert [four.state(pod)["open_requests"] for pod in four.addresses] == [6, 6, 12, 18]


def hold(stack: ExitStack, gateway: GatewayProcess, pods: SimPods, address: str, count: int) -> None:
    """Open so many streams on that pod, by draining all others meanwhile."""
    others = [each for each in pods.addresses if each != address]
    for each in others:
        assert gateway.control.post(f"/admin/pods/{each}/drain").status_code == 200
    assert {stream(stack, gateway) for _ in range(count)} <= {address}
    for each in others:
        assert gateway.control.delete(f"/admin/pods/{each}/drain").status_code == 200


def stream(stack: ExitStack, gateway: GatewayProcess) -> str:
    """Open a stream that lasts; the pod it went to."""
    wire = stack.enter_context(Wire("127.0.0.1", gateway.port))
    wire.send(post(endless()))
    head = wire.some().decode("latin-1")
    return head.partition("x-turnout-pod: ")[2].partition("\r\n")[0]


def view(gateway: GatewayProcess) -> dict[str, int]:
    """In flight by pod over all replicas, as this one sees it."""
    return {pod["address"]: pod["inflight"] for pod in gateway.pods()}


def python_under_test() -> str:
    """The Python whose gateway is tested."""
    return os.environ.get("TURNOUT_TESTED_PYTHON", Plan().python)
